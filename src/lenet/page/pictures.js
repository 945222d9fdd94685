/* Pictures that are dropped, pasted or opened, as reading/decode.py takes them. */
(() => {
  const MAX_SIDE = 512; // longest side of what is worked on
  const MAX_DECODED = 4096; // longest side of what is held to be made smaller
  const MAX_BYTES = 200e6;

  /** Return {width, height, planes} of ImageData: three Float32Array in [0, 1], or one three times. */
  function toPlanes({ width, height, data }) {
    let isGrey = true;
    for (let k = 0; isGrey && k < data.length; k += 4) {
      isGrey = data[k] === data[k + 1] && data[k] === data[k + 2];
    }
    if (isGrey) {
      const one = new Float32Array(width * height);
      for (let i = 0, k = 0; i < one.length; i++, k += 4) one[i] = data[k] / 255;
      return { width, height, planes: [one, one, one] };
    }
    const planes = [0, 1, 2].map(() => new Float32Array(width * height));
    const [red, green, blue] = planes;
    for (let i = 0, k = 0; i < red.length; i++, k += 4) {
      red[i] = data[k] / 255;
      green[i] = data[k + 1] / 255;
      blue[i] = data[k + 2] / 255;
    }
    return { width, height, planes };
  }

  /** Return the mean of each factor x factor pixels, at the edges of those that are there. */
  function reduce({ width, height, planes }, factor) {
    const [across, down] = [width, height].map((side) => Math.ceil(side / factor));
    const means = planes.map((data) => {
      const result = new Float32Array(across * down);
      for (let y = 0; y < down; y++) {
        for (let x = 0; x < across; x++) {
          const [right, bottom] = [Math.min(width, (x + 1) * factor), Math.min(height, (y + 1) * factor)];
          let [sum, count] = [0, 0];
          for (let v = y * factor; v < bottom; v++) {
            for (let u = x * factor; u < right; u++, count++) sum += data[v * width + u];
          }
          result[y * across + x] = Math.round((sum / count) * 255) / 255;
        }
      }
      return result;
    });
    return { width: across, height: down, planes: means };
  }

  /** Put a drawing with transparency on white, or on black where the drawing itself is light. */
  function onPaper(data) {
    let [weight, light, isOpaque] = [0, 0, true];
    for (let k = 0; k < data.length; k += 4) {
      const alpha = data[k + 3];
      weight += alpha;
      light += (alpha * (data[k] + data[k + 1] + data[k + 2])) / (3 * 255);
      isOpaque &&= alpha === 255;
    }
    if (isOpaque) return;
    const paper = weight > 0 && light > weight / 2 ? 0 : 255;
    for (let k = 0; k < data.length; k++) {
      if (k % 4 === 3) continue;
      const alpha = data[k - (k % 4) + 3] / 255;
      data[k] = data[k] * alpha + paper * (1 - alpha);
    }
  }

  /** Return pixels {width, height, planes} of a decoded picture, at most MAX_SIDE on a side. */
  function readPixels(bitmap) {
    const shrink = Math.min(1, MAX_DECODED / Math.max(bitmap.width, bitmap.height));
    const [width, height] = [bitmap.width, bitmap.height].map((n) => Math.max(1, Math.round(n * shrink)));
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0, width, height);
    const image = context.getImageData(0, 0, width, height);
    onPaper(image.data);
    let pixels = toPlanes(image);
    const factor = Math.floor(Math.max(width, height) / MAX_SIDE);
    if (factor >= 2) pixels = reduce(pixels, factor);
    const longest = Math.max(pixels.width, pixels.height);
    if (longest <= MAX_SIDE) return pixels;
    const sides = [pixels.width, pixels.height].map((n) => Math.max(1, lenet.rint((n * MAX_SIDE) / longest)));
    const planes = pixels.planes.map((data) =>
      lenet
        .resize(lenet.grey(pixels.width, pixels.height, data), ...sides, "box")
        .data.map((value) => Math.round(value * 255) / 255),
    );
    return { width: sides[0], height: sides[1], planes };
  }

  /** Decode a file: {bitmap, pixels}. Throws an Error with a message for a person. */
  async function readPicture(file) {
    if (file.size > MAX_BYTES) throw new Error(`${file.name}: larger than 200 MB`);
    let bitmap;
    try {
      bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    } catch {
      throw new Error(`${file.name || "what was pasted"}: not a picture that this browser can read`);
    }
    return { bitmap, pixels: readPixels(bitmap) };
  }

  /** Call take(file) for a file that is dropped, pasted or chosen, takeSeveral(files) if more are dropped. */
  function watchFiles(take, takeSeveral) {
    const input = lenet.byId("file");
    lenet.byId("open").addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      if (input.files[0]) take(input.files[0]);
      input.value = "";
    });
    document.addEventListener("paste", (event) => {
      const file = event.clipboardData?.files[0];
      if (!file) return;
      event.preventDefault();
      take(file);
    });
    const root = document.documentElement;
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      root.classList.add("dropping");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) root.classList.remove("dropping");
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      root.classList.remove("dropping");
      const { files } = event.dataTransfer;
      if (files.length > 1) takeSeveral(files);
      else if (files[0]) take(files[0]);
    });
  }

  Object.assign(lenet, { readPicture, readPixels, toPlanes, watchFiles });
})();
