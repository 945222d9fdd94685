"use strict";

// Everything the page is made of hangs on this one object; the files follow each other in one script.
const lenet = {};

/* Model files of lenet: safetensors, a header of JSON and then the numbers. */
(() => {
  const MAX_BYTES = 64 * 2 ** 20; // as lenet.checkpoint

  /** Return the bytes that a string of base64 stands for. */
  function fromBase64(text) {
    const binary = atob(text.trim());
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
    return bytes;
  }

  /** Return base64 of the bytes of a typed array. */
  function toBase64(array) {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    let binary = "";
    for (let i = 0; i < bytes.length; i += 8192) {
      binary += String.fromCharCode(...bytes.subarray(i, i + 8192));
    }
    return btoa(binary);
  }

  /**
   * Read a model file.
   * Returns {card, tensors}: what the file says about itself, and by name {shape, data}, float32.
   * Throws an Error whose message is for a person to read.
   */
  function readModelFile(bytes) {
    const refuse = (why) => {
      throw new Error(`not a model file of lenet: ${why}`);
    };
    if (bytes.length > MAX_BYTES) refuse("too large");
    if (bytes.length < 8) refuse("too short");
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const length = view.getUint32(0, true);
    if (view.getUint32(4, true) !== 0 || 8 + length > bytes.length) refuse("no safetensors header");
    let header;
    let card;
    try {
      header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
      card = JSON.parse(header.__metadata__.lenet);
    } catch {
      refuse("its header can't be read");
    }
    if (card.format !== 1) refuse(`format ${card.format}, expected 1`);
    const tensors = {};
    for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      const count = shape.reduce((product, side) => product * side, 1);
      const [start, end] = offsets.map((offset) => 8 + length + offset);
      if (dtype !== "F32" || end - start !== 4 * count || end > bytes.length) refuse(`tensor ${name}`);
      const data = new Float32Array(count);
      for (let i = 0; i < count; i++) data[i] = view.getFloat32(start + 4 * i, true);
      if (!data.every(Number.isFinite)) refuse(`tensor ${name} has values that are no numbers`);
      tensors[name] = { shape, data };
    }
    return { card, tensors };
  }

  /** Return a model file: `tensors` holds by name a shape and its float32 values. */
  function writeModelFile(card, tensors) {
    const header = { __metadata__: { lenet: JSON.stringify(card) } };
    let end = 0;
    for (const [name, [shape, data]] of Object.entries(tensors)) {
      header[name] = { dtype: "F32", shape, data_offsets: [end, (end += data.byteLength)] };
    }
    const text = new TextEncoder().encode(JSON.stringify(header));
    const length = 8 * Math.ceil(text.length / 8); // the values begin at a multiple of eight
    const bytes = new Uint8Array(8 + length + end).fill(0x20, 8, 8 + length);
    new DataView(bytes.buffer).setUint32(0, length, true);
    bytes.set(text, 8);
    let place = 8 + length;
    for (const [, data] of Object.values(tensors)) {
      bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), place);
      place += data.byteLength;
    }
    return bytes;
  }

  Object.assign(lenet, { fromBase64, toBase64, readModelFile, writeModelFile });
})();
