/* The page: what is on the board goes through the network, and everything shows it. */
(() => {
  const { byId } = lenet;
  const TITLES = { lenet5: "Common", "lenet5-1998": "1998" };
  const SAY_AFTER_MS = 700;
  const NUMBER_AFTER_MS = 150; // that the pen rests: to slide over a line takes some frames' time

  /** Tell a screen reader. */
  const say = (text) => {
    byId("live").textContent = text;
  };
  lenet.say = say;

  function start() {
    const facts = JSON.parse(byId("page-data").textContent);
    const networks = [...document.querySelectorAll("script[data-model]")].map((element) =>
      lenet.readNetwork(lenet.fromBase64(element.textContent)));
    const states = networks.map(lenet.makeState);
    let active = 0;
    let trained = null; // the network that learns in the page, once there is one
    let selected = null;
    let isHeld = false;
    let seen = { image: null, frame: null };
    let waiting = null; // the event that the next frame answers, or true
    let sayTimer = 0;
    let numberTimer = 0;
    let number = null; // what was read of a line of several digits

    lenet.readPalettes();
    const layers = lenet.makeLayers(point);
    const answer = lenet.makeAnswer((cell, how) => point(networks[active].layers.length - 1, cell, how));
    const board = lenet.makeBoard((event) => {
      if (event && strip) strip.leave();
      refresh(event);
    });
    const strip = lenet.makeStrip(lenet.makeCollections(facts.digits), (item) => {
      if (item.image) board.showDigit(item.image);
      else board.play(item.strokes);
    });

    /** Read the board and show all of it before the next frame. */
    function refresh(event) {
      const wasWaiting = waiting !== null;
      waiting = event ?? waiting ?? true;
      if (!wasWaiting) requestAnimationFrame(answerFrame);
    }

    function answerFrame() {
      const event = waiting;
      waiting = null;
      seen = board.read();
      number = null;
      compute();
      show();
      clearTimeout(numberTimer);
      numberTimer = setTimeout(() => {
        readNumber();
        share();
      }, NUMBER_AFTER_MS);
      if (event.timeStamp) noteDelay(performance.now() - event.timeStamp);
    }

    /** Keep how long ago the pen moved, for who measures. */
    function noteDelay(delay) {
      lenet.delays.push(delay);
      if (lenet.delays.length > 1000) lenet.delays.shift();
    }

    /** Read what lies side by side as a number, by a network that tells digits from what is none. */
    function readNumber() {
      const network = networks[active];
      const field = network.hasGarbage && seen.ink ? lenet.findLine(seen.ink) : null;
      number = field && lenet.readField(network, field);
      if (number) show();
    }

    /** Keep the drawing and the held cell in the address, so that it can be sent as a link. */
    function share() {
      if (board.isDemo || (!board.strokes.length && !location.hash)) return;
      const link = board.strokes.length ? `#${lenet.toLink(board.strokes, isHeld ? selected : null)}` : "#";
      history.replaceState(null, "", link);
    }

    /** Show what a link says; false where it says nothing. */
    function openLink() {
      const shared = lenet.fromLink(location.hash);
      if (!shared) return false;
      board.showStrokes(shared.strokes);
      const { index, cell } = shared.selected ?? {};
      const layer = networks[active].layers[index];
      if (layer && cell.map < layer.maps && cell.row < layer.rows && cell.column < layer.columns) {
        selected = { index, cell };
        isHeld = true;
      }
      return true;
    }

    function compute() {
      const image = seen.image ?? new Uint8Array(784);
      networks.forEach((network, i) => lenet.run(network, image, states[i]));
    }

    function show() {
      layers.draw(states[active]);
      const logits = (i) => (seen.image ? states[i].at(-1) : null);
      const rival = networks.findIndex((_, i) => i !== active);
      const other = rival >= 0 && {
        title: titleOf(networks[rival]).toLowerCase(),
        classes: networks[rival].classes,
        shares: logits(rival) && lenet.softmax(networks[rival], logits(rival)),
      };
      const best = answer.draw(logits(active), other);
      if (!seen.image && !board.isEmpty()) byId("verdict-text").textContent = "no digit found";
      answer.drawNumber(number);
      byId("seen-text").textContent = describeSeen();
      showSelected();
      clearTimeout(sayTimer);
      sayTimer = setTimeout(() => {
        if (number) say(`Read as the number ${number.text}, ${lenet.percent(number.share)}`);
        else if (best) say(`Read as ${best.name}, ${lenet.percent(best.share)}`);
        else if (seen.image) say("No digit");
      }, SAY_AFTER_MS);
    }

    function describeSeen() {
      if (number) return "Several digits: the network slides over the line. Inside, it sees the heaviest alone.";
      if (board.digit) return "What the network sees: the test image as it is, with paper around it.";
      if (seen.image) return "What the network sees: the digit cropped, fitted into 20 \u00d7 20 pixels and centred.";
      return board.isEmpty() ? "What the network sees: nothing yet." : "No digit found in the picture.";
    }

    /** Name a network; several of one kind are numbered. */
    function titleOf(network) {
      if (network.title) return network.title;
      const title = TITLES[network.card.model];
      const alike = networks.filter((other) => !other.title && other.card.model === network.card.model);
      return alike.length > 1 ? `${title} ${1 + alike.indexOf(network)}` : title;
    }

    function showSelected() {
      if (selected) lenet.showCell(networks[active], states[active], selected.index, selected.cell, isHeld);
      link();
    }

    function link() {
      if (!selected && !byId("links").firstChild) return;
      const canvas = byId("board").getBoundingClientRect();
      const unit = canvas.width / lenet.BOARD;
      const { frame } = seen;
      const onBoard = frame && {
        left: canvas.left + (frame.left - 2 * frame.pixel) * unit,
        top: canvas.top + (frame.top - 2 * frame.pixel) * unit,
        pixel: frame.pixel * unit,
        limits: canvas,
      };
      const last = networks[active].layers.length - 1;
      const spot = (index, map, box) => (index === last ? answer.locate(map) : layers.locate(index, map, box));
      lenet.drawLinks(networks[active], selected, spot, onBoard);
    }

    /** Someone points at a cell. */
    function point(index, cell, how) {
      if (how === "hover" && isHeld) return;
      const isSame = selected && selected.index === index
        && ["map", "row", "column"].every((key) => selected.cell[key] === cell[key]);
      if (how === "tap" || how === "hold") isHeld = !(isHeld && isSame);
      else if (how === "key") isHeld = false;
      if (isSame && how === "hover") return;
      selected = { index, cell };
      showSelected();
      if (how !== "hover") share();
      if (how === "key" || how === "hold") {
        const [value] = [lenet.explain(networks[active], states[active], index, cell).value];
        say(`${lenet.nameCell(networks[active], index, cell)}: ${lenet.show(value)}${isHeld ? ", held" : ""}`);
      }
    }

    function letGo() {
      selected = null;
      isHeld = false;
      lenet.introduce();
      link();
    }

    /** Choose which network's layers are seen. */
    function activate(index) {
      active = index;
      number = null;
      const network = networks[active];
      layers.build(network);
      answer.build(network, networks.length > 1);
      if (selected) layers.place(selected.index, selected.cell);
      if (selected && selected.cell.map >= network.layers[selected.index].maps) letGo();
      if (seen) show();
      readNumber();
    }

    async function take(file) {
      const notice = byId("notice");
      notice.hidden = true;
      try {
        if (file.name?.endsWith(".safetensors")) {
          const network = lenet.readNetwork(new Uint8Array(await file.arrayBuffer()));
          network.title = file.name.replace(/\.safetensors$/, "").slice(0, 24);
          networks.push(network);
          states.push(lenet.makeState(network));
          compute();
          offerNetworks(networks.length - 1);
          activate(networks.length - 1);
          return;
        }
        const { bitmap, pixels } = await lenet.readPicture(file);
        strip.leave();
        board.showPicture(bitmap, pixels);
      } catch (error) {
        notice.textContent = error.message;
        notice.hidden = false;
      }
    }

    /** Show the network that learns in the page; a new one takes the place of the one before. */
    function adopt(bytes, isNew) {
      const network = lenet.readNetwork(bytes);
      if (trained) Object.assign(trained, network);
      else {
        trained = { ...network, title: "Yours" };
        networks.push(trained);
        states.push(lenet.makeState(trained));
      }
      compute();
      if (isNew) {
        offerNetworks(networks.indexOf(trained));
        activate(networks.indexOf(trained));
      } else show();
    }

    function offerNetworks(index) {
      const container = byId("networks");
      byId("network-choice").hidden = networks.length < 2;
      if (networks.length > 1) lenet.makeSwitch(container, networks.map(titleOf), activate)(index);
    }

    function setTheme(name) {
      const root = document.documentElement;
      if (name === "auto") delete root.dataset.theme;
      else root.dataset.theme = name;
      const label = { auto: "as the system", light: "light", dark: "dark" }[name];
      byId("theme").textContent = `Colours: ${label}`;
      repaint();
    }

    function repaint() {
      lenet.readPalettes();
      board.redraw();
      strip.repaint();
      activate(active);
    }

    byId("theme").addEventListener("click", () => {
      const names = ["auto", "light", "dark"];
      setTheme(names[(names.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % 3]);
    });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
    lenet.narrow.addEventListener("change", () => activate(active));
    new ResizeObserver(link).observe(byId("app"));
    byId("clear").addEventListener("click", board.clear);
    byId("undo").addEventListener("click", board.undo);
    byId("close").addEventListener("click", letGo);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") letGo();
    });
    for (const button of document.querySelectorAll("[data-move]")) {
      button.addEventListener("click", () => {
        if (!selected) return;
        if (selected.index === networks[active].layers.length - 1) answer.press(button.dataset.move);
        else layers.press(selected.index, button.dataset.move);
      });
    }
    const takeDigits = lenet.makeTraining(facts.training, adopt);
    lenet.watchFiles(take, takeDigits);
    lenet.introduce();
    offerNetworks(0);
    compute();
    activate(0);
    board.redraw();
    lenet.showFacts(facts, networks);
    window.addEventListener("hashchange", openLink);
    if (!openLink()) board.play(lenet.drawnStrokes("3"));
    lenet.predict = (images, which = 0) => lenet.runMany(networks[which], images);
  }

  lenet.delays = [];
  if (typeof document !== "undefined") start();
})();
