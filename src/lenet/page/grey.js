/*
 * Plain operations on grey pictures {width, height, data: Float32Array}, as reading/regions.py and
 * Pillow have them. A test holds the whole way from a picture to 28 x 28 to Python's.
 */
(() => {
  const grey = (width, height, data = new Float32Array(width * height)) => ({ width, height, data });

  // Adding and subtracting 1.5 * 2^52 leaves a whole number, halves rounded to even as Python's.
  const BIG = 6755399441055744;

  /** Round halves to even. */
  const rint = (value) => value + BIG - BIG;

  /** Return the q-th quantile (0 to 1) of values, between two of them a mixture. */
  function quantile(values, q) {
    const sorted = new Float32Array(values).sort();
    const place = q * (sorted.length - 1);
    const low = Math.floor(place);
    const high = Math.min(low + 1, sorted.length - 1);
    return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
  }

  const median = (values) => quantile(values, 0.5);

  const FILTERS = {
    box: { reach: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
    linear: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  };

  /** Return for each output pixel the first input pixel and the weights, as Pillow's resize. */
  function resizeWeights(from, to, filter) {
    const scale = from / to;
    const stretch = Math.max(1, scale);
    const reach = filter.reach * stretch;
    return Array.from({ length: to }, (_, i) => {
      const center = (i + 0.5) * scale;
      const first = Math.max(0, Math.trunc(center - reach + 0.5));
      const last = Math.min(from, Math.trunc(center + reach + 0.5));
      const weights = [];
      for (let x = first; x < last; x++) weights.push(filter.weight((x - center + 0.5) / stretch));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      return { first, weights: weights.map((weight) => weight / total) };
    });
  }

  /** Resize to width x height; kind: "box" or "linear". */
  function resize(image, width, height, kind) {
    if (image.width === width && image.height === height) return image;
    const across = resizeWeights(image.width, width, FILTERS[kind]);
    const down = resizeWeights(image.height, height, FILTERS[kind]);
    const half = new Float32Array(width * image.height);
    for (let x = 0; x < width; x++) {
      const { first, weights } = across[x];
      for (let y = 0; y < image.height; y++) {
        let sum = 0;
        const start = y * image.width + first;
        for (let k = 0; k < weights.length; k++) sum += image.data[start + k] * weights[k];
        half[y * width + x] = sum;
      }
    }
    const result = grey(width, height);
    for (let y = 0; y < height; y++) {
      const { first, weights } = down[y];
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += half[(first + k) * width + x] * weights[k];
        result.data[y * width + x] = sum;
      }
    }
    return result;
  }

  /** Repeat each pixel `scale` times down and across. */
  function enlarge({ width, height, data }, scale) {
    const result = grey(scale * width, scale * height);
    for (let y = 0, i = 0; y < result.height; y++) {
      for (let x = 0; x < result.width; x++, i++) {
        result.data[i] = data[Math.floor(y / scale) * width + Math.floor(x / scale)];
      }
    }
    return result;
  }

  /** Return the mean over (2 radius + 1)^2 pixels; at an edge, over those that are there. */
  function boxMean(image, radius) {
    const { width, height } = image;
    let data = image.data;
    // First down the columns, then along the rows, each rounded to float32.
    for (const [length, step, others, stride] of [
      [height, width, width, 1],
      [width, 1, height, width],
    ]) {
      const next = new Float32Array(data.length);
      const sums = new Float64Array(length + 1);
      for (let other = 0; other < others; other++) {
        const base = other * stride;
        for (let i = 0; i < length; i++) sums[i + 1] = sums[i] + data[base + i * step];
        for (let i = 0; i < length; i++) {
          const high = Math.min(i + radius + 1, length);
          const low = Math.max(i - radius, 0);
          next[base + i * step] = (sums[high] - sums[low]) * (1 / (high - low));
        }
      }
      data = next;
    }
    return grey(width, height, data);
  }

  /** Return the picture smoothed by two box means, which is nearly a Gaussian. */
  const blur = (image, radius) => boxMean(boxMean(image, radius), radius);

  /** Return values weighted 1, 2, 1 with their neighbours along each axis. */
  function smooth3(image) {
    const { width, height, data } = image;
    const result = grey(width, height);
    const rows = new Float32Array(width);
    for (let y = 0; y < height; y++) {
      const [above, below] = [Math.max(0, y - 1) * width, Math.min(height - 1, y + 1) * width];
      for (let x = 0; x < width; x++) {
        rows[x] = data[above + x] + 2 * data[y * width + x] + data[below + x];
      }
      for (let x = 0; x < width; x++) {
        const sum = rows[Math.max(0, x - 1)] + 2 * rows[x] + rows[Math.min(width - 1, x + 1)];
        result.data[y * width + x] = sum / 16;
      }
    }
    return result;
  }

  /** Return the largest value within `radius` pixels; between two radii, a mixture. */
  function dilate(image, radius) {
    const whole = Math.trunc(radius);
    const inner = dilateDisc(image, whole);
    if (radius === whole) return inner;
    const outer = dilateDisc(image, whole + 1);
    const share = Math.fround(radius - whole);
    return grey(image.width, image.height, inner.data.map((v, i) => v + share * (outer.data[i] - v)));
  }

  function dilateDisc(image, radius) {
    if (radius === 0) return image;
    const { width, height, data } = image;
    const result = grey(width, height, Float32Array.from(data));
    for (let dy = -radius; dy <= radius; dy++) {
      for (let dx = -radius; dx <= radius; dx++) {
        if (dy * dy + dx * dx > (radius + 0.3) ** 2 || (!dx && !dy)) continue;
        const [left, right] = [Math.max(0, -dx), Math.min(width, width - dx)];
        for (let y = Math.max(0, -dy); y < Math.min(height, height - dy); y++) {
          const source = (y + dy) * width + dx;
          for (let x = left; x < right; x++) {
            const value = data[source + x];
            if (value > result.data[y * width + x]) result.data[y * width + x] = value;
          }
        }
      }
    }
    return result;
  }

  Object.assign(lenet, {
    blur, boxMean, dilate, enlarge, grey, median, quantile, resize, rint, smooth3,
  });
})();
