/* From a picture to a 28 x 28 digit the way MNIST was made, step by step, as reading/normalize.py. */
(() => {
  const BOX = 20;
  const MIN_SIGMAS = 6;
  const MIN_SIZE = 0.04; // of a digit, as a share of the picture's longer side; smaller is a speck
  const ASIDE = 0.12; // what lies within such shares of the sides is what is left of lines or a table
  const [MAX_REACH, MIN_GAP] = [0.85, 0.08]; // within which pieces are joined, as such shares
  const MIDDLE = 14.5; // where the centre of mass lies from the top and the left, as in MNIST
  const THIN = 2.2; // strokes thinner than this many pixels of the box are thickened to it
  const FINE = 3; // subpixels along each side of a pixel while a digit is fitted into its box
  const { SIDE, MIN_CONTRAST, dilate, enlarge, enlargement, grey, labelRegions, median, quantile, rint } = lenet;

  /** Return the mask of the digit's pixels; empty where there is no digit. */
  function pickDigit(ink) {
    const given = ink.strength;
    // Limits in pixels decide what is a stroke, a line or a speck.
    const scale = enlargement(given);
    const strength = enlarge(given, scale);
    const { width, height } = strength;
    for (let again = 0; again < 4; again++) {
      const peak = strongest(strength.data.filter((_, i) => i % scale === 0 && Math.floor(i / width) % scale === 0));
      if (peak < Math.max(MIN_CONTRAST, MIN_SIGMAS * ink.noise)) break;
      const limit = Math.fround(Math.max(0.3 * peak, 2.5 * ink.noise));
      const mask = lenet.removeLines(Uint8Array.from(strength.data, (v) => (v > limit ? 1 : 0)), width, height);
      const { labels, regions } = labelRegions(mask, strength);
      const foreign = lenet.findForeign(regions, labels, width, height, ink.isFlat);
      const others = regions.filter((r) => !foreign.has(r.label));
      const [top, left] = [height, width].map((side) => Math.trunc(ASIDE * side));
      const inside = new Set();
      for (let y = top; y < height - top; y++) {
        for (let x = left; x < width - left; x++) inside.add(labels[y * width + x]);
      }
      const strong = others.filter(
        (r) =>
          r.peak >= 0.5 * peak && r.area >= 4 * scale ** 2 &&
          r.size >= MIN_SIZE * Math.max(width, height) && inside.has(r.label),
      );
      if (strong.length) {
        const taken = maskOf(labels, join(strong, others, width, height));
        const found = new Uint8Array(given.data.length);
        taken.forEach((is, i) => {
          const [y, x] = [Math.floor(i / width / scale), Math.floor((i % width) / scale)];
          if (is) found[y * given.width + x] = 1;
        });
        return found;
      }
      // Only frames, corners and specks are this strong: look for something fainter.
      const gone = maskOf(labels, regions.filter((r) => r.peak >= 0.5 * peak));
      const near = dilate(grey(width, height, new Float32Array(gone)), 2 * scale);
      near.data.forEach((value, i) => {
        if (value > 0) strength.data[i] = 0;
      });
    }
    return new Uint8Array(given.data.length);
  }

  /** Return the field of a line of several digits, as `lineField`; null where there is none. */
  function findLine({ strength, noise }) {
    const { width, height } = strength;
    const peak = strongest(strength.data);
    if (peak < Math.max(MIN_CONTRAST, MIN_SIGMAS * noise)) return null;
    const limit = Math.max(0.3 * peak, 2.5 * noise);
    const inked = Uint8Array.from(strength.data, (v) => (v > limit ? 1 : 0));
    const { labels, regions } = labelRegions(lenet.removeLines(inked, width, height), strength);
    const foreign = lenet.findForeign(regions, labels, width, height, true);
    const kept = regions.filter((r) => !foreign.has(r.label) && r.peak >= 0.4 * peak && r.area >= 4);
    return kept.length ? lenet.lineField(strength, maskOf(labels, kept), kept) : null;
  }

  /** Return the mask of regions. */
  function maskOf(labels, regions) {
    const chosen = new Set(regions.map((r) => r.label));
    const mask = new Uint8Array(labels.length);
    for (let i = 0; i < mask.length; i++) mask[i] = labels[i] && chosen.has(labels[i]) ? 1 : 0;
    return mask;
  }

  /** Return the strength of a stroke's middle: the median of the strongest few pixels. */
  function strongest(values) {
    const count = Math.max(4, Math.floor(values.length / 20000));
    return median(new Float32Array(values).sort().subarray(-count));
  }

  /** Take the heaviest region and, again and again, what lies near enough to be part of it. */
  function join(strong, others, width, height) {
    const touchesEdge = (r) => r.top === 0 || r.left === 0 || r.bottom === height || r.right === width;
    const heavier = (a, b) => (b.weight > a.weight ? b : a);
    // A neighbour's stroke reaches in from the edge, and is cut off there.
    const whole = strong.filter((r) => !touchesEdge(r));
    const heaviest = strong.reduce(heavier);
    let main = whole.length ? whole.reduce(heavier) : heaviest;
    if (touchesEdge(heaviest) && main.weight < 0.4 * heaviest.weight) main = heaviest;
    const taken = [main];
    let rest = others.filter((r) => r.label !== main.label);
    if (!touchesEdge(main)) rest = rest.filter((r) => !touchesEdge(r));
    const side = Math.max(width, height);
    const reach = Math.max(1.7 * main.size, MAX_REACH * side);
    for (;;) {
      const box = boundingBox(taken);
      const size = Math.max(box.bottom - box.top, box.right - box.left);
      const near = rest.filter((r) => {
        const gap = Math.max(r.top - box.bottom, box.top - r.bottom, r.left - box.right, box.left - r.right);
        const both = boundingBox([...taken, r]);
        return (
          r.weight >= 0.02 * main.weight && gap < Math.max(0.3 * size, MIN_GAP * side) &&
          both.bottom - both.top <= reach && both.right - both.left <= reach
        );
      });
      if (!near.length) return taken;
      taken.push(...near);
      rest = rest.filter((r) => !near.includes(r));
    }
  }

  /** Return the smallest box that holds the regions. */
  function boundingBox(regions) {
    return {
      left: Math.min(...regions.map((r) => r.left)),
      top: Math.min(...regions.map((r) => r.top)),
      right: Math.max(...regions.map((r) => r.right)),
      bottom: Math.max(...regions.map((r) => r.bottom)),
    };
  }

  /** Cut the masked ink out of a box, 1 where it is full. */
  function cutInk(strength, mask, box) {
    const crop = grey(box.right - box.left, box.bottom - box.top);
    const inside = grey(crop.width, crop.height);
    const inks = [];
    for (let y = 0, k = 0; y < crop.height; y++) {
      for (let x = 0; x < crop.width; x++, k++) {
        const i = (y + box.top) * strength.width + x + box.left;
        crop.data[k] = strength.data[i];
        inside.data[k] = mask[i];
        if (mask[i]) inks.push(strength.data[i]);
      }
    }
    const full = quantile(inks, 0.75);
    const near = dilate(inside, 1).data;
    for (let k = 0; k < near.length; k++) {
      crop.data[k] = Math.min(1, Math.max(0, (crop.data[k] / full - 0.15) / 0.7)) * near[k];
    }
    return crop;
  }

  /** Make a digit of MNIST's kind: {image: 28 x 28 bytes, frame: where the 28 x 28 lie in the picture}. */
  function toMnist(strength, mask, box) {
    const crop = cutInk(strength, mask, box);
    const side = BOX * FINE;
    const first = fit(crop, side);
    const stroke = lenet.strokeWidth(first.data.map((v) => (v > 0.5 ? 1 : 0)), first.width, first.height);
    const thicken = Math.max(0, (THIN * FINE - stroke) / 2);
    const fitted = fit(crop, side - 2 * rint(thicken));
    const fine = dilate(pad(fitted, side), thicken);
    const [top, left] = centre(fine);
    const image = new Uint8Array(SIDE * SIDE);
    for (let y = 0; y < SIDE; y++) {
      for (let x = 0; x < SIDE; x++) {
        image[y * SIDE + x] = rint(pixelMean(fine, left + x * FINE, top + y * FINE) * 255);
      }
    }
    const scale = Math.max(crop.width, crop.height) / Math.max(fitted.width, fitted.height);
    const frame = {
      left: box.left + (left - side) * scale,
      top: box.top + (top - side) * scale,
      pixel: FINE * scale,
    };
    return { image, frame };
  }

  /** Resize so that the longer side is `side` pixels, each the mean of what it covers. */
  function fit(ink, side) {
    const scale = side / Math.max(ink.height, ink.width);
    const [width, height] = [ink.width, ink.height].map((n) => Math.max(1, rint(n * scale)));
    const fitted = lenet.resize(ink, width, height, scale < 0.7 ? "box" : "linear");
    // Strokes thinner than a pixel have become faint: full ink is what their middles are.
    const peak = fitted.data.reduce((most, value) => Math.max(most, value), 0);
    const full = median(fitted.data.filter((value) => value > Math.fround(0.5 * peak)));
    return grey(width, height, fitted.data.map((value) => Math.min(Math.fround(value / full), 1)));
  }

  function pad(image, margin) {
    const padded = grey(image.width + 2 * margin, image.height + 2 * margin);
    for (let y = 0; y < image.height; y++) {
      const row = image.data.subarray(y * image.width, (y + 1) * image.width);
      padded.data.set(row, (y + margin) * padded.width + margin);
    }
    return padded;
  }

  /** Return the top and left of 28 x 28 with the centre of mass where MNIST has it, in subpixels. */
  function centre({ width, height, data }) {
    let [mass, down, across] = [0, 0, 0];
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        mass += data[i];
        down += data[i] * y;
        across += data[i] * x;
      }
    }
    return [down, across].map((sum) => Math.max(0, rint(sum / mass + 0.5 - MIDDLE * FINE)));
  }

  function pixelMean({ width, height, data }, left, top) {
    let sum = 0;
    for (let y = top; y < Math.min(height, top + FINE); y++) {
      for (let x = left; x < Math.min(width, left + FINE); x++) sum += data[y * width + x];
    }
    return sum / FINE ** 2;
  }

  /**
   * Make a 28 x 28 digit of a picture of one digit.
   * picture: {width, height, planes: three Float32Array in [0, 1]}.
   * Returns {image: 784 bytes or null where no digit was found, box, frame, isLightOnDark, ink}.
   */
  function normalize(picture) {
    let ink = lenet.findInk(picture);
    const card = lenet.findCard(ink);
    const { left, top } = card || { left: 0, top: 0 };
    if (card) ink = lenet.findInk(cutOut(picture, card));
    const mask = pickDigit(ink);
    const { isLightOnDark } = ink;
    if (!mask.includes(1)) return { image: null, box: null, frame: null, isLightOnDark, ink };
    const found = boundingBox(labelRegions(mask, ink.strength).regions);
    const { image, frame } = toMnist(ink.strength, mask, found);
    const box = {
      left: found.left + left, top: found.top + top, right: found.right + left, bottom: found.bottom + top,
    };
    return {
      image, box, isLightOnDark, ink, frame: { ...frame, left: frame.left + left, top: frame.top + top },
    };
  }

  function cutOut(picture, { left, top, right, bottom }) {
    const [width, height] = [right - left, bottom - top];
    const planes = picture.planes.map((plane) => {
      const part = new Float32Array(width * height);
      for (let y = 0; y < height; y++) {
        const start = (y + top) * picture.width + left;
        part.set(plane.subarray(start, start + width), y * width);
      }
      return part;
    });
    return { width, height, planes };
  }

  Object.assign(lenet, { boundingBox, cutInk, findLine, normalize });
})();
