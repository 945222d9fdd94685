/* A line of digits: the network slides over it (LeCun et al. 1998, section VII), as reading/number.py. */
(() => {
  const { FIELD, grey } = lenet;
  const DIGIT_HEIGHT = 20;
  const MARGIN = 16; // paper at either end: the first window is centred on the first ink
  const STEP = 2;
  const GARBAGE = -1; // the logit of garbage in a line
  const MAX_WINDOWS = 150;

  /**
   * Return a line as the network's field, {width, height: 32, data in [0, 1]}, or null where the
   * ink is not that of several things side by side.
   * strength: of the ink; regions: its pieces; mask: their pixels.
   */
  function lineField(strength, mask, regions) {
    const tallest = Math.max(...regions.map((r) => r.bottom - r.top));
    const digits = regions.filter((r) => r.bottom - r.top > 0.4 * tallest);
    const box = lenet.boundingBox(digits);
    const [width, height] = [box.right - box.left, box.bottom - box.top];
    if ((digits.length < 2 && width <= 1.3 * height) || height > 1.8 * tallest) return null;
    const scale = DIGIT_HEIGHT / lenet.quantile(digits.map((r) => r.bottom - r.top), 0.6);
    const size = [width, height].map((n) => Math.max(1, Math.round(n * scale)));
    const crop = lenet.cutInk(strength, mask, box);
    return centre(lenet.resize(crop, ...size, scale < 0.7 ? "box" : "linear"));
  }

  /** Put a line into a field, with the middle of its ink in the middle. */
  function centre({ width, height, data }) {
    let [mass, down] = [1e-6, 0];
    data.forEach((value, i) => {
      mass += value;
      down += value * Math.floor(i / width);
    });
    const shift = FIELD / 2 - Math.round(down / mass);
    const field = grey(width + 2 * MARGIN + FIELD, FIELD);
    for (let y = 0; y < height; y++) {
      if (y + shift < 0 || y + shift >= FIELD) continue;
      const row = data.subarray(y * width, (y + 1) * width);
      field.data.set(row, (y + shift) * field.width + MARGIN);
    }
    return field;
  }

  /** Return the logits of every window of a field, at every second column. */
  function sweep(network, field) {
    const state = lenet.makeState(network);
    const found = [];
    for (let left = 0; left + FIELD <= field.width; left += STEP) {
      lenet.runField(network, (i) => field.data[Math.floor(i / FIELD) * field.width + left + (i % FIELD)], state);
      found.push(Float32Array.from(state.at(-1)));
    }
    return found;
  }

  /**
   * Read a field: the likeliest class of each window, where equal ones in a row are one digit.
   * Returns {text, share, places, field}: the share is the product over the digits; places are the middles
   * of their windows, in columns of the field. Null where there are not two digits.
   */
  function readField(network, field) {
    if ((field.width - FIELD) / STEP > MAX_WINDOWS) return null;
    const digits = [];
    let last = -1;
    sweep(network, field).forEach((logits, t) => {
      const all = [...logits, GARBAGE];
      const best = all.indexOf(Math.max(...all));
      const sum = all.reduce((total, logit) => total + Math.exp(logit - all[best]), 0);
      const label = best < logits.length ? best : -1;
      if (label >= 0 && label === last) digits.at(-1).seen.push([t, 1 / sum]);
      else if (label >= 0) digits.push({ label, seen: [[t, 1 / sum]] });
      last = label;
    });
    if (digits.length < 2) return null;
    const surest = digits.map(({ seen }) => seen.reduce((a, b) => (b[1] > a[1] ? b : a)));
    return {
      field,
      text: digits.map(({ label }) => network.classes[label]).join(""),
      share: surest.reduce((product, [, share]) => product * share, 1),
      places: surest.map(([t]) => t * STEP + FIELD / 2),
    };
  }

  Object.assign(lenet, { lineField, readField, sweep });
})();
