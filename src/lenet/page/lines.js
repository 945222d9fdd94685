/* Ruled lines out of a mask of ink, sparing the strokes that cross them, as reading/lines.py. */
(() => {
  const MIN_COVER = 0.5;
  const MARGIN = 0.02; // a line begins and ends this near to the picture's sides
  const SLOPES = Array.from({ length: 41 }, (_, i) => (i === 40 ? 0.1 : i * (0.2 / 40) - 0.1));
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
    const runs = findRuns(mask, width, height);
    const margin = Math.max(1, rint(MARGIN * width));
    const hasInk = (ends) => ends.length > 0;
    if (!runs.columns.slice(0, margin).some(hasInk) || !runs.columns.slice(-margin).some(hasInk)) return found;
    if (runs.count < cover * width) return found;
    const tilt = Math.trunc(0.05 * width) + 2;
    let best = 0;
    let bestSlope = 0;
    for (const slope of SLOPES) {
      const most = countLevels(runs, slope, tilt).reduce((top, count) => Math.max(top, count), 0);
      if (most > best) [best, bestSlope] = [most, slope];
    }
    if (best < cover * width) return found;
    for (const [top, bottom] of bands(countLevels(runs, bestSlope, tilt), width, cover)) {
      let [first, last] = [Infinity, -Infinity];
      for (let x = 0; x < width; x++) {
        for (let y = 0; y < height; y++) {
          if (!mask[y * width + x]) continue;
          const level = rint(y - bestSlope * (x - width / 2) + tilt);
          if (level < top || level > bottom) continue;
          first = Math.min(first, x);
          last = Math.max(last, x);
        }
      }
      if (first >= margin || last < width - margin) continue;
      erase(mask, width, height, found, bestSlope, top - tilt, bottom - tilt);
    }
    return found;
  }

  /** Return the runs of ink in the columns: in each, row after row, first and one past the last. */
  function findRuns(mask, width, height) {
    const columns = [];
    let count = 0;
    for (let x = 0; x < width; x++) {
      const ends = [];
      let was = 0;
      for (let y = 0, i = x; y < height; y++, i += width) {
        count += mask[i];
        if (mask[i] !== was) ends.push(y);
        was = mask[i];
      }
      if (was) ends.push(height);
      columns.push(ends);
    }
    return { columns, count, height };
  }

  /** Return how many pixels of ink lie at each level over lines of a slope. */
  function countLevels({ columns, height }, slope, tilt) {
    const steps = new Int32Array(height + 2 * tilt + 3);
    columns.forEach((ends, x) => {
      const drop = slope * (x - columns.length / 2);
      const level = (y) => rint(y - drop + tilt);
      const part = drop - Math.floor(drop);
      // Halfway between two levels, rounding to even may put two pixels on one.
      const isHalf = Math.abs(part - 0.5) < 1e-9;
      for (let k = 0; k < ends.length; k += 2) {
        if (isHalf) {
          for (let y = ends[k]; y < ends[k + 1]; y++) {
            steps[level(y)]++;
            steps[level(y) + 1]--;
          }
        } else {
          steps[level(ends[k])]++;
          steps[level(ends[k + 1] - 1) + 1]--;
        }
      }
    });
    for (let i = 1; i < steps.length; i++) steps[i] += steps[i - 1];
    return steps;
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
