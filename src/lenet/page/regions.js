/* Connected pieces of a mask and the width of its strokes, as reading/regions.py. */
(() => {
  const MAX_REGIONS = 1000;

  /**
   * Find the connected pieces of a mask (Uint8Array), diagonal neighbours included.
   * Returns {labels: Int32Array, 0 outside, regions with labels from 1, topmost first}; of more
   * than MAX_REGIONS the heaviest.
   */
  function labelRegions(mask, ink) {
    const { width, height } = ink;
    const labels = new Int32Array(mask.length);
    const parents = [0];
    const root = (label) => {
      let top = label;
      while (parents[top] !== top) top = parents[top];
      while (parents[label] !== top) [label, parents[label]] = [parents[label], top];
      return top;
    };
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        if (!mask[i]) continue;
        let label = 0;
        const join = (other) => {
          if (!other) return;
          const top = root(other);
          if (!label) label = top;
          else if (top !== label) {
            const [low, high] = top < label ? [top, label] : [label, top];
            parents[high] = low;
            label = low;
          }
        };
        if (x) join(labels[i - 1]);
        if (y) {
          if (x) join(labels[i - width - 1]);
          join(labels[i - width]);
          if (x + 1 < width) join(labels[i - width + 1]);
        }
        if (!label) {
          label = parents.length;
          parents.push(label);
        }
        labels[i] = label;
      }
    }
    let regions = measureRegions(labels, parents, root, ink);
    if (regions.length > MAX_REGIONS) {
      regions = regions.sort((a, b) => b.weight - a.weight || a.label - b.label).slice(0, MAX_REGIONS);
      regions.sort((a, b) => a.label - b.label);
    }
    return { labels, regions };
  }

  /** Number the pieces from 1 and measure them; writes the numbers into `labels`. */
  function measureRegions(labels, parents, root, { width, height, data }) {
    const numbers = new Int32Array(parents.length);
    const regions = [];
    for (let label = 1; label < parents.length; label++) {
      if (root(label) !== label) continue;
      regions.push({
        label: regions.length + 1,
        top: height, left: width, bottom: 0, right: 0, area: 0, weight: 0, peak: 0,
      });
      numbers[label] = regions.length;
    }
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        if (!labels[i]) continue;
        labels[i] = numbers[root(labels[i])];
        const region = regions[labels[i] - 1];
        region.top = Math.min(region.top, y);
        region.bottom = Math.max(region.bottom, y + 1);
        region.left = Math.min(region.left, x);
        region.right = Math.max(region.right, x + 1);
        region.area += 1;
        region.weight += data[i];
        region.peak = Math.max(region.peak, data[i]);
      }
    }
    for (const region of regions) {
      region.width = region.right - region.left;
      region.height = region.bottom - region.top;
      region.size = Math.max(region.width, region.height);
    }
    return regions;
  }

  /** Return the mean width of the strokes of a mask, in pixels; 0 of an empty one. */
  function strokeWidth(mask, width, height) {
    let area = 0;
    let sides = 0;
    const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x];
    for (let y = 0; y <= height; y++) {
      for (let x = 0; x <= width; x++) {
        const here = Boolean(at(x, y));
        area += here;
        sides += here !== Boolean(at(x - 1, y));
        sides += here !== Boolean(at(x, y - 1));
      }
    }
    // A stroke of length L and width w has area L w and an outline of 2 L. Pixels' sides
    // overstate the length of a slanted outline, by 4 / pi on average over directions.
    return area ? (2 * area) / ((sides * Math.PI) / 4) : 0;
  }

  Object.assign(lenet, { labelRegions, strokeWidth });
})();
