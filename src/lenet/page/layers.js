/* The layers as pictures: a canvas for each, in which every cell can be pointed at. */
(() => {
  const { byId, make, paint } = lenet;

  // Cells between two maps, and maps side by side on wide and on narrow screens.
  const GRIDS = {
    C1: { gap: 2, wide: 2, narrow: 3 },
    S2: { gap: 1, wide: 2, narrow: 6 },
    C3: { gap: 1, wide: 4, narrow: 8 },
    S4: { gap: 1, wide: 4, narrow: 8 },
    C5: { gap: 0, wide: 8, narrow: 20 },
    F6: { gap: 0, wide: 7, narrow: 7 },
  };
  const NAMES = {
    input: "Input",
    C1: "C1: convolution",
    S2: "S2: subsampling",
    C3: "C3: convolution",
    S4: "S4: subsampling",
    C5: "C5: convolution",
    F6: "F6: full connection",
    output: "Output",
  };
  const narrow = window.matchMedia("(max-width: 759px)");

  /** Say where a cell is. */
  function nameCell(network, index, { map, row, column }) {
    const layer = network.layers[index];
    if (layer.kind === "input") return `Input, row ${row + 1}, column ${column + 1}`;
    if (layer.name === "output") return `Output for ${network.classes[map]}`;
    if (layer.rows * layer.columns === 1) return `${layer.name}, unit ${map + 1}`;
    return `${layer.name}, map ${map + 1}, row ${row + 1}, column ${column + 1}`;
  }

  /** Return the range of colours of a layer: fixed by its squashing function, or what there is. */
  function findRange(network, index, values) {
    if (index === 0) {
      const ends = [network.background, network.background + network.contrast];
      return { kind: "ink", low: ends[0], high: ends[1] };
    }
    const { squash } = network.layers[index];
    const from = squash?.name ? squash : network.layers[index - 1].squash;
    if (from?.high) return { kind: "signed", low: from.low, high: from.high };
    const most = values.reduce((top, value) => Math.max(top, Math.abs(value)), 1e-6);
    return { kind: "signed", low: -most, high: most };
  }

  /**
   * Make the canvases of all layers but the output.
   * point(index, cell, how) is called when one is pointed at; `how` is "hover", "tap" or "key".
   */
  function makeLayers(point) {
    let network = null;
    let views = [];

    function build(next) {
      network = next;
      const focused = views.findIndex((view) => view.canvas === document.activeElement);
      byId("layers").replaceChildren();
      views = network.layers.slice(0, -1).map((layer, index) => makeView(layer, index));
      if (focused >= 0) views[focused].canvas.focus();
      drawScale();
    }

    /** Say what the colours stand for. */
    function drawScale() {
      const ends = network.layers.find((layer) => layer.squash?.high)?.squash;
      byId("scale-low").textContent = ends ? lenet.show(ends.low, 1) : "negative";
      byId("scale-high").textContent = ends ? `+${lenet.show(ends.high, 1)}` : "positive";
      lenet.drawCells(byId("scale"), Float32Array.from({ length: 101 }, (_, i) => i - 50), 101, "signed", -50, 50);
    }

    function makeView(layer, index) {
      const shape = layer.rows * layer.columns > 1 ? `${layer.rows} \u00d7 ${layer.columns}` : "";
      const count = layer.maps === 1 ? "" : `${layer.maps} ${shape ? "maps, " : "units"}`;
      const canvas = make("canvas", {
        tabindex: "0", role: "application", "aria-label": `${NAMES[layer.name]}, ${count}${shape}`,
        "aria-roledescription": "layer", "aria-describedby": "stage-help",
      });
      const caption = make("figcaption", {},
        make("b", { text: layer.name === "input" ? "Input" : layer.name }), ` ${count}${shape}`);
      const figure = make("figure", { class: `layer layer-${layer.name}` }, canvas, caption);
      byId("layers").append(figure);
      const view = { canvas, layer, index, cursor: { map: 0, row: 0, column: 0 } };
      lay(view);
      canvas.addEventListener("pointermove", (event) => aim(view, event, event.pointerType === "mouse" ? "hover" : "tap"));
      canvas.addEventListener("pointerdown", (event) => aim(view, event, "tap"));
      canvas.addEventListener("keydown", (event) => press(view, event));
      canvas.addEventListener("focus", () => {
        if (canvas.matches(":focus-visible")) point(index, view.cursor, "key");
      });
      return view;
    }

    /** Lay the maps of a layer out for the width of the screen. */
    function lay(view) {
      const { maps, rows, columns, name } = view.layer;
      const grid = GRIDS[name] ?? { gap: 0, wide: 1, narrow: 1 };
      const across = narrow.matches ? grid.narrow : grid.wide;
      view.across = across;
      view.gap = grid.gap;
      view.canvas.width = across * (columns + grid.gap) - grid.gap;
      view.canvas.height = Math.ceil(maps / across) * (rows + grid.gap) - grid.gap;
      view.canvas.style.setProperty("--columns", view.canvas.width);
      view.canvas.style.setProperty("--rows", view.canvas.height);
    }

    /** Return the left and top of a map in its canvas, in cells. */
    const corner = ({ across, gap, layer }, map) => [
      (map % across) * (layer.columns + gap),
      Math.floor(map / across) * (layer.rows + gap),
    ];

    function aim(view, event, how) {
      const { layer, gap, across, canvas, index } = view;
      const box = canvas.getBoundingClientRect();
      const x = Math.floor(((event.clientX - box.left) / box.width) * canvas.width);
      const y = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
      const [left, top] = [Math.floor(x / (layer.columns + gap)), Math.floor(y / (layer.rows + gap))];
      const map = top * across + left;
      const column = x - left * (layer.columns + gap);
      const row = y - top * (layer.rows + gap);
      if (x < 0 || y < 0 || left >= across || map >= layer.maps) return;
      if (row >= layer.rows || column >= layer.columns) return;
      view.cursor = { map, row, column };
      point(index, view.cursor, event.type === "pointerdown" ? "tap" : how === "tap" ? "drag" : how);
    }

    function press(view, event) {
      const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
      if (event.key in moves) move(view, ...moves[event.key]);
      else if (event.key === "Home") view.cursor = { map: 0, row: 0, column: 0 };
      else if (event.key === "PageDown") jump(view, 1);
      else if (event.key === "PageUp") jump(view, -1);
      else if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      point(view.index, view.cursor, event.key === "Enter" || event.key === " " ? "hold" : "key");
    }

    const jump = (view, step) => {
      const { maps } = view.layer;
      view.cursor = { ...view.cursor, map: (view.cursor.map + step + maps) % maps };
    };

    /** Move the cursor by a row or column, past a map's edge into the map beside it. */
    function move(view, down, right) {
      const { layer, across } = view;
      let { map, row, column } = view.cursor;
      [row, column] = [row + down, column + right];
      if (row < 0 || row >= layer.rows) map += down * across;
      if (column < 0 || column >= layer.columns) map += right;
      if (map < 0 || map >= layer.maps) return;
      view.cursor = {
        map, row: (row + layer.rows) % layer.rows, column: (column + layer.columns) % layer.columns,
      };
    }

    function draw(state) {
      for (const view of views) {
        const { layer, canvas, index } = view;
        const context = canvas.getContext("2d");
        const image = context.createImageData(canvas.width, canvas.height);
        const pixels = new Uint32Array(image.data.buffer);
        const values = state[index];
        const { kind, low, high } = findRange(network, index, values);
        for (let map = 0, i = 0; map < layer.maps; map++) {
          const [left, top] = corner(view, map);
          for (let row = 0; row < layer.rows; row++) {
            const start = (top + row) * canvas.width + left;
            for (let column = 0; column < layer.columns; column++, i++) {
              pixels[start + column] = paint(kind, values[i], low, high);
            }
          }
        }
        context.putImageData(image, 0, 0);
      }
    }

    /** Return where cells of a map are on the screen: {left, top, right, bottom}. */
    function locate(index, map, box) {
      const view = views[index];
      const whole = view.canvas.getBoundingClientRect();
      const [left, top] = corner(view, map);
      const size = whole.width / view.canvas.width;
      return {
        left: whole.left + (left + box.left) * size,
        top: whole.top + (top + box.top) * size,
        right: whole.left + (left + box.right) * size,
        bottom: whole.top + (top + box.bottom) * size,
      };
    }

    return {
      build,
      draw,
      locate,
      /** Do what a key would do to the layer's cursor. */
      press: (index, key) => press(views[index], new KeyboardEvent("keydown", { key, cancelable: true })),
      place(index, cell) {
        if (views[index]) views[index].cursor = cell;
      },
    };
  }

  Object.assign(lenet, { NAMES, findRange, makeLayers, nameCell, narrow });
})();
