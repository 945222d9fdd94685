/* What is no writing among the pieces of a picture, as reading/foreign.py. */
(() => {
  const CONTACT = 0.015; // what is this near to a side touches it, as a share of the longer one
  const FULL = 0.85; // share of a side along which a margin or a cell's line lies
  const MAX_STRIP = 0.35; // box of a table along the sheet, as a share of the picture
  const MIN_FILLED = 0.3; // share of its box that a table fills
  const { rint } = lenet;

  /** Return the labels of frames, dark corners and lines among regions. */
  function findForeign(regions, labels, width, height, isFlat) {
    const borders = regions.filter((r) => isBorder(r, labels, width, height));
    const found = new Set(borders.map((r) => r.label));
    if (!isFlat) {
      // A patterned table has parts that meet no side; they are within its box. So is what a
      // frame holds, but of a frame's box little is ink.
      const strips = borders.filter(
        (b) => b.height * b.width < Math.min(MAX_STRIP * height * width, b.area / MIN_FILLED),
      );
      for (const r of regions) if (strips.some((b) => holds(b, r))) found.add(r.label);
    }
    for (const r of regions) {
      const isLine =
        (r.width > 0.7 * width && r.height < 0.12 * r.width) ||
        (r.height > 0.98 * height && r.width < 0.05 * r.height);
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

  /**
   * Tell what the picture's sides cut off: the table, a margin, a cell's lines, a grid. A digit that
   * fills its picture meets all four sides too, but with the ends and bends of a stroke.
   */
  function isBorder(r, labels, width, height) {
    const depth = Math.max(1, rint(CONTACT * Math.max(width, height)));
    if (Math.min(r.top, r.left, height - r.bottom, width - r.right) >= depth) return false;
    const has = (left, top, right, bottom) => count(r.label, labels, width, left, top, right, bottom) > 0;
    const contacts = [
      Array.from({ length: width }, (_, x) => has(x, 0, x + 1, depth)),
      Array.from({ length: height }, (_, y) => has(width - depth, y, width, y + 1)),
      Array.from({ length: width }, (_, x) => has(x, height - depth, x + 1, height)),
      Array.from({ length: height }, (_, y) => has(0, y, depth, y + 1)),
    ];
    const touches = contacts.map((contact) => contact.includes(true));
    const isStrip = contacts.some(
      (contact, k) => contact.filter(Boolean).length > FULL * contact.length && !touches[(k + 2) % 4],
    );
    const [right, bottom] = [Math.max(0, width - 2), Math.max(0, height - 2)];
    const numCorners = [[0, 0], [right, 0], [0, bottom], [right, bottom]].filter(
      ([x, y]) => has(x, y, Math.min(width, x + 2), Math.min(height, y + 2)),
    ).length;
    const isWedge = numCorners === 1 && touches.filter(Boolean).length === 2;
    const starts = contacts.map((contact) => contact.filter((here, i) => here && !contact[i - 1]).length);
    return isStrip || isWedge || numCorners >= 3 || Math.min(...starts) >= 2;
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
