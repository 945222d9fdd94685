// Compares the kernels of the 1998 network with a naive one in double: criterion, logits, gradients and
// a step.  From the project's folder (any flags will do, sanitizers as well):
//   g++ -std=c++17 -O2 -march=native -Isrc/lenet/native tests/lenet5_1998_test.cpp && ./a.out
//
// Prints "clean" and returns 0, or the first value that differs and returns 1.
#include "lenet5_1998.cpp"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

using Vec = std::vector<double>;

static uint64_t state = 1;
static double random_share() {  // -1..1
  state = state * 6364136223846793005u + 1442695040888963407u;
  return double(state >> 33) / double(1ull << 30) - 1;
}

// Exactly as long as said, so that a sanitizer sees one element too far, and aligned to 4 bytes only.
struct Floats {
  std::vector<float> all;
  explicit Floats(size_t n) : all(n + 1, std::numeric_limits<float>::quiet_NaN()) {}
  float* data() { return all.data() + 1; }
  size_t size() const { return all.size() - 1; }
};

// A value and its slope in every direction asked for would be slow; the naive network keeps each layer's
// inputs and goes back connection by connection.
struct Connection { int unit, input, weight; };
struct Layer {
  std::vector<Connection> connections;
  int units, tensor;  // of its weights; its biases are the next
  bool biased, squashed;
  std::vector<int> bias_of;
};

static std::vector<Layer> network(const Net& net, const std::vector<int32_t>& table) {
  std::vector<Layer> layers;
  auto convolution = [&](int maps, int side, int kernel, int tensor, const std::vector<std::pair<int, int>>& links) {
    Layer L{{}, maps * (side - kernel + 1) * (side - kernel + 1), tensor, true, true, {}};
    int n = side - kernel + 1;
    for (int u = 0; u < L.units; u++) L.bias_of.push_back(u / (n * n));
    for (size_t k = 0; k < links.size(); k++)
      for (int y = 0; y < n; y++)
        for (int x = 0; x < n; x++)
          for (int t = 0; t < kernel * kernel; t++)
            L.connections.push_back({(links[k].first * n + y) * n + x,
                                     (links[k].second * side + y + t / kernel) * side + x + t % kernel,
                                     int(k) * kernel * kernel + t});
    layers.push_back(L);
  };
  auto subsampling = [&](int maps, int side, int tensor) {
    int n = side / 2;
    Layer L{{}, maps * n * n, tensor, !net.plain, !net.plain, {}};
    for (int u = 0; u < L.units; u++) {
      int map = u / (n * n), y = u / n % n, x = u % n;
      L.bias_of.push_back(map);
      for (int q = 0; q < 4; q++)
        L.connections.push_back({u, (map * side + 2 * y + q / 2) * side + 2 * x + q % 2, map});
    }
    layers.push_back(L);
  };
  auto all = [](int maps, int inputs) {
    std::vector<std::pair<int, int>> links;
    for (int o = 0; o < maps; o++)
      for (int c = 0; c < inputs; c++) links.push_back({o, c});
    return links;
  };
  std::vector<std::pair<int, int>> links;
  for (size_t k = 0; k < table.size(); k += 2) links.push_back({table[k], table[k + 1]});
  convolution(6, 32, 5, 0, all(6, 1));
  subsampling(6, 28, 2);
  convolution(16, 14, 5, 4, links);
  subsampling(16, 10, 6);
  convolution(120, 5, 5, 8, all(120, 16));
  convolution(84, 1, 1, 10, all(84, 120));
  if (net.linear) convolution(10, 1, 1, 12, all(10, 84)), layers.back().squashed = false;
  return layers;
}

struct Naive {
  double loss = 0;
  Vec logits;
  std::vector<Vec> gradients;
};

static void present(const Net& net, const std::vector<Layer>& layers, const std::vector<Vec>& weights, const float* x,
                    int64_t label, const Vec& codes, Naive& r) {
  const double a = 1.7159, s = 2.0 / 3;
  std::vector<Vec> states{Vec(1024, net.background)};
  for (int i = 0; i < 784; i++) states[0][(i / 28 + 2) * 32 + i % 28 + 2] = net.background + double(x[i]) * net.span;
  for (const Layer& L : layers) {
    Vec sum(L.units);
    const Vec* w = L.tensor < int(weights.size()) ? &weights[L.tensor] : nullptr;
    for (const Connection& c : L.connections)
      sum[c.unit] += (w && !w->empty() ? (*w)[c.weight] : 0.25) * states.back()[c.input];
    for (int u = 0; u < L.units; u++) {
      if (L.biased) sum[u] += weights[L.tensor + 1][L.bias_of[u]];
      if (L.squashed) sum[u] = a * std::tanh(s * sum[u]);
    }
    states.push_back(sum);
  }
  Vec logits(10), d(states.back().size());
  for (int i = 0; i < 10; i++)
    for (int k = 0; k < 84 && !net.linear; k++) logits[i] -= std::pow(states.back()[k] - codes[i * 84 + k], 2);
  if (net.linear) logits = states.back();
  double total = std::exp(-double(net.j));
  for (double z : logits) total += std::exp(z);
  for (int i = 0; i < 10; i++) {
    double g = (net.criterion == MAP ? std::exp(logits[i]) / total : 0) - (i == label);
    if (net.linear) d[i] = g;
    for (int k = 0; k < 84 && !net.linear; k++) d[k] -= 2 * g * (states.back()[k] - codes[i * 84 + k]);
  }
  r.loss += -logits[label] + (net.criterion == MAP ? std::log(total) : 0);
  r.logits.insert(r.logits.end(), logits.begin(), logits.end());
  for (int l = int(layers.size()) - 1; l >= 0; l--) {
    const Layer& L = layers[l];
    Vec before(states[l].size());
    for (int u = 0; u < L.units; u++) {
      if (L.squashed) d[u] *= s * (a - states[l + 1][u] * states[l + 1][u] / a);
      if (L.biased) r.gradients[L.tensor + 1][L.bias_of[u]] += d[u];
    }
    bool has_weights = L.tensor < int(weights.size()) && !weights[L.tensor].empty();
    for (const Connection& c : L.connections) {
      before[c.input] += d[c.unit] * (has_weights ? weights[L.tensor][c.weight] : 0.25);
      if (has_weights) r.gradients[L.tensor][c.weight] += d[c.unit] * states[l][c.input];
    }
    d = before;
  }
}

static double worst = 0;  // over all comparisons, in units of what is allowed
static bool differs(const std::string& what, const float* found, const Vec& expected) {
  double largest = 0;
  for (double e : expected) largest = std::max(largest, std::fabs(e));
  for (size_t i = 0; i < expected.size(); i++) {
    double error = std::fabs(found[i] - expected[i]) / (2e-5 * largest + 1e-6);
    worst = std::max(worst, error);
    if (error <= 1) continue;
    std::printf("%s[%zu] is %.9g, expected %.9g\n", what.c_str(), i, found[i], expected[i]);
    return true;
  }
  return false;
}

static bool compare(bool dense, bool plain, bool linear, int criterion, float j) {
  const char* rows[] = {"012", "123", "234", "345", "045", "015", "0123", "1234",
                        "2345", "0345", "0145", "0125", "0134", "1245", "0235", "012345"};
  std::vector<int32_t> table;
  for (int o = 0; o < 16; o++)
    for (const char* c = dense ? "012345" : rows[o]; *c; c++) table.push_back(o), table.push_back(*c - '0');
  Floats codes(840);
  for (size_t i = 0; i < 840; i++) codes.data()[i] = random_share() < 0 ? -1 : 1;
  Net net{codes.data(), table.data(), int32_t(table.size() / 2), plain, linear, criterion, j, -0.1f, 1.275f};
  std::vector<Layer> layers = network(net, table);
  const size_t sizes[] = {150, 6, 6, 6, table.size() / 2 * 25, 16, 16, 16, 48000, 120, 10080, 84, 840, 10};
  std::vector<Floats> floats, gradients, rates;
  std::vector<Vec> exact;
  std::vector<float*> w, g, r;
  Naive naive;
  for (int t = 0; t < 14; t++) {
    bool there = !(plain && (t / 2 == 1 || t / 2 == 3)) && (linear || t < 12);
    size_t size = there ? sizes[t] : 0;
    Floats& f = floats.emplace_back(size);
    for (size_t i = 0; i < size; i++) f.data()[i] = random_share() * (t < 8 ? 0.3f : t < 10 ? 0.1f : 0.15f);
    exact.push_back(Vec(f.data(), f.data() + size));
    naive.gradients.push_back(Vec(size));
    gradients.emplace_back(size), rates.emplace_back(size);
    for (size_t i = 0; i < size; i++) rates.back().data()[i] = 1 / 128.0f;
  }
  for (int t = 0; t < 14; t++) {
    bool there = floats[t].size();
    w.push_back(there ? floats[t].data() : nullptr), g.push_back(there ? gradients[t].data() : nullptr);
    r.push_back(there ? rates[t].data() : nullptr);
  }
  const long n = 3;
  Floats x(n * 784), logits(n * 10), inferred(n * 10);
  for (size_t i = 0; i < x.size(); i++) x.data()[i] = std::fabs(random_share());
  int64_t labels[n] = {0, 9, 4};
  Vec plain_codes(codes.data(), codes.data() + 840);
  for (long p = 0; p < n; p++) present(net, layers, exact, x.data() + p * 784, labels[p], plain_codes, naive);
  std::string where = std::string(dense ? "dense" : "table") + (plain ? "/average" : "/trainable") +
                      (linear ? "/linear" : "/rbf") + (criterion == MAP ? "/MAP: " : "/MSE: ");
  float loss = lenet5_1998_gradients(&net, x.data(), labels, n, w.data(), g.data(), logits.data());
  lenet5_1998_infer(&net, x.data(), n, w.data(), inferred.data());
  if (differs(where + "criterion", &loss, {naive.loss / n})) return true;
  if (differs(where + "logits", logits.data(), naive.logits)) return true;
  if (std::memcmp(logits.data(), inferred.data(), n * 40)) return std::puts("infer is not gradients' logits"), true;
  for (int t = 0; t < 14; t++) {
    for (double& e : naive.gradients[t]) e /= n;
    if (differs(where + "gradient of tensor " + std::to_string(t), gradients[t].data(), naive.gradients[t])) return true;
  }
  // One pattern learned: the step is the gradient times the rate.
  Naive one;
  for (const Vec& e : exact) one.gradients.push_back(Vec(e.size()));
  present(net, layers, exact, x.data(), labels[0], plain_codes, one);
  lenet5_1998_learn(&net, x.data(), labels, 1, w.data(), r.data(), logits.data());
  for (int t = 0; t < 14; t++) {
    for (size_t i = 0; i < exact[t].size(); i++) one.gradients[t][i] = exact[t][i] - one.gradients[t][i] / 128;
    if (differs(where + "step of tensor " + std::to_string(t), floats[t].data(), one.gradients[t])) return true;
  }
  labels[1] = 10;
  if (lenet5_1998_learn(&net, x.data(), labels, n, w.data(), r.data(), logits.data()) != -INFINITY)
    return std::puts("a wrong label was not refused"), true;
  return false;
}

int main() {
  for (bool dense : {false, true})
    for (bool plain : {false, true})
      for (bool linear : {false, true})
        for (int criterion : {MSE, MAP})
          if (compare(dense, plain, linear, criterion, criterion == MAP && dense ? INFINITY : 3)) return 1;
  std::fprintf(stderr, "largest error: %.2g of what is allowed\n", worst);
  std::puts("clean");
}
