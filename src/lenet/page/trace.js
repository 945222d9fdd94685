/* Where a cell's value comes from: the cells before it, their weights, and all below down to the pixels. */
(() => {
  /** Return what a cell is made of: for each map before it, values and weights of the patch. */
  function explain(network, state, index, cell) {
    const layer = network.layers[index];
    const below = network.layers[index - 1];
    const position = (cell.map * layer.rows + cell.row) * layer.columns + cell.column;
    const value = state[index][position];
    if (layer.kind === "input") return { kind: "input", value, terms: [] };
    const found = EXPLAINERS[layer.kind](layer, below, state[index - 1], cell);
    return { kind: layer.kind, value, squash: layer.squash?.name ?? "", ...found };
  }

  /** Return the values of a patch of a map. */
  function patch(layer, values, map, top, left, size) {
    const found = new Float32Array(size * size);
    for (let i = 0; i < size * size; i++) {
      const [row, column] = [top + Math.floor(i / size), left + (i % size)];
      found[i] = values[(map * layer.rows + row) * layer.columns + column];
    }
    return found;
  }

  function multiply(values, weights) {
    const products = values.map((value, i) => value * weights[i]);
    return { values, weights, products, sum: products.reduce((total, p) => total + p, 0) };
  }

  const add = (terms, bias) => terms.reduce((total, term) => total + term.sum, bias);

  const EXPLAINERS = {
    convolution(layer, below, values, { map, row, column }) {
      const terms = layer.table[map].map((input) => {
        const start = (map * below.maps + input) * 25;
        const weights = layer.kernels.subarray(start, start + 25);
        const seen = patch(below, values, input, row, column, 5);
        return { map: input, columns: 5, ...multiply(seen, weights) };
      });
      const bias = layer.bias[map];
      return { terms, bias, total: add(terms, bias) };
    },

    subsampling(layer, below, values, { map, row, column }) {
      const seen = patch(below, values, map, 2 * row, 2 * column, 2);
      const isMax = layer.pooling === "max";
      const sum = isMax ? Math.max(...seen) : seen.reduce((total, value) => total + value, 0);
      const terms = [{ map, columns: 2, values: seen, sum, isSummed: !isMax }];
      if (!layer.coefficient) return { terms, pooling: layer.pooling, total: isMax ? sum : sum / 4 };
      const [coefficient, bias] = [layer.coefficient[map], layer.bias[map]];
      return { terms, pooling: "trained", coefficient, bias, total: sum * coefficient + bias };
    },

    full(layer, below, values, { map }) {
      const weights = layer.weights.subarray(map * below.maps, (map + 1) * below.maps);
      const terms = [{ map: null, columns: gridColumns(below), ...multiply(values, weights) }];
      return { terms, bias: layer.bias[map], total: add(terms, layer.bias[map]) };
    },

    rbf(layer, below, values, { map }) {
      const weights = layer.codes.subarray(map * 84, (map + 1) * 84);
      const products = values.map((value, i) => (value - weights[i]) ** 2);
      const sum = products.reduce((total, product) => total + product, 0);
      return { terms: [{ map: null, columns: 7, values, weights, products, sum }], total: -sum };
    },
  };

  /** Return how many of a layer's single units stand side by side: F6 is a picture of 7 x 12. */
  function gridColumns(layer) {
    return layer.maps === 84 ? 7 : layer.maps === 120 ? 8 : Math.ceil(Math.sqrt(layer.maps));
  }

  /**
   * Return for each layer below the cell's, the input first, what the cell sees of it:
   * {maps, top, left, bottom, right} in cells, the same place in each of the maps.
   */
  function trace(network, index, cell) {
    const seen = [];
    let box = { top: cell.row, left: cell.column, bottom: cell.row + 1, right: cell.column + 1 };
    let maps = [cell.map];
    for (let i = index; i > 0; i--) {
      const layer = network.layers[i];
      const below = network.layers[i - 1];
      if (layer.kind === "convolution") {
        box = { ...box, bottom: box.bottom + 4, right: box.right + 4 };
        maps = [...new Set(maps.flatMap((map) => layer.table[map]))];
      } else if (layer.kind === "subsampling") {
        box = { top: 2 * box.top, left: 2 * box.left, bottom: 2 * box.bottom, right: 2 * box.right };
      } else {
        box = { top: 0, left: 0, bottom: below.rows, right: below.columns };
        maps = Array.from({ length: below.maps }, (_, map) => map);
      }
      seen[i - 1] = { maps, ...box };
    }
    return seen;
  }

  Object.assign(lenet, { explain, gridColumns, trace });
})();
