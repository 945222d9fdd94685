/* How far each pixel of a picture is from its paper, in even and uneven light, as reading/paper.py. */
(() => {
  const LEAST_SIDE = 72; // of a picture of a digit; a smaller one is enlarged to find paper and strokes
  const MAX_STROKE = 0.2; // widest ink, on average, as a share of the longer side; a sheet is wider
  const SIDES = 0.06; // share of the picture's outline that paper beside the sheet covers at least
  const WIDE = 0.12; // average width of what is no stroke, as a share of the longer side
  const COARSE = 128;
  const MIN_CONTRAST = 0.04;
  const { blur, boxMean, dilate, enlarge, grey, median, quantile, resize, rint } = lenet;

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

  /** Return by what whole factor a small picture is enlarged, so that strokes have an inside. */
  const enlargement = ({ width, height }) => Math.ceil(LEAST_SIDE / Math.max(width, height));

  /** Return {paper, coarse}: the paper coarsely, and the coarse picture; null of a drawing, on one colour. */
  function findPaper(image) {
    const { width, height } = image;
    const samples = thin(image, Math.max(1, Math.floor(Math.max(width, height) / 256)));
    const [red, green, blue] = samples.planes;
    const luminance = new Float32Array(red.length);
    const levels = new Int32Array(260); // two more on each side, for the sums of five below
    for (let i = 0; i < red.length; i++) {
      luminance[i] = ((red[i] + green[i] + blue[i]) / 3) * 255;
      levels[rint(luminance[i]) + 2]++;
    }
    let [level, most] = [0, -1];
    for (let i = 0; i < 256; i++) {
      const near = levels[i] + levels[i + 1] + levels[i + 2] + levels[i + 3] + levels[i + 4];
      if (near > most) [level, most] = [i, near];
    }
    if (most >= 0.5 * luminance.length) {
      const isPaper = (_, i) => Math.abs(luminance[i] - level) <= 3;
      const planes = eachPlane(samples, (data) => Float32Array.of(median(data.filter(isPaper))));
      return { paper: { width: 1, height: 1, planes }, coarse: null };
    }
    const scale = Math.min(1, COARSE / Math.max(width, height));
    const sides = [width, height].map((side) => Math.max(1, rint(side * scale)));
    const small = resizeColour(image, ...sides, "box");
    const times = enlargement(image);
    const coarse = {
      width: times * small.width,
      height: times * small.height,
      planes: eachPlane(small, (data) => enlarge(plane(small, data), times).data),
    };
    return { paper: fill(coarse, smoothPart(coarse)), coarse };
  }

  /** Return the largest smooth piece of a picture, and all that is smooth and as bright. */
  function smoothPart(coarse) {
    const { width, height } = coarse;
    const calm = { width, height, planes: eachPlane(coarse, (d) => boxMean(plane(coarse, d), 1).data) };
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
    // The calmest pixels show the grain, even where outlines fill the picture.
    const limit = Math.max(6 * quantile(edge, 0.1), 0.2 * quantile(edge, 0.995));
    const sharp = dilate(plane(coarse, edge.map((e) => (e > limit ? 1 : 0))), 1).data;
    const smooth = Uint8Array.from(sharp, (value) => (value === 0 ? 1 : 0));
    const { labels, regions } = lenet.labelRegions(smooth, plane(coarse, new Float32Array(smooth)));
    if (!regions.length) return smooth.fill(1);
    const maskOf = (label) => Uint8Array.from(labels, (here) => (here === label ? 1 : 0));
    const largest = regions.reduce((a, b) => (b.area > a.area ? b : a)).label;
    let { near, far } = split(calm, labels, maskOf(largest));
    // The largest piece may be a thick stroke; but paper is what the picture's sides see first.
    const seen = firstSeen(smooth, width, height);
    const isSeenFirst = sum(seen.map((i) => far[i])) > sum(seen.map((i) => near[i]));
    const thick = lenet.strokeWidth(near, width, height);
    const most = Math.min(MAX_STROKE * Math.max(width, height), 2.5 * lenet.strokeWidth(far, width, height));
    if (isSeenFirst && thick < most) near = split(calm, labels, far).near;
    const part = near.includes(1) ? split(calm, labels, near).near : near;
    if (!part.includes(1)) return smooth;
    for (const r of regions) {
      if (r.top && r.left && r.bottom < height && r.right < width) continue;
      const mask = maskOf(r.label);
      if (isBeside(mask, width, height)) mask.forEach((is, i) => { part[i] |= is; });
    }
    return part;
  }

  const sum = (values) => values.reduce((total, value) => total + value, 0);

  /**
   * Return what is about as bright as a part of a picture continued, {near}, and what is {far} off:
   * ink, or the table under the sheet. Only smooth pieces are considered, and those of which most is
   * as bright.
   */
  function split(calm, labels, part) {
    const filled = fill(calm, part, 0);
    const difference = Float32Array.from(part, (_, i) =>
      Math.max(...calm.planes.map((data, c) => Math.abs(data[i] - filled.planes[c][i]))),
    );
    const off = quantile(difference, 0.99);
    const limit = Math.max(0.2 * off, MIN_CONTRAST);
    const areas = [];
    const nearAreas = [];
    labels.forEach((label, i) => {
      areas[label] = (areas[label] || 0) + 1;
      nearAreas[label] = (nearAreas[label] || 0) + (difference[i] < limit);
    });
    const choose = (is) => Uint8Array.from(labels, (label, i) => (label && is(label, difference[i]) ? 1 : 0));
    return {
      near: choose((label, value) => value < limit && nearAreas[label] > 0.5 * areas[label]),
      far: choose((_, value) => value > 0.5 * off),
    };
  }

  /** Return the places of the first smooth pixels of rows and columns, from either end. */
  function firstSeen(smooth, width, height) {
    const found = [];
    const look = (start, step, length) => {
      for (let k = 0, i = start; k < length; k++, i += step) if (smooth[i]) return found.push(i);
      return 0;
    };
    for (let y = 0; y < height; y++) {
      look(y * width, 1, width);
      look((y + 1) * width - 1, -1, width);
    }
    for (let x = 0; x < width; x++) {
      look(x, width, height);
      look((height - 1) * width + x, -width, height);
    }
    return found;
  }

  /** Tell whether a piece along the picture's sides is paper in a hard shadow, or the table. */
  function isBeside(mask, width, height) {
    let contact = 0;
    for (let x = 0; x < width; x++) contact += mask[x] + mask[(height - 1) * width + x];
    for (let y = 0; y < height; y++) contact += mask[y * width] + mask[(y + 1) * width - 1];
    if (contact <= SIDES * 2 * (width + height)) return false;
    const corners = mask[0] + mask[width - 1] + mask[(height - 1) * width] + mask[mask.length - 1];
    const [low, left] = [Math.floor(height / 4), Math.floor(width / 4)];
    const isMiddle = (i) => {
      const [y, x] = [Math.floor(i / width), i % width];
      return y >= low && y < height - low && x >= left && x < width - left;
    };
    if (corners === 1 && !mask.some((is, i) => is && isMiddle(i))) return true;
    return lenet.strokeWidth(mask, width, height) > WIDE * Math.max(width, height);
  }

  /** Continue the values of a part smoothly over the rest; `shareNear` weighs pixels within 6. */
  function fill(image, part, shareNear = 1) {
    const weighted = [...image.planes, new Float32Array(part.length).fill(1)].map((data) =>
      plane(image, data.map((value, i) => value * part[i])),
    );
    // Near by where there is anything near by; what is farther counts a thousandth as much.
    const totals = weighted.map((data) => {
      const near = blur(data, 3).data;
      const far = blur(boxMean(data, 12), 12).data;
      const all = boxMean(data, Math.floor(COARSE / 3)).data;
      const mean = sum(data.data) / part.length;
      return near.map((value, i) => shareNear * value + 1e-3 * far[i] + 1e-6 * all[i] + 1e-9 * mean);
    });
    const planes = totals.slice(0, 3).map((data) => data.map((value, i) => value / totals[3][i]));
    return { ...image, planes };
  }

  /** Return the eigenvector of the largest eigenvalue of a symmetric 3 x 3, by a high power of it. */
  function principalAxis(matrix) {
    let power = matrix;
    for (let again = 0; again < 30; again++) {
      const trace = power[0][0] + power[1][1] + power[2][2];
      power = power.map((row) => power.map((other) => sum(row.map((v, k) => v * other[k])) / trace ** 2));
    }
    const column = power.reduce((best, row, k) => (row[k] > best[1] ? [row, row[k]] : best), [null, -1])[0];
    const length = Math.hypot(...column);
    return column.map((v) => v / length);
  }

  /**
   * Measure how far each pixel is from the paper, along the colour in which ink differs most.
   * Returns {strength, noise, isFlat, isLightOnDark}.
   */
  function findInk(image) {
    const { width, height } = image;
    const { paper, coarse } = findPaper(image);
    const stride = Math.max(1, Math.floor(Math.max(width, height) / 256));
    // A drawing's thin strokes would be lost in a coarse picture of it.
    const seen = coarse || thin(image, stride);
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
    if (coarse && enlargement(image) === 1) strength = lenet.smooth3(strength);
    const sample = strength.data.length > 10000 ? thin({ width, height, planes: [strength.data] }, 3).planes[0] : strength.data;
    // Ink may cover half of it, but is on one side alone.
    const below = sample.filter((value) => value <= 0);
    const noise = below.length ? -1.4826 * median(below) : 0;
    return { strength, noise, isFlat: !coarse, isLightOnDark };
  }

  /** Return the 3 x 3 mean products of what pixels differ from the paper. */
  function scatterOf(planes, paper) {
    const isOne = paper[0].length === 1;
    const off = planes.map((data, c) => data.map((value, i) => value - paper[c][isOne ? 0 : i]));
    // Lightness counts a little in any case, so that a grey picture has one answer.
    return off.map((a) => off.map((b) => a.reduce((total, v, i) => total + v * b[i], 0) / a.length + 1e-6));
  }

  const along = ([red, green, blue], [r, g, b]) => red.map((v, i) => v * r + green[i] * g + blue[i] * b);

  Object.assign(lenet, { MIN_CONTRAST, enlargement, findInk });
})();
