/* The answer: a bar for each class, for one network or two, and the verdict in words. */
(() => {
  const { byId, make, percent, show } = lenet;
  const MATTERS = 0.01; // share from which the second guess is named

  /** Make the bars. point(cell, how) is called when one is pointed at. */
  function makeAnswer(point) {
    let network = null;
    let rows = [];
    const container = byId("bars");

    function build(next, hasRival) {
      network = next;
      const output = network.layers.at(-1);
      container.classList.toggle("has-rival", hasRival);
      container.classList.toggle("has-codes", output.kind === "rbf");
      byId("bars-note").hidden = output.kind !== "rbf";
      rows = network.classes.map((name, map) => {
        const [fill, rival] = [make("span", { class: "fill" }), make("span", { class: "rival" })];
        const text = make("span", { class: "number" });
        const more = make("span", { class: "visually-hidden" });
        const parts = [make("span", { class: "class", text: name })];
        if (output.kind === "rbf") {
          const code = make("canvas", { class: "code", "aria-hidden": "true" });
          lenet.drawCells(code, output.codes.subarray(map * 84, (map + 1) * 84), 7, "ink", -1, 1);
          parts.push(code);
        }
        const track = make("span", { class: "track" }, fill, rival);
        const row = make("div", { class: "bar", role: "option", tabindex: map ? "-1" : "0", "data-map": map },
          ...parts, track, text, more);
        row.addEventListener("pointerenter", (event) => {
          if (event.pointerType === "mouse") point(cellOf(row), "hover");
        });
        row.addEventListener("focus", () => {
          for (const other of rows) other.row.tabIndex = other.row === row ? 0 : -1;
          if (row.matches(":focus-visible")) point(cellOf(row), "key");
        });
        row.addEventListener("keydown", (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          point(cellOf(row), "hold");
        });
        return { row, fill, rival, text, more };
      });
      container.replaceChildren(...rows.map(({ row }) => row));
    }

    const cellOf = (row) => ({ map: Number(row.dataset.map), row: 0, column: 0 });
    lenet.rove(container, ".bar", (row) => point(cellOf(row), "tap"));

    /**
     * Show probabilities (of no digit: null), beside those of the other network where there is one.
     * Returns the answer {name, share}, or null where there is none.
     */
    function draw(logits, other) {
      const shares = logits && lenet.softmax(network, logits);
      const none = shares ? 1 - shares.reduce((sum, share) => sum + share, 0) : 1;
      const first = shares ? shares.indexOf(Math.max(...shares)) : -1;
      const best = first >= 0 && shares[first] >= none ? first : -1;
      rows.forEach(({ row, fill, rival, text, more }, map) => {
        const share = shares?.[map] ?? 0;
        fill.style.transform = `scaleX(${share})`;
        rival.style.transform = `scaleX(${other?.shares?.[map] ?? 0})`;
        const penalty = network.layers.at(-1).kind === "rbf" && shares ? `${show(-logits[map], 1)}` : "";
        text.textContent = !shares ? "" : penalty || percent(share);
        row.setAttribute("aria-selected", map === best);
        more.textContent = penalty && `, its penalty; ${percent(share)}`;
        row.classList.toggle("is-best", map === best);
      });
      byId("verdict").textContent = best >= 0 ? network.classes[best] : "\u2013";
      byId("verdict").classList.toggle("is-empty", best < 0);
      byId("verdict").classList.toggle("is-long", best >= 0 && network.classes[best].length > 2);
      byId("verdict-text").textContent =
        best >= 0 ? verdict(shares, best)
        : shares ? `not a digit, ${percent(none)} sure${next(shares, first)}`
        : "nothing to read yet";
      const rivals = byId("rivals");
      rivals.hidden = !other?.shares;
      if (other?.shares) {
        const top = Math.max(...other.shares);
        rivals.replaceChildren(make("span", { class: "key" }),
          `The ${other.title} network says ${other.classes[other.shares.indexOf(top)]} (${percent(top)})`);
      }
      return best >= 0 ? { name: network.classes[best], share: shares[best] } : null;
    }

    /** Show a number, and the field that it was read from, in place of the digit; null: none. */
    function drawNumber(number) {
      byId("line").hidden = !number;
      if (!number) return;
      const { width, data } = number.field;
      byId("verdict").textContent = number.text;
      byId("verdict").classList.remove("is-empty");
      byId("verdict").classList.toggle("is-long", number.text.length > 2);
      byId("verdict-text").textContent = `a number, ${percent(number.share)} sure`;
      lenet.drawCells(byId("line-field"), data, width, "ink", 0, 1);
      byId("line").style.setProperty("--window", `${(100 * lenet.FIELD) / width}%`);
      byId("line-digits").replaceChildren(...[...number.text].map((text, i) => {
        const mark = make("span", { text });
        mark.style.left = `${(100 * number.places[i]) / width}%`;
        return mark;
      }));
    }

    /** Name the next likely class where it might have been the answer. */
    const next = (shares, map) =>
      (shares[map] < MATTERS ? "" : `; next ${network.classes[map]}, ${percent(shares[map])}`);

    function verdict(shares, best) {
      const second = shares.reduce((found, share, i) => (i !== best && (found < 0 || share > shares[found]) ? i : found), -1);
      return `${percent(shares[best])} sure${next(shares, second)}`;
    }

    return {
      build,
      draw,
      drawNumber,
      /** Return where a bar is on the screen. */
      locate: (map) => rows[map].row.querySelector(".class").getBoundingClientRect(),
      press(key) {
        container.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      },
    };
  }

  Object.assign(lenet, { makeAnswer });
})();
