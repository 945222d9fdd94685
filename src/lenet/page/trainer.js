/*
 * LeNet-5 learns in the browser: the compiled kernels (kernels.cpp, as WebAssembly), and a run of them
 * in a worker. `Trainer` and `teach` use nothing from outside, since the worker gets them as text.
 */
(() => {
  /** One network and its Adam, in the memory of the kernels. */
  class Trainer {
    static SIZES = [150, 6, 2400, 16, 48000, 120, 10080, 84, 840, 10];
    static FAN_IN = [25, 25, 150, 150, 400, 400, 120, 120, 84, 84];
    static ACTIVATIONS = ["tanh", "relu", "silu"];
    static POOLINGS = ["average", "max"];
    static MOST = 500; // images a call

    /**
     * Begin with PyTorch's initial weights: uniform within 1 / sqrt(fan-in).
     * `module` is the compiled kernels.wasm; of `options`, background and ink are what a pixel of
     * 0 and of 1 becomes at the network's input.
     */
    constructor(module, { activation, pooling, background, ink, smoothing = 0, seed = 0 }) {
      this.kernels = new WebAssembly.Instance(module, {}).exports;
      this.kernels._initialize();
      const blocks = (sizes) => sizes.map((size) => this.kernels.malloc(4 * size));
      const kinds = { w: blocks(Trainer.SIZES), g: blocks(Trainer.SIZES), m: blocks(Trainer.SIZES),
        v: blocks(Trainer.SIZES), step: blocks(Trainer.SIZES.map(() => 1)) };
      this.weightsAt = kinds.w;
      this.gradientsAt = kinds.g;
      this.pixels = this.kernels.malloc(784 * Trainer.MOST);
      this.labels = this.kernels.malloc(8 * Trainer.MOST);
      this.logitsAt = this.kernels.malloc(4 * 10 * Trainer.MOST);
      [this.call, this.adam] = [this.kernels.malloc(160), this.kernels.malloc(168)];
      for (const kind of ["m", "v", "step"]) {
        kinds[kind].forEach((at, k) => this.floats(at, kind === "step" ? 1 : Trainer.SIZES[k]).fill(0));
      }
      this.setWeights(Trainer.initialWeights(seed));

      // The structs `Call` and `Adam` of kernels.cpp, whose pointers have four bytes here.
      const view = new DataView(this.kernels.memory.buffer);
      const pointers = (at, list) => list.forEach((p, k) => view.setUint32(at + 4 * k, p, true));
      pointers(this.call, [this.pixels, 0, this.logitsAt, 0]);
      pointers(this.call + 24, [...kinds.w, ...kinds.g]);
      [2, 10, Trainer.ACTIVATIONS.indexOf(activation), Trainer.POOLINGS.indexOf(pooling), 1]
        .forEach((value, k) => view.setInt32(this.call + 128 + 4 * k, value, true));
      [background, Math.fround(ink) - Math.fround(background), smoothing]
        .forEach((value, k) => view.setFloat32(this.call + 148 + 4 * k, value, true));
      [0, 0.9, 0.999, 1e-8, 0].forEach((value, k) => view.setFloat64(this.adam + 8 * k, value, true));
      view.setBigInt64(this.adam + 40, 0n, true);
      pointers(this.adam + 48, [...kinds.step, ...kinds.m, ...kinds.v]);
    }

    /** Return a random generator of numbers in [0, 1) (mulberry32). */
    static random(seed) {
      let state = seed | 0;
      return () => {
        state = (state + 0x6d2b79f5) | 0;
        let t = Math.imul(state ^ (state >>> 15), 1 | state);
        t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
        return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
      };
    }

    static initialWeights(seed) {
      const random = Trainer.random(seed);
      return Trainer.SIZES.map((size, k) =>
        Float32Array.from({ length: size }, () => (2 * random() - 1) / Math.sqrt(Trainer.FAN_IN[k])));
    }

    /** Return a window on the kernels' memory; a call that needs more memory invalidates it. */
    floats(at, length) {
      return new Float32Array(this.kernels.memory.buffer, at, length);
    }

    /** Return copies of the ten weights and biases, from C1's to the output's. */
    weights() {
      return this.weightsAt.map((at, k) => this.floats(at, Trainer.SIZES[k]).slice());
    }

    setWeights(weights) {
      weights.forEach((values, k) => this.floats(this.weightsAt[k], Trainer.SIZES[k]).set(values));
    }

    gradients() {
      return this.gradientsAt.map((at, k) => this.floats(at, Trainer.SIZES[k]).slice());
    }

    /**
     * Take one step of Adam on the images of these indices; with lr 0 only compute the gradients.
     * Returns {loss, correct}: mean cross-entropy before the step, and how many were read right.
     */
    learn({ images, labels }, indices, lr) {
      const bytes = new Uint8Array(this.kernels.memory.buffer, this.pixels, 784 * indices.length);
      const wanted = new BigInt64Array(this.kernels.memory.buffer, this.labels, indices.length);
      indices.forEach((index, i) => {
        bytes.set(images.subarray(784 * index, 784 * index + 784), 784 * i);
        wanted[i] = BigInt(labels[index]);
      });
      this.run(indices.length, true, lr);
      const view = new DataView(this.kernels.memory.buffer, this.call);
      return { loss: view.getFloat64(112, true), correct: view.getFloat64(120, true) };
    }

    /** Return the logits of images (784 bytes each), ten each. */
    logits(images) {
      const count = images.length / 784;
      const logits = new Float32Array(10 * count);
      for (let start = 0; start < count; start += Trainer.MOST) {
        const size = Math.min(Trainer.MOST, count - start);
        new Uint8Array(this.kernels.memory.buffer, this.pixels, 784 * size)
          .set(images.subarray(784 * start, 784 * (start + size)));
        this.run(size, false, 0);
        logits.set(this.floats(this.logitsAt, 10 * size), 10 * start);
      }
      return logits;
    }

    /** Return what is read in images, and the mean cross-entropy with their labels. */
    score({ images, labels }) {
      const logits = this.logits(images);
      const answers = new Uint8Array(labels.length);
      let loss = 0;
      labels.forEach((label, i) => {
        const row = logits.subarray(10 * i, 10 * i + 10);
        const top = Math.max(...row);
        answers[i] = row.indexOf(top);
        loss += top - row[label] + Math.log(row.reduce((sum, value) => sum + Math.exp(value - top), 0));
      });
      const wrong = [...answers.keys()].filter((i) => answers[i] !== labels[i]);
      return { loss: loss / labels.length, accuracy: 1 - wrong.length / labels.length, answers, wrong };
    }

    run(count, learns, lr) {
      const view = new DataView(this.kernels.memory.buffer);
      view.setUint32(this.call + 4, learns ? this.labels : 0, true);
      view.setUint32(this.call + 12, lr ? this.adam : 0, true);
      view.setBigInt64(this.call + 16, BigInt(count), true);
      view.setFloat64(this.adam, lr, true);
      if (this.kernels.lenet5_call(this.call) !== 0) throw new Error("the kernels failed");
    }
  }

  /**
   * Train when told to, in a worker. Messages in: {prepare: digits and settings}, {run: true or false},
   * {step: true}. Messages out: {progress}, {scored} on the validation images, and {done} with the
   * score on the test images, which are looked at only then. `post` sends one.
   */
  function teach(post) {
    const TURN_MS = 50; // between looks at the messages
    let run = null;
    let isRunning = false;

    function prepare({ module, train, val, test, settings }) {
      const { count, epochs, batch, order, labels: which, seed } = settings;
      const random = Trainer.random(seed + 1);
      const labels = train.labels.slice(0, count);
      if (which === "random") labels.forEach((_, i) => (labels[i] = Math.floor(10 * random())));
      const indices = [...labels.keys()];
      if (order === "sorted") indices.sort((a, b) => labels[a] - labels[b]);
      run = {
        trainer: new Trainer(module, settings),
        digits: { images: train.images, labels }, val, test, settings, random, indices,
        step: 0, numSteps: epochs * Math.ceil(labels.length / batch), seconds: 0,
        loss: 0, correct: 0, seen: 0,
      };
      score();
      report();
    }

    function shuffle({ indices, random }) {
      for (let i = indices.length - 1; i > 0; i--) {
        const k = Math.floor((i + 1) * random());
        [indices[i], indices[k]] = [indices[k], indices[i]];
      }
    }

    /** The learning rate rises over a tenth of the steps, then falls to nothing. */
    function rate({ step, numSteps, settings: { lr } }) {
      const warmup = Math.max(1, Math.round(numSteps / 10));
      return lr * Math.min((step + 1) / warmup, (numSteps - step) / (numSteps - warmup || 1));
    }

    function takeStep() {
      const { indices, settings: { batch, order } } = run;
      const perEpoch = Math.ceil(indices.length / batch);
      const place = run.step % perEpoch;
      if (place === 0 && order === "shuffled") shuffle(run);
      const chosen = indices.slice(place * batch, place * batch + batch);
      const begin = performance.now();
      const { loss, correct } = run.trainer.learn(run.digits, chosen, rate(run));
      run.seconds += (performance.now() - begin) / 1000;
      run.step++;
      run.loss += loss * chosen.length;
      run.correct += correct;
      run.seen += chosen.length;
      // The validation images are scored four times an epoch, but not more often than every 20 steps.
      if (run.step % Math.max(20, Math.floor(perEpoch / 4)) === 0 || run.step === run.numSteps) score();
    }

    function score() {
      const { accuracy, loss, answers, wrong } = run.trainer.score(run.val);
      const mistakes = wrong.slice(0, 24).map((index) => ({ index, answer: answers[index] }));
      post({ scored: { step: run.step, accuracy, loss, numWrong: wrong.length, mistakes } });
    }

    function report() {
      const { step, numSteps, seen, seconds, settings } = run;
      post({ progress: {
        step, numSteps, seconds, epoch: Math.ceil((step * settings.epochs) / numSteps),
        loss: seen ? run.loss / seen : null, accuracy: seen ? run.correct / seen : null,
        images: step * settings.batch, weights: run.trainer.weights(),
      } });
      run.loss = run.correct = run.seen = 0;
    }

    function turn() {
      if (!isRunning) return;
      const until = performance.now() + TURN_MS;
      while (run.step < run.numSteps && performance.now() < until) takeStep();
      report();
      if (run.step < run.numSteps) setTimeout(turn, 0);
      else finish();
    }

    function finish() {
      isRunning = false;
      const { accuracy, wrong } = run.trainer.score(run.test);
      const numImages = run.settings.epochs * run.indices.length;
      post({ done: { accuracy, numWrong: wrong.length, numImages, seconds: run.seconds } });
    }

    return (message) => {
      if (message.prepare) prepare(message.prepare);
      if ("run" in message) {
        const wasRunning = isRunning;
        isRunning = message.run && run.step < run.numSteps;
        if (isRunning && !wasRunning) turn();
      }
      if (message.step && !isRunning && run.step < run.numSteps) {
        takeStep();
        report();
        if (run.step === run.numSteps) finish();
      }
    };
  }

  /** Return a worker that teaches; what it posts goes to `receive`. */
  function startTeacher(receive) {
    const source = `${Trainer}\n${teach}\nconst tell = teach((m) => postMessage(m));
      onmessage = (event) => tell(event.data);`;
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const worker = new Worker(url);
    URL.revokeObjectURL(url);
    worker.onmessage = (event) => receive(event.data);
    return worker;
  }

  Object.assign(lenet, { Trainer, startTeacher, teach });
})();
