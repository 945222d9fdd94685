/* Examples to step through: digits drawn here, test images, and the network's own mistakes. */
(() => {
  const { byId, make } = lenet;

  // Points of strokes that a smooth curve is led through, in the board's units.
  const DRAWN = {
    3: [[[88, 78], [120, 50], [165, 52], [186, 85], [165, 120], [126, 134]],
      [[126, 134], [172, 138], [197, 172], [182, 214], [138, 230], [92, 208]]],
    0: [[[145, 48], [98, 76], [80, 140], [98, 206], [143, 232], [188, 204], [202, 138], [185, 76], [145, 48]]],
    1: [[[110, 92], [148, 52], [148, 52], [146, 140], [143, 230]]],
    2: [[[86, 92], [108, 58], [152, 50], [184, 82], [172, 126], [132, 172], [88, 222], [88, 222], [142, 220], [198, 226]]],
    4: [[[118, 52], [100, 98], [82, 146], [82, 146], [136, 150], [200, 146]], [[168, 92], [164, 160], [160, 232]]],
    5: [[[182, 54], [110, 56], [110, 56], [104, 122], [104, 122], [150, 114], [188, 144], [188, 190], [150, 228], [92, 212]]],
    6: [[[172, 52], [122, 88], [96, 146], [100, 204], [142, 230], [182, 204], [178, 160], [140, 142], [104, 172]]],
    7: [[[82, 60], [140, 60], [196, 58], [196, 58], [162, 128], [126, 230]]],
    8: [[[180, 78], [142, 50], [102, 76], [122, 122], [168, 154], [182, 202], [142, 232], [100, 204], [116, 156], [162, 122], [182, 78]]],
    9: [[[182, 96], [150, 54], [104, 72], [98, 118], [138, 138], [180, 104], [184, 86], [180, 150], [164, 232]]],
  };

  /** Return a smooth curve through points (Catmull and Rom's); a point given twice is a corner. */
  function smoothCurve(points, steps = 9) {
    const curve = [points[0]];
    for (let i = 0; i + 1 < points.length; i++) {
      const [a, b, c, d] = [points[Math.max(0, i - 1)], points[i], points[i + 1], points[Math.min(points.length - 1, i + 2)]];
      if (b[0] === c[0] && b[1] === c[1]) continue;
      for (let k = 1; k <= steps; k++) {
        const t = k / steps;
        curve.push([0, 1].map((axis) => 0.5 * (
          2 * b[axis] + (c[axis] - a[axis]) * t
          + (2 * a[axis] - 5 * b[axis] + 4 * c[axis] - d[axis]) * t ** 2
          + (3 * b[axis] - a[axis] - 3 * c[axis] + d[axis]) * t ** 3
        )));
      }
    }
    return curve;
  }

  const drawnStrokes = (name) => DRAWN[name].map((points) => smoothCurve(points));

  /** Make the collections out of what the page holds: [{title, items: [{text, image|strokes}]}]. */
  function makeCollections(digits) {
    const drawn = Object.keys(DRAWN).map((name) => ({ text: `Drawn here: ${name}`, strokes: drawnStrokes(name) }));
    const collections = [{ title: "Drawn", items: drawn }];
    if (!digits) return collections;
    const images = lenet.fromBase64(digits.images);
    const logits = new Float32Array(lenet.fromBase64(digits.logits).buffer);
    const count = digits.classes.length;
    const items = digits.labels.map((label, i) => {
      const row = logits.subarray(i * count, (i + 1) * count);
      const read = digits.mistakes[i] ? `, read as ${digits.classes[row.indexOf(Math.max(...row))]}` : "";
      return {
        image: images.subarray(i * 784, (i + 1) * 784),
        isMistake: digits.mistakes[i],
        text: `Test image ${digits.numbers[i].toLocaleString("en")}, labelled ${digits.classes[label]}${read}`,
      };
    });
    for (const [title, isMistake] of [["Test", false], ["Mistakes", true]]) {
      const chosen = items.filter((item) => Boolean(item.isMistake) === isMistake);
      if (chosen.length) collections.push({ title, items: chosen });
    }
    return collections;
  }

  /** Make a choice of several as buttons of which one is pressed. */
  function makeSwitch(container, titles, choose) {
    const buttons = titles.map((text, i) =>
      make("button", { type: "button", role: "radio", text, "data-index": i }));
    const set = (index) => buttons.forEach((button, i) => {
      button.setAttribute("aria-checked", i === index);
      button.tabIndex = i === index ? 0 : -1;
    });
    container.replaceChildren(...buttons);
    container.onclick = container.onkeydown = null;
    buttons.forEach((button, i) => button.addEventListener("click", () => {
      set(i);
      choose(i);
    }));
    container.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const now = buttons.indexOf(document.activeElement);
      const next = buttons[(now + step + buttons.length) % buttons.length];
      next.focus();
      next.click();
    };
    set(0);
    return set;
  }

  /** Show the strip of examples. take(item) is called with the one that is chosen. */
  function makeStrip(collections, take) {
    const strip = byId("strip");
    let [items, at] = [[], -1];

    function fill(index) {
      items = collections[index].items;
      at = -1;
      strip.replaceChildren(...items.map((item, i) => {
        const canvas = make("canvas", { width: 28, height: 28 });
        if (item.image) lenet.drawCells(canvas, item.image, 28, "ink", 0, 255);
        else drawThumb(canvas, item.strokes);
        return make("div", {
          class: "example", role: "option", tabindex: i ? "-1" : "0", "aria-selected": "false",
          "aria-label": item.text, "data-index": i,
        }, canvas);
      }));
    }

    function choose(index) {
      at = (index + items.length) % items.length;
      const options = [...strip.children];
      options.forEach((option, i) => {
        option.setAttribute("aria-selected", i === at);
        option.tabIndex = i === at ? 0 : -1;
      });
      const { offsetLeft, offsetTop, offsetWidth, offsetHeight } = options[at];
      strip.scrollTo({
        left: offsetLeft - (strip.clientWidth - offsetWidth) / 2,
        top: offsetTop - (strip.clientHeight - offsetHeight) / 2,
      });
      byId("example-text").textContent = items[at].text;
      take(items[at]);
    }

    makeSwitch(byId("collections"), collections.map(({ title, items: all }) => `${title} ${all.length}`), fill);
    lenet.rove(strip, ".example", (option) => choose(Number(option.dataset.index)));
    byId("next").addEventListener("click", () => choose(at + 1));
    byId("previous").addEventListener("click", () => choose(at < 0 ? -1 : at - 1));
    fill(0);
    return {
      /** Nothing of the strip is on the board any more. */
      leave() {
        strip.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
        byId("example-text").textContent = "";
      },
      repaint() {
        [...strip.children].forEach((option, i) => {
          const [canvas, item] = [option.firstChild, items[i]];
          if (item.image) lenet.drawCells(canvas, item.image, 28, "ink", 0, 255);
          else drawThumb(canvas, item.strokes);
        });
      },
    };
  }

  function drawThumb(canvas, strokes) {
    [canvas.width, canvas.height] = [56, 56];
    const context = canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    context.fillStyle = style.getPropertyValue("--paper");
    context.fillRect(0, 0, 56, 56);
    context.setTransform(0.2, 0, 0, 0.2, 0, 0);
    context.strokeStyle = style.getPropertyValue("--pen");
    context.lineWidth = 20;
    context.lineCap = context.lineJoin = "round";
    for (const points of strokes) {
      context.beginPath();
      for (const [x, y] of points) context.lineTo(x, y);
      context.stroke();
    }
  }

  Object.assign(lenet, { drawnStrokes, makeCollections, makeStrip, makeSwitch });
})();
