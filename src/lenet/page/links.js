/* Frames around what a cell sees, in every layer below it and on the drawing, and lines between. */
(() => {
  const { shape } = lenet;
  const MAX_LINES = 6; // maps; of more, the layer as a whole is framed

  const around = (boxes) => ({
    left: Math.min(...boxes.map((box) => box.left)),
    top: Math.min(...boxes.map((box) => box.top)),
    right: Math.max(...boxes.map((box) => box.right)),
    bottom: Math.max(...boxes.map((box) => box.bottom)),
  });

  /**
   * Draw the links of a cell, or none.
   * spot(index, map, box) says where cells are on the screen; `board` where the field's corner and
   * pixels lie on the drawing, {left, top, pixel} on the screen, or null.
   */
  function drawLinks(network, selected, spot, board) {
    const svg = lenet.byId("links");
    const origin = svg.parentElement.getBoundingClientRect();
    const place = (box) => ({
      left: box.left - origin.left, top: box.top - origin.top,
      right: box.right - origin.left, bottom: box.bottom - origin.top,
    });
    const shapes = [];
    const frame = (box, name) =>
      shapes.push(shape("rect", {
        x: box.left - 1, y: box.top - 1, width: box.right - box.left + 2, height: box.bottom - box.top + 2,
        class: name,
      }));
    if (selected) {
      const { index, cell } = selected;
      const here = place(spot(index, cell.map, {
        left: cell.column, top: cell.row, right: cell.column + 1, bottom: cell.row + 1,
      }));
      const seen = lenet.trace(network, index, cell);
      seen.forEach((box, below) => {
        const boxes = box.maps.map((map) => place(spot(below, map, box)));
        const whole = boxes.length > MAX_LINES ? [around(boxes)] : boxes;
        const isNext = below === index - 1;
        for (const one of whole) {
          if (isNext) shapes.push(band(one, here));
          frame(one, isNext ? "patch" : "field");
        }
      });
      const box = seen[0] ?? { left: cell.column, top: cell.row, right: cell.column + 1, bottom: cell.row + 1 };
      if (board) {
        const { left, top, pixel } = board;
        frame(clip(place({
          left: left + box.left * pixel, top: top + box.top * pixel,
          right: left + box.right * pixel, bottom: top + box.bottom * pixel,
        }), place(board.limits)), "field");
      }
      frame(here, "cell");
    }
    svg.replaceChildren(...shapes);
  }

  const clip = (box, limits) => ({
    left: Math.min(limits.right, Math.max(box.left, limits.left)),
    top: Math.min(limits.bottom, Math.max(box.top, limits.top)),
    right: Math.max(limits.left, Math.min(box.right, limits.right)),
    bottom: Math.max(limits.top, Math.min(box.bottom, limits.bottom)),
  });

  /** A band from a patch to the cell that it makes, from the sides that face each other. */
  function band(from, to) {
    const isAcross = from.right <= to.left || to.right <= from.left;
    if (isAcross) {
      const [a, b] = from.right <= to.left ? [from.right, to.left] : [from.left, to.right];
      return shape("polygon", {
        points: `${a},${from.top} ${b},${to.top} ${b},${to.bottom} ${a},${from.bottom}`, class: "band",
      });
    }
    const [a, b] = from.bottom <= to.top ? [from.bottom, to.top] : [from.top, to.bottom];
    return shape("polygon", {
      points: `${from.left},${a} ${to.left},${b} ${to.right},${b} ${from.right},${a}`, class: "band",
    });
  }

  Object.assign(lenet, { drawLinks });
})();
