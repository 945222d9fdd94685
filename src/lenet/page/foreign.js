/* What is no writing among the pieces of a picture, as reading/foreign.py. */
(() => {
  const MAX_MEETINGS = 5; // places in which a drawn digit meets the picture's sides
  const MAX_STRIP = 0.35; // box of a table along the sheet, as a share of the picture
  const { rint } = lenet;

  /** Return the labels of frames, dark corners and lines among regions. */
  function findForeign(regions, labels, width, height, isFlat) {
    const borders = regions.filter((r) => isBorder(r, labels, width, height, isFlat));
    const found = new Set(borders.map((r) => r.label));
    if (!isFlat) {
      // A patterned table has parts that meet no side; they are within its box.
      const strips = borders.filter((b) => b.height * b.width < MAX_STRIP * height * width);
      for (const r of regions) if (strips.some((b) => holds(b, r))) found.add(r.label);
    }
    for (const r of regions) {
      const isLine =
        (r.width > 0.7 * width && r.height < 0.12 * r.width) ||
        (r.height > 0.9 * height && r.width < 0.05 * r.height);
      if (isLine || isFrame(r, regions, labels, width)) found.add(r.label);
    }
    return found;
  }

  function holds(outer, inner) {
    return (
      outer.top <= inner.top && outer.left <= inner.left &&
      outer.bottom >= inner.bottom && outer.right >= inner.right
    );
  }

  /** Tell what the picture's sides cut off: the table, a margin, a window's frame. */
  function isBorder(region, labels, width, height, isFlat) {
    const edges =
      (region.top === 0) + (region.left === 0) + (region.bottom === height) + (region.right === width);
    // In a photograph, what lies across a corner is the table; a drawing may be cut so.
    if (edges < 3 || !isFlat) return edges >= 3 || (edges === 2 && !isFlat);
    // A drawn digit that fills its picture meets the sides with the ends and bends of a stroke, and
    // lies along one of them at most.
    const sides = [
      [0, 1, width, region.width],
      [labels.length - width, 1, width, region.width],
      [0, width, height, region.height],
      [width - 1, width, height, region.height],
    ];
    let [along, meetings] = [0, 0];
    for (const [start, step, count, extent] of sides) {
      let [length, before] = [0, false];
      for (let k = 0; k < count; k++) {
        const here = labels[start + k * step] === region.label;
        length += here;
        meetings += here && !before;
        before = here;
      }
      along += length >= 0.5 * extent;
    }
    return along >= 2 || meetings > MAX_MEETINGS;
  }

  /** Tell a box drawn around something. */
  function isFrame(region, regions, labels, width) {
    const content = regions.filter(
      (r) =>
        r.top > region.top && r.left > region.left &&
        r.bottom < region.bottom && r.right < region.right &&
        r.size > 0.25 * Math.min(region.height, region.width),
    );
    if (!content.length) return false;
    // Its ink is along the sides of its own box alone; or, of a crooked one, clear of what it holds.
    const edge = Math.max(2, rint(0.07 * region.size));
    const inner = count(
      region.label, labels, width,
      region.left + edge, region.top + edge, region.right - edge, region.bottom - edge,
    );
    if (inner < 0.1 * region.area) return true;
    return content.some((r) => r.size > 0.4 * region.size && surrounds(region, r, labels, width));
  }

  /** Tell whether a region is on all four sides of a box, and not within. */
  function surrounds({ label }, { left, top, right, bottom }, labels, width) {
    const height = labels.length / width;
    return (
      !count(label, labels, width, left, top, right, bottom) &&
      count(label, labels, width, left, 0, right, top) > 0 &&
      count(label, labels, width, left, bottom, right, height) > 0 &&
      count(label, labels, width, 0, top, left, bottom) > 0 &&
      count(label, labels, width, right, top, width, bottom) > 0
    );
  }

  /** Count a label's pixels in a box. */
  function count(label, labels, width, left, top, right, bottom) {
    let found = 0;
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) found += labels[y * width + x] === label;
    }
    return found;
  }

  Object.assign(lenet, { findForeign });
})();
