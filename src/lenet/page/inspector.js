/* How one cell is computed: its patch, its weights, their products, and what becomes of the sum. */
(() => {
  const { byId, drawCells, make, paintCss, shape, show } = lenet;

  const INTRODUCTION = [
    ["C1, C3, C5", "look at 5 \u00d7 5 cells at a time, each map through its own weights, the same all over the map."],
    ["S2, S4", "make four cells one, so that small shifts matter less."],
    ["F6", "weighs everything that C5 found."],
    ["Output", "one number for each class; the largest is the answer."],
    ["Keyboard", "Tab goes to a layer, arrows from cell to cell; Enter holds one, Escape lets go."],
  ];

  function describe(layer, below, found) {
    switch (found.kind) {
      case "input":
        return "One of the 32 \u00d7 32 pixels that the network sees: the digit, fitted into 20 \u00d7 20, centred by its mass, with paper around it.";
      case "convolution": {
        const maps = found.terms.length === 1 ? `${below.name === "input" ? "the input" : "one map"}` : `${found.terms.length} maps of ${below.name}`;
        const share = layer.rows > 1
          ? ` All ${layer.rows * layer.columns} cells of this map use the same ${25 * found.terms.length} weights.`
          : "";
        return `Looks at 5 \u00d7 5 cells of ${maps}.${share}`;
      }
      case "subsampling":
        return {
          max: "The largest of four cells.",
          average: "The mean of four cells.",
          trained: "The sum of four cells, times a weight of this map, plus a bias of this map.",
        }[found.pooling];
      case "rbf":
        return "The picture that F6 makes is compared with a drawing of this digit: the squares of the differences, summed, are the penalty. The smallest penalty wins.";
      default:
        return `Looks at all ${below.maps} units of ${below.name}.`;
    }
  }

  const most = (values) => values.reduce((top, value) => Math.max(top, Math.abs(value)), 1e-6);

  /** Return how many decimals are shown of a sum and of what is added up to it. */
  const decimals = (total) => (Math.abs(total) >= 100 ? 0 : 2);

  /**
   * Return numbers rounded up or down so that they add up to what is shown of their sum: each is
   * less than one in its last place off, and those with the largest remainders are rounded up.
   */
  function roundTogether(values, total, digits) {
    const unit = 10 ** digits;
    const scaled = Array.from(values, (value) => value * unit);
    const rounded = scaled.map(Math.floor);
    const missing = Math.round(total * unit) - rounded.reduce((sum, value) => sum + value, 0);
    scaled.map((value, i) => i)
      .sort((a, b) => (scaled[b] - rounded[b]) - (scaled[a] - rounded[a]))
      .slice(0, missing)
      .forEach((i) => rounded[i]++);
    return rounded.map((value) => value / unit);
  }

  /** A grid of cells with their numbers, for patches that are small enough to be read. */
  function numberGrid(label, values, columns, kind, low, high, shown = values) {
    const cells = Array.from(values, (value, i) => {
      const cell = make("i", { text: show(shown[i], 2) });
      const { css, isLight } = paintCss(kind, value, low, high);
      cell.style.background = css;
      cell.classList.add(isLight ? "on-light" : "on-dark");
      return cell;
    });
    const grid = make("div", {
      class: `numbers columns-${columns}`, role: "img",
      "aria-label": `${label}: ${Array.from(values, (value) => show(value)).join(", ")}`,
    }, ...cells);
    return make("figure", { class: "operand" }, grid, make("figcaption", { text: label }));
  }

  function cellGrid(label, values, columns, kind, low, high) {
    const canvas = make("canvas", { class: `cells columns-${columns}`, role: "img", "aria-label": label });
    drawCells(canvas, values, columns, kind, low, high);
    return canvas;
  }

  const sign = (text) => make("span", { class: "sign", text, "aria-hidden": "true" });

  /** One patch large, with its numbers: values x weights = products, which add up to `sum`. */
  function showOne(term, range, below, sum) {
    const [label, columns] = [`patch of ${below.name === "input" ? "the input" : below.name}`, term.columns];
    const values = term.isSummed ? roundTogether(term.values, term.sum, 2) : term.values;
    const parts = [numberGrid(label, term.values, columns, range.kind, range.low, range.high, values)];
    if (term.weights) {
      const [w, p] = [most(term.weights), most(term.products)];
      parts.push(sign("\u00d7"), numberGrid("weights", term.weights, columns, "signed", -w, w));
      const products = roundTogether(term.products, sum, 2);
      parts.push(sign("="), numberGrid("products", term.products, columns, "signed", -p, p, products));
    }
    return make("div", { class: "terms one" }, ...parts);
  }

  /** A patch for each map below, small, with the sum that each gives; these add up to `sum`. */
  function showMany(terms, range, below, sum, digits) {
    const scale = most(terms.flatMap((term) => Array.from(term.weights)));
    const sums = roundTogether(terms.map((term) => term.sum), sum, digits);
    const columns = terms.map((term, i) =>
      make("div", { class: "term" },
        make("span", { class: "small", text: terms.length > 6 ? term.map + 1 : `map ${term.map + 1}` }),
        cellGrid(`patch of ${below.name} map ${term.map + 1}`, term.values, 5, range.kind, range.low, range.high),
        sign("\u00d7"),
        cellGrid(`weights for map ${term.map + 1}`, term.weights, 5, "signed", -scale, scale),
        make("b", { text: show(sums[i], digits) }),
      ),
    );
    return make("div", { class: "terms many" }, ...columns);
  }

  /** All units below: as they are, the weights (or the code), the products (or squares). */
  function showAll(term, range, kind) {
    const isCode = kind === "rbf";
    const [w, p] = [isCode ? range.high : most(term.weights), most(term.products)];
    const part = (label, values, ...colours) =>
      make("figure", { class: "operand" }, cellGrid(label, values, term.columns, ...colours), make("figcaption", { text: label }));
    return make("div", { class: "terms all" },
      part(isCode ? "F6" : "values", term.values, range.kind, range.low, range.high),
      sign(isCode ? "\u2212" : "\u00d7"),
      part(isCode ? "its code" : "weights", term.weights, "signed", -w, w),
      sign(isCode ? "\u2192" : "="),
      part(isCode ? "squares" : "products", term.products, "signed", -p, p),
    );
  }

  /** The sum in words and numbers; `sum` and `bias` are what is shown of its parts. */
  function formula(found, sum, bias, digits) {
    const number = (value, places = digits) => make("b", { text: show(value, places) });
    const parts = [];
    if (found.kind === "rbf") parts.push("sum of the squares = ", number(-found.total));
    else if (found.kind === "subsampling" && found.pooling !== "trained") {
      parts.push(found.pooling === "max" ? "largest = " : "mean = ", number(found.total));
    } else if (found.kind === "subsampling") {
      parts.push("sum ", number(found.terms[0].sum), " \u00d7 ", number(found.coefficient, 4), " = ", number(sum));
      parts.push(", + bias ", number(bias), " = ", number(found.total));
    } else parts.push("sum of the products ", number(sum), " + bias ", number(bias), " = ", number(found.total));
    if (found.squash) {
      const name = found.squash.includes("(") ? `${found.squash} \u00b7 ${show(found.total)})` : found.squash;
      parts.push(` \u2192 ${name} \u2192 `, number(found.value));
    }
    return make("p", { class: "formula" }, ...parts);
  }

  /** The activation as a curve, with the point that this cell's sum is at. */
  function curve({ f }, sum) {
    const reach = Math.max(4, Math.abs(sum));
    const sums = Array.from({ length: 81 }, (_, i) => (i / 40 - 1) * reach);
    const values = sums.map(f);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const x = (a) => 60 + (56 * a) / reach;
    const y = (value) => 46 - (42 * (value - low)) / (high - low);
    return shape("svg", { class: "activation", viewBox: "0 0 120 50", "aria-hidden": "true" },
      shape("path", { class: "axes", d: `M4 ${y(0)}H116M60 4V46` }),
      shape("polyline", { class: "line", points: sums.map((a, i) => `${x(a)},${y(values[i])}`).join(" ") }),
      shape("circle", { class: "point", cx: x(sum), cy: y(f(sum)), r: 3 }));
  }

  /** From the score of a class to its share: e to the power of each, divided by their sum. */
  function shareFormula(network, logits, map) {
    const count = (value) => (value < 100 ? show(value) : Math.round(value).toLocaleString("en"));
    const powers = Array.from(logits, (logit) => Math.exp(logit / network.temperature));
    if (network.hasGarbage) powers.push(1);
    const sum = powers.reduce((total, power) => total + power, 0);
    const per = network.temperature === 1 ? "" : `, divided by the temperature ${show(network.temperature)},`;
    const others = network.hasGarbage ? "all classes and e\u2070 = 1 for no digit" : "all classes";
    return make("p", { class: "formula" },
      `The score${per} as a power of e: `, make("b", { text: count(powers[map]) }), `. Of ${others} together, `,
      make("b", { text: count(sum) }), ", that is ", make("b", { text: lenet.percent(powers[map] / sum) }), ".");
  }

  /** Show what the layers do, before a cell is pointed at. */
  function introduce() {
    byId("inspector-title").textContent = "How a cell is computed";
    byId("inspector").classList.remove("is-open", "is-held");
    byId("explanation").replaceChildren(
      make("dl", { class: "introduction" },
        ...INTRODUCTION.flatMap(([term, text]) => [make("dt", { text: term }), make("dd", { text })])),
    );
  }

  /** Show how a cell is computed. */
  function showCell(network, state, index, cell, isHeld) {
    const found = lenet.explain(network, state, index, cell);
    const layer = network.layers[index];
    const below = network.layers[index - 1] ?? layer;
    const title = byId("inspector-title");
    title.replaceChildren(
      `${lenet.nameCell(network, index, cell)} `,
      make("span", { class: "value", text: `= ${show(found.value)}` }),
    );
    byId("inspector").classList.add("is-open");
    byId("inspector").classList.toggle("is-held", isHeld);
    const parts = [make("p", { class: "small", text: describe(layer, below, found) })];
    if (index > 0) {
      const range = lenet.findRange(network, index - 1, state[index - 1]);
      const [term] = found.terms;
      const digits = decimals(found.total);
      const { bias = 0 } = found;
      const [sum, shownBias] = roundTogether([found.total - bias, bias], found.total, digits);
      if (found.kind === "full" || found.kind === "rbf") parts.push(showAll(term, range, found.kind));
      else if (found.terms.length === 1) parts.push(showOne(term, range, below, sum));
      else parts.push(showMany(found.terms, range, below, sum, digits));
      const text = formula(found, sum, shownBias, digits);
      parts.push(found.squash
        ? make("div", { class: "squashed" }, text, curve(layer.squash, found.total)) : text);
      const isScore = found.kind === "full" && index === network.layers.length - 1;
      if (isScore) parts.push(shareFormula(network, state[index], cell.map));
    }
    byId("explanation").replaceChildren(...parts);
  }

  Object.assign(lenet, { introduce, roundTogether, showCell });
})();
