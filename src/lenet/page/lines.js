/* Ruled lines out of a mask of ink, sparing the strokes that cross them, as reading/lines.py. */
(() => {
  const MIN_COVER = 0.5;
  const MARGIN = 0.01; // a line begins and ends this near to the picture's sides
  // Rows per column; of those that do equally well, the first counts.
  const SLOPES = Array.from({ length: 41 }, (_, i) => (i === 40 ? 0.1 : i * (0.2 / 40) - 0.1))
    .sort((a, b) => Math.abs(a) - Math.abs(b));
  const { rint } = lenet;

  const turn = (mask, width, height) => {
    const turned = new Uint8Array(mask.length);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) turned[x * height + y] = mask[y * width + x];
    }
    return turned;
  };

  /** Return a mask without its ruled lines, horizontal and vertical. */
  function removeLines(mask, width, height) {
    const rows = lines(mask, width, height, MIN_COVER);
    // Upright strokes of several lines of writing may lie in one column.
    const columns = lines(turn(mask, width, height), height, width, 1.5 * MIN_COVER);
    if (!rows.includes(1) && !columns.includes(1)) return mask;
    const turned = turn(columns, height, width);
    return mask.map((is, i) => (is && !rows[i] && !turned[i] ? 1 : 0));
  }

  /** Return the pixels of nearly horizontal lines that nothing crosses. */
  function lines(mask, width, height, cover) {
    const found = new Uint8Array(mask.length);
    const pixels = []; // of ink: x, y
    mask.forEach((is, i) => {
      if (is) pixels.push([i % width, Math.floor(i / width)]);
    });
    const margin = Math.max(1, rint(MARGIN * width));
    if (!pixels.some(([x]) => x < margin) || !pixels.some(([x]) => x >= width - margin)) return found;
    const tilt = Math.trunc(0.05 * width) + 2;
    const levelOf = (slope, x, y) => rint(y - slope * (x - width / 2) + tilt);
    let best = 0;
    let bestSlope = 0;
    let counts = [];
    for (const slope of SLOPES) {
      const levels = new Int32Array(height + 2 * tilt + 3);
      for (const [x, y] of pixels) levels[levelOf(slope, x, y)]++;
      const most = levels.reduce((top, count) => Math.max(top, count), 0);
      if (most > best) [best, bestSlope, counts] = [most, slope, levels];
    }
    for (const [top, bottom] of bands(counts, width, cover)) {
      let [first, last] = [Infinity, -Infinity];
      for (const [x, y] of pixels) {
        const level = levelOf(bestSlope, x, y);
        if (level < top || level > bottom) continue;
        first = Math.min(first, x);
        last = Math.max(last, x);
      }
      if (first >= margin || last < width - margin) continue;
      erase(mask, width, height, found, bestSlope, top - tilt, bottom - tilt);
    }
    return found;
  }

  /** Return the first and last level of each line: a peak, and what belongs to its thickness. */
  function bands(counts, width, cover) {
    const found = [];
    let level = 0;
    while (level < counts.length) {
      if (counts[level] < cover * width) {
        level++;
        continue;
      }
      let [top, bottom] = [level, level];
      while (top > 0 && counts[top - 1] > 0.2 * width) top--;
      while (bottom + 1 < counts.length && counts[bottom + 1] > 0.2 * width) bottom++;
      // Thicker than this it is no ruled line.
      if (bottom - top < Math.max(4, 0.04 * width)) found.push([top, bottom]);
      level = bottom + 1;
    }
    return found;
  }

  /** Mark a line's pixels, but where a stroke goes on above and below it. */
  function erase(mask, width, height, found, slope, top, bottom) {
    const count = bottom - top + 3;
    const firsts = Array.from({ length: width }, (_, x) => rint(top - 1 + slope * (x - width / 2)));
    const touches = (offsets) =>
      firsts.map((first, x) =>
        offsets.some((offset) => {
          const y = first + offset;
          return y >= 0 && y < height && mask[y * width + x] === 1;
        }),
      );
    const above = touches([-1, -2]);
    const below = touches([count, count + 1]);
    // A slanted stroke leaves the line some columns from where it entered.
    const near = (flags, x) => flags.slice(Math.max(0, x - count), x + count + 1).includes(true);
    firsts.forEach((first, x) => {
      if (near(above, x) && near(below, x)) return;
      for (let y = Math.max(0, first); y < Math.min(height, first + count); y++) {
        found[y * width + x] = 1;
      }
    });
  }

  Object.assign(lenet, { removeLines });
})();
