/* LeNet-5, both of them, as a list of layers that can say how each of their cells came about. */
(() => {
  const SIDE = 28;
  const FIELD = 32;

  // Table I of the paper: the maps of S2 that each map of C3 looks at.
  const TABLE_1 = [
    [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [0, 4, 5], [0, 1, 5],
    [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [0, 3, 4, 5], [0, 1, 4, 5], [0, 1, 2, 5],
    [0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5], [0, 1, 2, 3, 4, 5],
  ];

  const SQUASHES = {
    none: { name: "", f: (a) => a },
    tanh: { name: "tanh", f: Math.tanh, low: -1, high: 1 },
    relu: { name: "relu", f: (a) => Math.max(0, a) },
    silu: { name: "silu", f: (a) => a / (1 + Math.exp(-a)) },
    // eq. (6): f(1) = 1, f(-1) = -1
    paper: {
      name: "1.7159 tanh(2/3",
      f: (a) => 1.7159 * Math.tanh((2 / 3) * a),
      low: -1.7159,
      high: 1.7159,
    },
  };

  const range = (n) => Array.from({ length: n }, (_, i) => i);

  /** Build a network from a model file's bytes; throws an Error with a message for a person. */
  function readNetwork(bytes) {
    const { card, tensors } = lenet.readModelFile(bytes);
    const take = (name, ...shape) => {
      const tensor = tensors[name];
      if (!tensor || tensor.shape.join() !== shape.join()) {
        throw new Error(`${card.model}: expected a tensor ${name} of ${shape.join(" x ") || "one"}`);
      }
      return tensor.data;
    };
    const builders = { lenet5: buildCommon, "lenet5-1998": build1998 };
    if (!(card.model in builders)) throw new Error(`a network of another kind: ${card.model}`);
    if ((card.config.in_channels ?? 1) !== 1) throw new Error("the network takes colour pictures");
    const network = builders[card.model](card.config, take);
    const background = take("background")[0];
    const ink = take("ink")[0];
    return {
      card,
      classes: card.classes.map(String),
      is1998: card.model === "lenet5-1998",
      temperature: card.scores?.temperature || 1,
      hasGarbage: card.has_garbage === true,
      resize: card.config.resize ?? "pad",
      background,
      contrast: Math.fround(ink - background),
      ...network,
    };
  }

  function inputLayer() {
    return { name: "input", kind: "input", maps: 1, rows: FIELD, columns: FIELD, numWeights: 0 };
  }

  function convolution(name, below, maps, kernels, bias, table, squash) {
    const [rows, columns] = [below.rows - 4, below.columns - 4];
    const numWeights = table.reduce((sum, row) => sum + row.length * 25 + 1, 0);
    return { name, kind: "convolution", maps, rows, columns, kernels, bias, table, squash, numWeights };
  }

  function subsampling(name, below, pooling, squash, coefficient = null, bias = null) {
    const numWeights = coefficient ? 2 * below.maps : 0;
    return {
      name, kind: "subsampling", maps: below.maps, rows: below.rows / 2, columns: below.columns / 2,
      pooling, coefficient, bias, squash, numWeights,
    };
  }

  function full(name, below, maps, weights, bias, squash, shape) {
    return {
      name, kind: "full", maps, rows: 1, columns: 1, weights, bias, squash, shape,
      numWeights: maps * (below.maps + 1),
    };
  }

  function buildCommon(config, take) {
    const squash = SQUASHES[config.activation];
    if (!squash || !["max", "average"].includes(config.pooling)) throw new Error("unknown settings");
    const all = (maps, inputs) => range(maps).map(() => range(inputs));
    const part = (index, maps, inputs) => [
      take(`feature_extractor.${index}.weight`, maps, inputs, 5, 5),
      take(`feature_extractor.${index}.bias`, maps),
    ];
    const layers = [inputLayer()];
    const add = (layer) => layers.push(layer) && layer;
    let below = add(convolution("C1", layers[0], 6, ...part(0, 6, 1), all(6, 1), squash));
    below = add(subsampling("S2", below, config.pooling, SQUASHES.none));
    below = add(convolution("C3", below, 16, ...part(3, 16, 6), all(16, 6), squash));
    below = add(subsampling("S4", below, config.pooling, SQUASHES.none));
    below = add(convolution("C5", below, 120, ...part(6, 120, 16), all(120, 16), squash));
    const linear = (index, outputs, inputs) => [
      take(`classifier.${index}.weight`, outputs, inputs),
      take(`classifier.${index}.bias`, outputs),
    ];
    below = add(full("F6", below, 84, ...linear(0, 84, 120), squash));
    add(full("output", below, config.num_classes, ...linear(2, config.num_classes, 84), SQUASHES.none));
    return { layers };
  }

  /** Return kernels [maps][inputs][25], zeros where no connection is, of those that are. */
  function spreadKernels(weights, table, inputs) {
    const dense = new Float32Array(table.length * inputs * 25);
    let next = 0;
    table.forEach((row, map) => {
      for (const input of row) {
        dense.set(weights.subarray(next, next + 25), (map * inputs + input) * 25);
        next += 25;
      }
    });
    return dense;
  }

  function build1998(config, take) {
    const squash = SQUASHES.paper;
    const layers = [inputLayer()];
    const convolve = (key, maps, inputs, table) => {
      const weights = take(`${key}.weight`, table.flat().length, 5, 5);
      const kernels = spreadKernels(weights, table, inputs);
      const bias = take(`${key}.bias`, maps);
      layers.push(convolution(key.toUpperCase(), layers.at(-1), maps, kernels, bias, table, squash));
    };
    const subsample = (key, maps) => {
      const trained = config.pooling === "trainable";
      const parts = trained ? [take(`${key}.coefficient`, maps), take(`${key}.bias`, maps)] : [];
      const f = trained ? squash : SQUASHES.none;
      layers.push(subsampling(key.toUpperCase(), layers.at(-1), "average", f, ...parts));
    };
    convolve("c1", 6, 1, range(6).map(() => [0]));
    subsample("s2", 6);
    convolve("c3", 16, 6, config.connections === "table" ? TABLE_1 : range(16).map(() => range(6)));
    subsample("s4", 16);
    convolve("c5", 120, 16, range(120).map(() => range(16)));
    const f6 = [take("f6.weight", 84, 120), take("f6.bias", 84)];
    layers.push(full("F6", layers.at(-1), 84, ...f6, squash));
    if (config.output === "rbf") {
      const codes = take("output.codes", 10, 84);
      layers.push({ name: "output", kind: "rbf", maps: 10, rows: 1, columns: 1, codes, numWeights: 0 });
    } else {
      const parts = [take("output.weight", 10, 84), take("output.bias", 10)];
      layers.push(full("output", layers.at(-1), 10, ...parts, SQUASHES.none));
    }
    return { layers };
  }

  /** Return what `run` writes its values into: an array for each layer, used again and again. */
  function makeState(network) {
    return network.layers.map((l) => new Float32Array(l.maps * l.rows * l.columns));
  }

  /**
   * Compute every layer.
   * image: 28 x 28 bytes, 0 = background, 255 = ink. Returns the state; its last array has logits.
   */
  function run(network, image, state = makeState(network)) {
    place(network, image, state[0]);
    return runLayers(network, state);
  }

  /** Compute every layer of a 32 x 32 field, whose ink in [0, 1] `at` gives by its place. */
  function runField(network, at, state) {
    const { background, contrast } = network;
    for (let i = 0; i < FIELD ** 2; i++) state[0][i] = background + Math.fround(at(i)) * contrast;
    return runLayers(network, state);
  }

  function runLayers(network, state) {
    for (let i = 1; i < network.layers.length; i++) {
      const layer = network.layers[i];
      STEPS[layer.kind](layer, network.layers[i - 1], state[i - 1], state[i]);
    }
    return state;
  }

  /** Put the image into the 32 x 32 field that C1 looks at, scaled as the network wants it. */
  function place(network, image, field) {
    const at = (x) => Math.fround(network.background + Math.fround(Math.fround(x) * network.contrast));
    if (network.resize === "stretch") {
      const stretched = stretch(image);
      for (let i = 0; i < field.length; i++) field[i] = at(stretched[i]);
      return;
    }
    field.fill(at(0));
    for (let y = 0; y < SIDE; y++) {
      for (let x = 0; x < SIDE; x++) field[(y + 2) * FIELD + x + 2] = at(image[y * SIDE + x] / 255);
    }
  }

  /** Interpolate 28 x 28 to 32 x 32, as torch's `interpolate(mode="bilinear")`. */
  function stretch(image) {
    const places = range(FIELD).map((i) => {
      const place = Math.max(0, ((i + 0.5) * SIDE) / FIELD - 0.5);
      const low = Math.floor(place);
      return [low, Math.min(low + 1, SIDE - 1), place - low];
    });
    const stretched = new Float32Array(FIELD * FIELD);
    places.forEach(([top, bottom, down], y) => {
      places.forEach(([left, right, across], x) => {
        const row = (r) => image[r * SIDE + left] * (1 - across) + image[r * SIDE + right] * across;
        stretched[y * FIELD + x] = (row(top) * (1 - down) + row(bottom) * down) / 255;
      });
    });
    return stretched;
  }

  const sums = new Float64Array(SIDE * SIDE);

  function convolve(layer, below, values, result) {
    const { rows, columns, kernels } = layer;
    const size = rows * columns;
    const { f } = layer.squash;
    // The maps of 5 x 5 under C5 lie in memory as the kernels do: one long product.
    if (size === 1) return connect({ ...layer, weights: kernels }, { maps: below.maps * 25 }, values, result);
    for (let map = 0; map < layer.maps; map++) {
      sums.fill(layer.bias[map], 0, size);
      for (const input of layer.table[map]) {
        const kernel = (map * below.maps + input) * 25;
        const from = input * below.rows * below.columns;
        for (let tap = 0; tap < 5; tap++) {
          const row = kernels.subarray(kernel + 5 * tap, kernel + 5 * tap + 5);
          addRow(row, values, from + tap * below.columns, below.columns, rows, columns);
        }
      }
      for (let i = 0; i < size; i++) result[map * size + i] = f(sums[i]);
    }
  }

  /** Add a kernel's row of five weights, at every place, to the sums. */
  function addRow([a, b, c, d, e], values, from, width, rows, columns) {
    for (let y = 0, i = 0; y < rows; y++) {
      for (let x = 0, k = from + y * width; x < columns; x++, i++, k++) {
        sums[i] +=
          a * values[k] + b * values[k + 1] + c * values[k + 2] + d * values[k + 3] + e * values[k + 4];
      }
    }
  }

  function subsample(layer, below, values, result) {
    const { rows, columns } = layer;
    const width = below.columns;
    const isMax = layer.pooling === "max";
    for (let map = 0; map < layer.maps; map++) {
      for (let y = 0; y < rows; y++) {
        for (let x = 0; x < columns; x++) {
          const i = (map * below.rows + 2 * y) * width + 2 * x;
          const a = values[i];
          const b = values[i + 1];
          const c = values[i + width];
          const d = values[i + width + 1];
          let value = isMax ? Math.max(a, b, c, d) : (a + b + c + d) / 4;
          if (layer.coefficient) value = 4 * value * layer.coefficient[map] + layer.bias[map];
          result[(map * rows + y) * columns + x] = layer.squash.f(value);
        }
      }
    }
  }

  function connect(layer, below, values, result) {
    const { maps } = below;
    const { weights } = layer;
    for (let unit = 0, k = 0; unit < layer.maps; unit++) {
      let sum = layer.bias[unit];
      for (let i = 0; i < maps; i++, k++) sum += weights[k] * values[i];
      result[unit] = layer.squash.f(sum);
    }
  }

  /** eq. (7): squared distances from the codes, negated, so that larger is likelier. */
  function measure(layer, below, values, result) {
    for (let unit = 0; unit < layer.maps; unit++) {
      let sum = 0;
      for (let i = 0; i < below.maps; i++) sum += (values[i] - layer.codes[unit * 84 + i]) ** 2;
      result[unit] = -sum;
    }
  }

  const STEPS = { convolution: convolve, subsampling: subsample, full: connect, rbf: measure };

  /** Return probabilities; what is missing to 1 is that of no digit, where the network tells it. */
  function softmax(network, logits) {
    const top = Math.max(...logits, network.hasGarbage ? 0 : -Infinity);
    const powerOf = (logit) => Math.exp((logit - top) / network.temperature);
    const powers = Array.from(logits, powerOf);
    const total = powers.reduce((sum, power) => sum + power, network.hasGarbage ? powerOf(0) : 0);
    return powers.map((power) => power / total);
  }

  /** Return the logits of images, one after the other: base64 of bytes to base64 of float32. */
  function runMany(network, images) {
    const bytes = lenet.fromBase64(images);
    const count = bytes.length / SIDE ** 2;
    const numClasses = network.layers.at(-1).maps;
    const logits = new Float32Array(count * numClasses);
    const state = makeState(network);
    for (let i = 0; i < count; i++) {
      run(network, bytes.subarray(i * SIDE ** 2, (i + 1) * SIDE ** 2), state);
      logits.set(state.at(-1), i * numClasses);
    }
    return lenet.toBase64(logits);
  }

  Object.assign(lenet, { FIELD, SIDE, makeState, readNetwork, run, runField, runMany, softmax });
})();
