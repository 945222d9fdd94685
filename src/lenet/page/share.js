/* A drawing and a held cell as the part of a link behind the #, and back. */
(() => {
  const { BOARD } = lenet;
  const NEAR = 4; // points of a stroke nearer than this, in the board's units, are left out
  const LEVELS = 255;

  /** Return strokes, lists of [x, y], and a cell as text: `drawing=...&cell=layer.map.row.column`. */
  function toLink(strokes, selected) {
    const bytes = strokes.flatMap((points) => {
      let last = points[0];
      const kept = points.filter((point, i) => {
        const isFar = Math.hypot(point[0] - last[0], point[1] - last[1]) >= NEAR;
        if (isFar) last = point;
        return isFar || i === 0 || i === points.length - 1;
      }).slice(-LEVELS);
      const level = (value) => Math.round((Math.min(BOARD, Math.max(0, value)) / BOARD) * LEVELS);
      return [kept.length, ...kept.flat().map(level)];
    });
    const drawing = lenet.toBase64(Uint8Array.from(bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
    const { index, cell } = selected ?? {};
    return `drawing=${drawing}${selected ? `&cell=${index}.${cell.map}.${cell.row}.${cell.column}` : ""}`;
  }

  /** Return {strokes, selected} of such a text, or null where it is none. */
  function fromLink(text) {
    const [, drawing, at] = text.match(/^#?drawing=([\w-]+)(?:&cell=([\d.]+))?$/) ?? [];
    if (!drawing || drawing.length % 4 === 1) return null;
    const bytes = lenet.fromBase64(drawing.replace(/-/g, "+").replace(/_/g, "/"));
    const strokes = [];
    for (let i = 0; i < bytes.length; i += 1 + 2 * bytes[i]) {
      const values = Array.from(bytes.subarray(i + 1, i + 1 + 2 * bytes[i]), (level) => (level / LEVELS) * BOARD);
      if (!values.length || values.length < 2 * bytes[i]) return null;
      strokes.push(Array.from({ length: bytes[i] }, (_, k) => values.slice(2 * k, 2 * k + 2)));
    }
    const [index, map, row, column] = (at ?? "").split(".").map(Number);
    return { strokes, selected: at ? { index, cell: { map, row, column } } : null };
  }

  Object.assign(lenet, { fromLink, toLink });
})();
