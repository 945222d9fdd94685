/* The training view: a network with random weights learns in a worker, and the page shows how. */
(() => {
  const { byId, make } = lenet;
  const NORMAL = {
    lr: 0.003, batch: 64, activation: "relu", pooling: "max", count: Infinity, epochs: 3,
    order: "shuffled", labels: "true",
  };
  // What can be chosen: a label, the values with their names, and what it does.
  const CONTROLS = {
    lr: ["Learning rate", { 0.0003: "0.0003", 0.001: "0.001", 0.003: "0.003", 0.01: "0.01", 1: "1" },
      "How far each step moves the weights against their gradients, at its peak."],
    batch: ["Batch size", { 8: "8", 32: "32", 64: "64", 256: "256" },
      "Of how many images the gradients are averaged for a step."],
    activation: ["Activation", { relu: "relu", tanh: "tanh", silu: "silu" },
      "What bends the sum of each unit; without it all layers would be one."],
    pooling: ["Pooling", { max: "max", average: "average" },
      "What S2 and S4 keep of each 2 \u00d7 2 cells."],
    count: ["Images", { 100: "100", 1000: "1,000", 5000: "5,000", Infinity: "all" },
      "How many images it learns from."],
    epochs: ["Epochs", { 1: "1", 3: "3", 10: "10", 60: "60", 100: "100" },
      "How often it sees each of them."],
    order: ["Order", { shuffled: "shuffled", sorted: "sorted by digit" },
      "In which the images come: a new random order for each epoch, or always all 0, then all 1, ..."],
    labels: ["Labels", { true: "true", random: "random" }, "Whether the images are labelled right."],
  };
  const EXPERIMENTS = [
    ["As usual", {}, "Most is learned in the first seconds: watch the first mistakes go."],
    ["Rate too high", { lr: 1 },
      "Each step overshoots: the loss jumps, and stays where guessing is (2.3, the logarithm of ten)."],
    ["No shuffling", { order: "sorted", epochs: 1 },
      "It learns the digit that it sees at the moment, and forgets those before."],
    ["Random labels", { labels: "random", count: 1000, epochs: 60 },
      "There is nothing to learn, so it learns by heart: right on its own images, guessing on others."],
    ["100 images", { count: 100, epochs: 100 },
      "Soon right on its own 100, it goes on being wrong on others: it overfits."],
    ["As in 1998", { activation: "tanh", pooling: "average" },
      "tanh and averages, much as in the paper: slower at first, and nearly as good."],
  ];
  const NAMES = ["feature_extractor.0", "feature_extractor.3", "feature_extractor.6", "classifier.0", "classifier.2"];
  const SHAPES = [[6, 1, 5, 5], [16, 6, 5, 5], [120, 16, 5, 5], [84, 120], [10, 84]];
  const DRAW_EVERY_MS = 250; // so that the pen is answered at once meanwhile
  const [BACKGROUND, INK] = [-0.4242, 2.8215]; // mean 0 and variance 1 over MNIST's pixels

  const inflate = async (bytes) =>
    new Uint8Array(await new Response(
      new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());

  const part = ({ images, labels }, start, end) => ({
    images: images.slice(784 * start, 784 * end), labels: labels.slice(start, end),
  });

  /** Split all digits into those to learn from, those to look at meanwhile, and the test images. */
  function split(train, test) {
    const numVal = Math.min(2000, Math.floor(train.labels.length / 10));
    const numTrain = train.labels.length - numVal;
    return { train: part(train, 0, numTrain), val: part(train, numTrain, train.labels.length), test };
  }

  /** Read the digits in the page: images and labels to train on, then those to test on. */
  async function readPageDigits({ train, test }) {
    const bytes = await inflate(lenet.fromBase64(byId("page-training").textContent));
    let place = 0;
    const take = (length) => bytes.subarray(place, (place += length));
    const [a, b] = [train, test].map((count) => ({ images: take(784 * count), labels: take(count) }));
    return split(a, b);
  }

  /** Read MNIST's four IDX files, gzipped or not, whatever their names. */
  async function readFiles(files) {
    const sets = {};
    for (const file of files) {
      let bytes = new Uint8Array(await file.arrayBuffer());
      if (bytes[0] === 0x1f && bytes[1] === 0x8b) bytes = await inflate(bytes);
      const view = new DataView(bytes.buffer);
      const kind = { 0x803: "images", 0x801: "labels" }[bytes.length > 16 && view.getUint32(0)];
      const count = kind && view.getUint32(4);
      const values = bytes.subarray(kind === "images" ? 16 : 8);
      if (!kind || values.length !== count * (kind === "images" ? 784 : 1)) {
        throw new Error(`${file.name}: not a file of 28 \u00d7 28 images or labels in MNIST's format (IDX)`);
      }
      (sets[count] ??= {})[kind] = values;
    }
    const pairs = Object.values(sets).filter(({ images, labels }) => images && labels);
    if (pairs.length !== 2) throw new Error("choose four files: images and labels to train on, and to test on");
    const [test, train] = pairs.sort((a, b) => a.labels.length - b.labels.length);
    return split(train, test);
  }

  /** Return a model file that `lenet evaluate` reads. */
  function modelFile(weights, settings, scores) {
    const tensors = { background: [[], Float32Array.of(BACKGROUND)], ink: [[], Float32Array.of(INK)] };
    weights.forEach((values, k) => {
      const shape = SHAPES[k >> 1];
      tensors[`${NAMES[k >> 1]}.${k % 2 ? "bias" : "weight"}`] = [k % 2 ? [shape[0]] : shape, values];
    });
    return lenet.writeModelFile({
      format: 1, model: "lenet5", dataset: "mnist", classes: [..."0123456789"], epochs: settings.epochs,
      seed: settings.seed, recipe_name: "browser", scores,
      config: {
        num_classes: 10, in_channels: 1, activation: settings.activation, pooling: settings.pooling,
        resize: "pad", background: Math.fround(BACKGROUND), ink: Math.fround(INK),
      },
    }, tensors);
  }

  /** Draw curves over the steps: lines of [step, value], each in a colour of the theme. */
  function drawCurves(canvas, numSteps, lines, { low, high, log = false, ticks }) {
    const scale = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    [canvas.width, canvas.height] = [width * scale, height * scale];
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const css = (name) => getComputedStyle(canvas).getPropertyValue(name);
    const to = log ? Math.log : (value) => value;
    const y = (value) => 6 + (height - 12) * (1 - (to(Math.min(high, Math.max(low, value))) - to(low)) / (to(high) - to(low)));
    const x = (step) => 44 + ((width - 50) * step) / numSteps;
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const [value, text] of ticks) {
      pen.fillStyle = css("--muted");
      pen.fillText(text, 38, y(value));
      pen.fillStyle = css("--line");
      pen.fillRect(44, y(value), width - 50, 1);
    }
    for (const { points, colour } of lines) {
      pen.strokeStyle = css(colour);
      pen.lineWidth = 2;
      pen.beginPath();
      points.forEach(([step, value]) => pen.lineTo(x(step), y(value)));
      pen.stroke();
    }
  }

  /** Draw 5 x 5 kernels in `rows` x `columns`, with a cell between them; `at` says which is where. */
  function drawKernels(canvas, values, rows, columns, at) {
    const wide = 6 * columns - 1;
    const cells = new Float32Array((6 * rows - 1) * wide);
    const most = values.reduce((top, value) => Math.max(top, Math.abs(value)), 0);
    for (let i = 0; i < rows * columns * 25; i++) {
      const kernel = Math.floor(i / 25);
      const [row, column] = [Math.floor(kernel / columns), kernel % columns];
      const [top, left] = [6 * row + Math.floor((i % 25) / 5), 6 * column + (i % 5)];
      cells[top * wide + left] = values[25 * at(row, column) + (i % 25)];
    }
    lenet.drawCells(canvas, cells, wide, "signed", -most, most);
  }

  /**
   * Make the training view; without digits in the page (`facts`), a button opens it.
   * `adopt(bytes, isNew)` is given the model file of the network as it learns. Returns what takes files of digits.
   */
  function makeTraining(facts, adopt) {
    byId("train").hidden = Boolean(facts);
    byId("train").addEventListener("click", () => {
      byId("training").hidden = !byId("training").hidden;
      byId("training").scrollIntoView({ behavior: "smooth" });
    });
    const state = { digits: null, worker: null, settings: null, isRunning: false, latest: null, history: null };
    const selects = {};

    const say = (text) => (byId("training-text").textContent = text);
    for (const [name, [label, values, help]] of Object.entries(CONTROLS)) {
      const options = Object.entries(values).map(([value, text]) =>
        make("option", { value, text, selected: value === String(NORMAL[name]) }));
      selects[name] = make("select", { id: `training-${name}`, onchange: reset }, ...options);
      byId("training-controls").append(make("div", { class: "control" },
        make("label", { for: `training-${name}`, text: label }), selects[name], make("p", { class: "small", text: help })));
    }
    for (const [text, changes, watch] of EXPERIMENTS) {
      byId("experiments").append(make("button", { type: "button", text, onclick: async () => {
        for (const [name, value] of Object.entries({ ...NORMAL, ...changes })) selects[name].value = String(value);
        byId("experiment-text").textContent = watch;
        await reset();
        go(true);
      } }));
    }

    function chosen() {
      const settings = { seed: 0, smoothing: 0.02, background: BACKGROUND, ink: INK };
      for (const [name, select] of Object.entries(selects)) {
        settings[name] = Number.isNaN(Number(select.value)) ? select.value : Number(select.value);
      }
      settings.count = Math.min(settings.count, state.digits.train.labels.length);
      return settings;
    }

    /** Begin again with random weights, as the controls say. */
    async function reset() {
      if (!state.digits) return;
      state.worker?.terminate();
      state.module ??= await WebAssembly.compile(await inflate(lenet.fromBase64(byId("kernels").textContent)));
      Object.assign(state, { settings: chosen(), scores: {}, history: { loss: [], accuracy: [], valLoss: [], valAccuracy: [] } });
      state.isNew = true;
      state.worker = lenet.startTeacher(receive);
      state.worker.postMessage({ prepare: { module: state.module, ...state.digits, settings: state.settings } });
      go(false);
      byId("training-result").textContent = "";
    }

    function go(isRunning) {
      state.isRunning = isRunning;
      byId("training-run").textContent = isRunning ? "Pause" : "Start";
      byId("training-step").disabled = isRunning;
      state.worker?.postMessage({ run: isRunning });
    }

    function receive({ progress, scored, done }) {
      const { history } = state;
      if (scored) {
        history.valLoss.push([scored.step, scored.loss]);
        history.valAccuracy.push([scored.step, scored.accuracy]);
        state.scored = scored;
      }
      if (progress) {
        if (progress.loss !== null) {
          history.loss.push([progress.step, progress.loss]);
          history.accuracy.push([progress.step, progress.accuracy]);
        }
        if (!state.latest) setTimeout(() => requestAnimationFrame(draw), DRAW_EVERY_MS);
        state.latest = progress;
      }
      if (done) {
        state.scores = { test_accuracy: done.accuracy, val_accuracy: state.scored.accuracy };
        go(false);
        byId("training-result").textContent =
          `${(100 * done.accuracy).toFixed(2)} % of the ${state.digits.test.labels.length.toLocaleString("en")} test images `
          + `right, which it saw only now; ${done.numWrong} wrong. Learned in ${done.seconds.toFixed(1)} s.`;
        lenet.trained = done;
      }
    }

    function draw() {
      const { latest: progress, history, settings, scored } = state;
      state.latest = null;
      const { step, numSteps, seconds, images, weights } = progress;
      drawCurves(byId("training-loss"), numSteps, [
        { points: history.loss, colour: "--muted" }, { points: history.valLoss, colour: "--accent" },
      ], { low: 0.01, high: 4, log: true, ticks: [[0.01, "0.01"], [0.1, "0.1"], [1, "1"]] });
      drawCurves(byId("training-accuracy"), numSteps, [
        { points: history.accuracy, colour: "--muted" }, { points: history.valAccuracy, colour: "--accent" },
      ], { low: 0, high: 1, ticks: [[0, "0 %"], [0.5, "50 %"], [1, "100 %"]] });
      drawKernels(byId("training-c1"), weights[0], 1, 6, (row, column) => column);
      drawKernels(byId("training-c3"), weights[2], 6, 16, (row, column) => 6 * column + row);
      say(`Epoch ${Math.max(1, progress.epoch)} of ${settings.epochs}, step ${step.toLocaleString("en")} of ${numSteps.toLocaleString("en")}`
        + (seconds ? `, ${Math.round(images / seconds).toLocaleString("en")} images a second` : ""));
      if (scored !== state.shown) showMistakes(scored);
      state.shown = scored;
      state.weights = weights;
      // Random weights are shown only in place of others that were learned here.
      if (!step && !state.isShown) return;
      adopt(modelFile(weights, settings, state.scores), state.isNew);
      state.isShown = true;
      state.isNew = false;
    }

    function showMistakes(scored) {
      byId("training-mistakes-text").textContent =
        `Misread of ${state.digits.val.labels.length.toLocaleString("en")} validation images: ${scored.numWrong.toLocaleString("en")} `
        + `(${(100 * scored.accuracy).toFixed(1)} % right)`;
      byId("training-mistakes").replaceChildren(...scored.mistakes.map(({ index, answer }) => {
        const canvas = make("canvas");
        const { images: pixels, labels } = state.digits.val;
        lenet.drawCells(canvas, pixels.subarray(784 * index, 784 * index + 784), 28, "ink", 0, 255);
        return make("figure", { title: `a ${labels[index]}, read as ${answer}` }, canvas, make("figcaption", { text: answer }));
      }));
    }

    /** Take digits to train on, and show an untrained network. */
    async function useDigits(reading) {
      byId("training").hidden = false;
      try {
        state.digits = await reading;
        const { train, val, test } = state.digits;
        const [a, b, c] = [train, val, test].map(({ labels }) => labels.length.toLocaleString("en"));
        byId("training-lead").textContent = `A LeNet-5 with random weights learns in this browser, from ${a} images. `
          + `${b} others show how well it reads what it has not seen, and ${c} test images score it once, at the end.`;
        byId("training-buttons").hidden = false;
        await reset();
      } catch (error) {
        say(error.message);
      }
    }

    byId("training-files").addEventListener("change", ({ target }) => useDigits(readFiles(target.files)));
    byId("training-run").addEventListener("click", () => go(!state.isRunning));
    byId("training-step").addEventListener("click", () => state.worker.postMessage({ step: true }));
    byId("training-reset").addEventListener("click", reset);
    byId("training-save").addEventListener("click", () => {
      const bytes = modelFile(state.weights, state.settings, state.scores);
      const url = URL.createObjectURL(new Blob([bytes]));
      make("a", { href: url, download: "model.safetensors" }).click();
      URL.revokeObjectURL(url);
    });
    if (facts) useDigits(readPageDigits(facts));
    return (files) => useDigits(readFiles(files));
  }

  Object.assign(lenet, { makeTraining, modelFile });
})();
