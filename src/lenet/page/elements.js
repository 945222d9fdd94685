/* Elements and colours that every part of the page uses. */
(() => {
  const byId = (id) => document.getElementById(id);

  /** Make an element: attributes by name (`class`, `text`, `on...` too), then its children. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") element.textContent = value;
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }

  /** Make an element of a drawing in SVG. */
  function shape(tag, attributes, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  /** Return a number as it is shown: a true minus sign, two decimals unless it is large. */
  function show(value, digits = Math.abs(value) >= 100 ? 0 : 2) {
    const text = Math.abs(value).toFixed(digits);
    return value < 0 && Number(text) !== 0 ? `\u2212${text}` : text;
  }

  const percent = (share) =>
    share > 0.999 && share < 1 ? ">99.9\u00a0%" : `${(100 * share).toFixed(share < 1 ? 1 : 0)}\u00a0%`;

  const LEVELS = 255;
  const palettes = { signed: null, ink: null };

  /** Parse "#rrggbb" out of a custom property. */
  function colour(name) {
    const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    return [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16));
  }

  /** Read the colours of the theme: signed values from blue through nothing to red; ink on paper. */
  function readPalettes() {
    const blend = (stops) =>
      Uint32Array.from({ length: LEVELS }, (_, i) => {
        const place = (i / (LEVELS - 1)) * (stops.length - 1);
        const low = Math.min(Math.floor(place), stops.length - 2);
        const rgb = stops[low].map((from, c) => from + (stops[low + 1][c] - from) * (place - low));
        return (255 << 24) | (Math.round(rgb[2]) << 16) | (Math.round(rgb[1]) << 8) | Math.round(rgb[0]);
      });
    const names = ["--low2", "--low1", "--zero", "--high1", "--high2"];
    palettes.signed = blend(names.map(colour));
    palettes.ink = blend([colour("--paper"), colour("--pen")]);
  }

  /** Return the packed colour of a value between low and high. */
  function paint(kind, value, low, high) {
    const place = (value - low) / (high - low || 1);
    return palettes[kind][Math.round(Math.min(1, Math.max(0, place)) * (LEVELS - 1))];
  }

  /** Return the same as a CSS colour, and whether dark text reads better on it. */
  function paintCss(kind, value, low, high) {
    const packed = paint(kind, value, low, high);
    const [r, g, b] = [packed & 255, (packed >> 8) & 255, (packed >> 16) & 255];
    return { css: `rgb(${r} ${g} ${b})`, isLight: 0.3 * r + 0.59 * g + 0.11 * b > 140 };
  }

  /** Draw values into a canvas of a pixel each. */
  function drawCells(canvas, values, columns, kind, low, high) {
    const rows = Math.ceil(values.length / columns);
    if (canvas.width !== columns || canvas.height !== rows) {
      [canvas.width, canvas.height] = [columns, rows];
    }
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < values.length; i++) pixels[i] = paint(kind, values[i], low, high);
    context.putImageData(image, 0, 0);
  }

  /**
   * Make one tab stop of several options, between which the arrow keys move.
   * choose(option) is called for what a key or click goes to.
   */
  function rove(container, selector, choose) {
    const options = () => [...container.querySelectorAll(selector)];
    container.addEventListener("keydown", (event) => {
      const all = options();
      const now = all.indexOf(document.activeElement);
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
      let to = now + (steps[event.key] ?? 0);
      if (event.key === "Home") to = 0;
      else if (event.key === "End") to = all.length - 1;
      else if (!(event.key in steps)) return;
      event.preventDefault();
      const option = all[(to + all.length) % all.length];
      choose(option);
      option.focus();
    });
    container.addEventListener("click", (event) => {
      const option = event.target.closest(selector);
      if (option) choose(option);
    });
  }

  Object.assign(lenet, {
    byId, drawCells, make, paint, paintCss, percent, readPalettes, rove, shape, show,
  });
})();
