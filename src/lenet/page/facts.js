/* What is known of the networks in the page, and a check that this browser computes as the source did. */
(() => {
  const { byId, show } = lenet;

  function describe(network) {
    const { card } = network;
    const weights = network.layers.reduce((sum, layer) => sum + layer.numWeights, 0);
    const accuracy = card.scores?.test_accuracy;
    const name = network.is1998 ? "The network of 1998" : "LeNet-5";
    const parts = [`${name}: ${weights.toLocaleString("en")} trained numbers`];
    if (card.recipe_name) parts.push(`recipe ${card.recipe_name}, seed ${card.seed}, ${card.epochs} epochs`);
    const dataset = card.dataset.replace(/\b(k?mnist)/, (name) => name.toUpperCase());
    if (accuracy) parts.push(`${(100 * accuracy).toFixed(2)} % of the test images of ${dataset} right`);
    return `${parts.join(", ")}.`;
  }

  /** Run the page's own digits and compare the logits with those that its source gave. */
  function check(digits, network) {
    const logits = new Float32Array(lenet.fromBase64(lenet.runMany(network, digits.images)).buffer);
    const wanted = new Float32Array(lenet.fromBase64(digits.logits).buffer);
    let largest = 0;
    wanted.forEach((value, i) => {
      largest = Math.max(largest, Math.abs(value - logits[i]));
    });
    const scale = wanted.reduce((top, value) => Math.max(top, Math.abs(value)), 1);
    return { count: digits.labels.length, largest, isEqual: largest <= 1e-5 * scale };
  }

  function showFacts({ digits, exported }, networks) {
    const lines = networks.map(describe);
    if (exported) lines.push(exported);
    byId("facts").textContent = lines.join(" ");
    if (!digits) return;
    const { count, largest, isEqual } = check(digits, networks[0]);
    byId("check").textContent = isEqual
      ? `Checked just now in this browser: ${count} test images give the logits of the source, to ${largest.toExponential(0)}.`
      : `This browser computes otherwise than the source: logits differ by up to ${show(largest)}.`;
    byId("check").dataset.equal = isEqual;
  }

  Object.assign(lenet, { showFacts });
})();
