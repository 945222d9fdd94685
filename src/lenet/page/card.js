/* The card in a drawing: a window or canvas of another colour on a plain page, as reading/card.py. */
(() => {
  const SHARE = 0.3; // ink is stronger than this share of the strongest
  const FULL = 0.95; // share of each side of its box that a card covers
  const MIN_SIDE = 36; // shortest side of a card, in pixels
  const MIN_CONTENT = 0.15; // size of what stands on it, as a share of the card's shorter side
  const MAX_STROKE = 0.4; // widest stroke of that, as a share of its longer side
  const { grey, labelRegions, strokeWidth } = lenet;

  /** Find a filled rectangle with something written on it in the colour of the page, or null. */
  function findCard(ink) {
    const { width, height, data } = ink.strength;
    if (!ink.isFlat || Math.min(width, height) < MIN_SIDE) return null;
    let most = -Infinity;
    for (const value of data) if (value > most) most = value;
    const limit = Math.fround(SHARE * most);
    const { labels, regions } = labelRegions(data.map((v) => (v > limit ? 1 : 0)), ink.strength);
    for (const r of [...regions].sort((a, b) => b.area - a.area)) {
      const side = Math.min(r.height, r.width);
      if (side < MIN_SIDE || r.area < 0.5 * r.height * r.width) continue;
      const box = grey(r.width, r.height);
      for (let y = 0, i = 0; y < r.height; y++) {
        for (let x = 0; x < r.width; x++, i++) {
          box.data[i] = labels[(y + r.top) * width + x + r.left] === r.label ? 1 : 0;
        }
      }
      if (!isFull(box) || !hasContent(box)) continue;
      const edge = 2 + Math.floor(side / 50);
      return { left: r.left + edge, top: r.top + edge, right: r.right - edge, bottom: r.bottom - edge };
    }
    return null;
  }

  /** Tell whether all four sides are covered, a pixel in. */
  function isFull({ width, height, data }) {
    const ends = [[width, 1, width], [(height - 2) * width, 1, width], [1, width, height], [width - 2, width, height]];
    return ends.every(([start, step, count]) => {
      let covered = 0;
      for (let k = 0; k < count; k++) covered += data[start + k * step];
      return covered / count >= FULL;
    });
  }

  /** Tell whether something is written on a card, which is all of `box` but this. */
  function hasContent({ width, height, data }) {
    const rest = data.map((v) => 1 - v);
    const { labels, regions } = labelRegions(rest, grey(width, height, rest));
    const side = Math.min(width, height);
    return regions.some(
      (hole) =>
        hole.size >= MIN_CONTENT * side &&
        hole.top > 1 && hole.left > 1 && hole.bottom < height - 1 && hole.right < width - 1 &&
        isWritten(hole, labels, width, side),
    );
  }

  function isWritten(hole, labels, width, side) {
    const mask = new Uint8Array(hole.width * hole.height);
    for (let y = 0, i = 0; y < hole.height; y++) {
      for (let x = 0; x < hole.width; x++, i++) {
        mask[i] = labels[(y + hole.top) * width + x + hole.left] === hole.label ? 1 : 0;
      }
    }
    const isBent = hole.area <= 0.6 * hole.height * hole.width;
    const isBar = Math.min(hole.height, hole.width) <= 0.2 * side;
    return (isBent || isBar) && strokeWidth(mask, hole.width, hole.height) <= MAX_STROKE * hole.size;
  }

  Object.assign(lenet, { findCard });
})();
