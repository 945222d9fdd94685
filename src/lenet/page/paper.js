/* How far each pixel of a picture is from its paper, in even and uneven light, as reading/paper.py. */
(() => {
  const SMALL = 64;
  const COARSE = 128;
  const MIN_CONTRAST = 0.04;
  const { blur, boxMean, dilate, grey, median, quantile, resize, rint } = lenet;

  // A picture is {width, height, planes: three Float32Array in [0, 1]}; if all three are one and
  // the same, it is grey, and most loops need not be done three times.
  const isGrey = (planes) => planes[0] === planes[1] && planes[1] === planes[2];
  const plane = (image, data) => grey(image.width, image.height, data);

  function eachPlane({ planes }, f) {
    if (!isGrey(planes)) return planes.map(f);
    const one = f(planes[0]);
    return [one, one, one];
  }

  function resizeColour(image, width, height, kind) {
    return { width, height, planes: eachPlane(image, (data) => resize(plane(image, data), width, height, kind).data) };
  }

  /** Return every `stride`-th pixel of every `stride`-th row. */
  function thin(image, stride) {
    const [width, height] = [image.width, image.height].map((side) => Math.ceil(side / stride));
    if (stride === 1) return image;
    const planes = eachPlane(image, (data) => {
      const kept = new Float32Array(width * height);
      for (let y = 0, i = 0; y < height; y++) {
        for (let x = 0; x < width; x++, i++) kept[i] = data[y * stride * image.width + x * stride];
      }
      return kept;
    });
    return { width, height, planes };
  }

  /** Return the median of those chosen of bytes / 255, without sorting them. */
  function medianOfBytes(values, isChosen = () => true) {
    const counts = new Int32Array(256);
    let count = 0;
    for (let i = 0; i < values.length; i++) {
      if (!isChosen(i)) continue;
      counts[Math.round(values[i] * 255)]++;
      count++;
    }
    const at = (rank) => {
      let level = 0;
      for (let seen = counts[0]; seen <= rank; seen += counts[level]) level++;
      return Math.fround(level / 255);
    };
    const last = count - 1;
    return (at(Math.floor(last / 2)) + at(Math.ceil(last / 2))) / 2;
  }

  /** Return the paper, coarsely, and whether it is one colour all over, as in a drawing. */
  function findPaper(image) {
    const { width, height } = image;
    const samples = thin(image, Math.max(1, Math.floor(Math.max(width, height) / 256)));
    const [red, green, blue] = samples.planes;
    const isSame = isGrey(samples.planes);
    const luminance = new Float32Array(red.length);
    const levels = new Int32Array(260); // two more on each side, for the sums of five below
    for (let i = 0; i < red.length; i++) {
      luminance[i] = Math.fround(isSame ? red[i] : (red[i] + green[i] + blue[i]) / 3) * 255;
      levels[rint(luminance[i]) + 2]++;
    }
    let [level, most] = [0, -1];
    for (let i = 0; i < 256; i++) {
      const near = levels[i] + levels[i + 1] + levels[i + 2] + levels[i + 3] + levels[i + 4];
      if (near > most) [level, most] = [i, near];
    }
    const isFlat = most >= 0.5 * luminance.length;
    if (isFlat || Math.max(width, height) <= SMALL) {
      const isPaper = (i) => Math.abs(luminance[i] - level) <= 3;
      const colours = isFlat
        ? eachPlane(samples, (data) => Float32Array.of(medianOfBytes(data, isPaper)))
        : eachPlane(image, (data) => Float32Array.of(medianOfBytes(border(image, data))));
      return { paper: { width: 1, height: 1, planes: colours }, isFlat: true };
    }
    const scale = Math.min(1, COARSE / Math.max(width, height));
    const sides = [width, height].map((side) => Math.max(1, rint(side * scale)));
    const coarse = resizeColour(image, ...sides, "box");
    return { paper: fill(coarse, smoothPart(coarse)), isFlat: false };
  }

  function border({ width, height }, data) {
    const values = [...data.subarray(0, width), ...data.subarray((height - 1) * width)];
    for (let y = 0; y < height; y++) values.push(data[y * width], data[(y + 1) * width - 1]);
    return values;
  }

  /** Return the largest smooth piece of a picture, and all that is smooth and as bright. */
  function smoothPart(coarse) {
    const { width, height } = coarse;
    const calm = { ...coarse, planes: coarse.planes.map((d) => boxMean(plane(coarse, d), 1).data) };
    const edge = new Float32Array(width * height);
    for (const data of calm.planes) {
      for (let y = 0, i = 0; y < height; y++) {
        for (let x = 0; x < width; x++, i++) {
          const down = y + 1 < height ? Math.abs(data[i + width] - data[i]) : 0;
          const right = x + 1 < width ? Math.abs(data[i + 1] - data[i]) : 0;
          edge[i] = Math.max(edge[i], down, right);
        }
      }
    }
    const limit = Math.max(2.5 * median(edge), 0.2 * quantile(edge, 0.995));
    const sharp = dilate(plane(coarse, edge.map((e) => (e > limit ? 1 : 0))), 1).data;
    const smooth = Uint8Array.from(sharp, (value) => (value === 0 ? 1 : 0));
    const ones = plane(coarse, new Float32Array(width * height).fill(1));
    const { labels, regions } = lenet.labelRegions(smooth, ones);
    if (!regions.length) return smooth.fill(1);
    const largest = regions.reduce((a, b) => (b.area > a.area ? b : a)).label;
    let part = Uint8Array.from(labels, (label) => (label === largest ? 1 : 0));
    for (let again = 0; again < 2; again++) {
      const filled = fill(calm, part);
      const difference = edge.map((_, i) =>
        Math.max(...calm.planes.map((data, c) => Math.abs(data[i] - filled.planes[c][i]))),
      );
      // What is far off is ink, or the table under the sheet.
      const limitOff = Math.max(0.3 * quantile(difference, 0.99), MIN_CONTRAST);
      part = smooth.map((is, i) => (is && difference[i] < limitOff ? 1 : 0));
      if (!part.includes(1)) return smooth;
    }
    // So is what lies along the picture's sides, in a hard shadow or under the sheet.
    const contact = new Int32Array(regions.length + 1);
    for (let x = 0; x < width; x++) {
      contact[labels[x]]++;
      contact[labels[(height - 1) * width + x]]++;
    }
    for (let y = 0; y < height; y++) {
      contact[labels[y * width]]++;
      contact[labels[(y + 1) * width - 1]]++;
    }
    const wide = 0.06 * 2 * (width + height);
    return part.map((is, i) => (is || (labels[i] && contact[labels[i]] > wide) ? 1 : 0));
  }

  /** Continue the values of a part smoothly over the rest. */
  function fill(image, part) {
    const weighted = [...image.planes, new Float32Array(part.length).fill(1)].map((data) =>
      plane(image, data.map((value, i) => value * part[i])),
    );
    // Near by where there is anything near by; what is farther counts a thousandth as much.
    const totals = weighted.map((data) => {
      const near = blur(data, 3).data;
      const far = blur(boxMean(data, 12), 12).data;
      const all = boxMean(data, Math.floor(COARSE / 3)).data;
      const mean = data.data.reduce((sum, value) => sum + value, 0) / part.length;
      return near.map((value, i) => value + 1e-3 * far[i] + 1e-6 * all[i] + 1e-9 * mean);
    });
    const planes = totals.slice(0, 3).map((data) => data.map((value, i) => value / totals[3][i]));
    return { ...image, planes };
  }

  /** Return the eigenvector of the largest eigenvalue of a symmetric 3 x 3, by Jacobi's rotations. */
  function principalAxis(matrix) {
    const a = matrix.map((row) => [...row]);
    const v = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
    for (let sweep = 0; sweep < 30; sweep++) {
      for (const [p, q] of [[0, 1], [0, 2], [1, 2]]) {
        if (a[p][q] === 0) continue;
        const angle = 0.5 * Math.atan2(2 * a[p][q], a[p][p] - a[q][q]);
        const [c, s] = [Math.cos(angle), Math.sin(angle)];
        for (const m of [a, v]) {
          for (const row of m) [row[p], row[q]] = [c * row[p] + s * row[q], c * row[q] - s * row[p]];
        }
        for (let k = 0; k < 3; k++) {
          [a[p][k], a[q][k]] = [c * a[p][k] + s * a[q][k], c * a[q][k] - s * a[p][k]];
        }
      }
    }
    const top = [0, 1, 2].reduce((best, k) => (a[k][k] > a[best][best] ? k : best), 0);
    return v.map((row) => row[top]);
  }

  /**
   * Measure how far each pixel is from the paper, along the colour in which ink differs most.
   * Returns {strength, noise, isFlat, isLightOnDark}.
   */
  function findInk(image) {
    const { width, height } = image;
    const { paper, isFlat } = findPaper(image);
    const stride = Math.max(1, Math.floor(Math.max(width, height) / 256));
    // A drawing's thin strokes would be lost in a coarse picture of it.
    const seen = isFlat
      ? thin(image, stride)
      : resizeColour(image, paper.width, paper.height, "box");
    let axis = principalAxis(scatterOf(seen.planes, paper.planes));
    const sign = Math.sign(axis.reduce((sum, x) => sum + x, 0)) || 1;
    axis = axis.map((x) => Math.fround((x * sign) / Math.sqrt(3)));
    const signed = along(image.planes, axis);
    const level = plane(paper, along(paper.planes, axis));
    const isOne = level.data.length === 1;
    const levels = isOne ? level.data : resize(level, width, height, "linear").data;
    let cubes = 0;
    for (let i = 0; i < signed.length; i++) {
      signed[i] -= levels[isOne ? 0 : i];
      cubes += signed[i] ** 3;
    }
    const isLightOnDark = cubes > 0;
    if (!isLightOnDark) for (let i = 0; i < signed.length; i++) signed[i] = -signed[i];
    let strength = plane(image, signed);
    if (!isFlat) strength = lenet.smooth3(strength);
    const sample = strength.data.length > 10000 ? thinGrey(strength, 3) : strength.data;
    const noise = 1.4826 * median(sample.map(Math.abs));
    return { strength, noise, isFlat, isLightOnDark };
  }

  /** Return the 3 x 3 mean products of what pixels differ from the paper. */
  function scatterOf(planes, paper) {
    const isOne = paper[0].length === 1;
    if (isGrey(planes) && isGrey(paper)) {
      let sum = 0;
      for (let i = 0; i < planes[0].length; i++) sum += (planes[0][i] - paper[0][isOne ? 0 : i]) ** 2;
      const value = sum / planes[0].length + 1e-6;
      return [1, 2, 3].map(() => [value, value, value]);
    }
    const sums = new Float64Array(6);
    for (let i = 0; i < planes[0].length; i++) {
      const k = isOne ? 0 : i;
      const r = planes[0][i] - paper[0][k];
      const g = planes[1][i] - paper[1][k];
      const b = planes[2][i] - paper[2][k];
      sums[0] += r * r;
      sums[1] += r * g;
      sums[2] += r * b;
      sums[3] += g * g;
      sums[4] += g * b;
      sums[5] += b * b;
    }
    // Lightness counts a little in any case, so that a grey picture has one answer.
    const [rr, rg, rb, gg, gb, bb] = sums.map((sum) => sum / planes[0].length + 1e-6);
    return [[rr, rg, rb], [rg, gg, gb], [rb, gb, bb]];
  }

  function along([red, green, blue], [r, g, b]) {
    const found = new Float32Array(red.length);
    if (red === green && green === blue) {
      for (let i = 0; i < red.length; i++) found[i] = red[i] * (r + g + b);
    } else {
      for (let i = 0; i < red.length; i++) found[i] = red[i] * r + green[i] * g + blue[i] * b;
    }
    return found;
  }

  function thinGrey(image, stride) {
    return thin({ ...image, planes: [image.data] }, stride).planes[0];
  }

  Object.assign(lenet, { MIN_CONTRAST, SMALL, findInk });
})();
