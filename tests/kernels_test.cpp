// Compares the kernels with a naive double-precision LeNet-5: loss, logits and gradients.  From the
// project's folder (any flags will do, sanitizers as well):
//   g++ -std=c++17 -O2 -march=native -pthread -Isrc/lenet/native tests/kernels_test.cpp && ./a.out
//
// It needs neither Python nor torch, so it can be cross-compiled and run under an emulator.  Prints
// "clean" and returns 0, or the first value that differs and returns 1.
#include "kernels.cpp"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

namespace naive {
using Vec = std::vector<double>;

struct Layer {  // a convolution without padding; a fully connected layer has one output position
  int inputs, size, kernel, outputs;
  bool pooled;
  int width() const { return size - kernel + 1; }
  int fan_in() const { return inputs * kernel * kernel; }
};
static std::vector<Layer> layers(int classes) {
  return {{1, 32, 5, 6, true}, {6, 14, 5, 16, true}, {16, 5, 5, 120, false}, {120, 1, 1, 84, false},
          {84, 1, 1, classes, false}};
}

// Calls f(output, input, weight) with the indices of every product of the layer.
template <class F> static void each_product(const Layer& L, F f) {
  int n = L.width(), k = L.kernel;
  for (int o = 0; o < L.outputs; o++)
    for (int c = 0; c < L.inputs; c++)
      for (int y = 0; y < n; y++)
        for (int x = 0; x < n; x++)
          for (int ky = 0; ky < k; ky++)
            for (int kx = 0; kx < k; kx++)
              f((o * n + y) * n + x, (c * L.size + y + ky) * L.size + x + kx,
                ((o * L.inputs + c) * k + ky) * k + kx);
}

static double activate(int activation, double z, double& slope) {
  if (activation == RELU) return slope = z > 0, z > 0 ? z : 0;
  if (activation == TANH) return slope = 1 - std::tanh(z) * std::tanh(z), std::tanh(z);
  double s = 1 / (1 + std::exp(-z));
  return slope = s + z * s * (1 - s), z * s;
}

struct Result {
  double loss = 0, plain_loss = 0;
  long right = 0;
  Vec logits;
  std::vector<Vec> grads;
};

// Adds one image's share of the mean over `batch` images.
static void add_image(Result& r, const std::vector<Vec>& params, Vec x, int64_t label, const Vec& targets,
                      int classes, int activation, int pooling, long batch) {
  std::vector<Layer> net = layers(classes);
  std::vector<Vec> in(5), slope(5);
  for (int l = 0; l < 5; l++) {
    const Layer& L = net[l];
    int n = L.width(), positions = n * n;
    Vec z(L.outputs * positions);
    for (size_t i = 0; i < z.size(); i++) z[i] = params[2 * l + 1][i / positions];
    each_product(L, [&](int o, int i, int w) { z[o] += params[2 * l][w] * x[i]; });
    in[l] = x, x = z, slope[l] = Vec(z.size(), 1);
    if (l == 4) break;
    for (size_t i = 0; i < z.size(); i++) x[i] = activate(activation, z[i], slope[l][i]);
    if (!L.pooled) continue;
    Vec p(z.size() / 4);
    for (size_t i = 0; i < p.size(); i++) {
      int corner = i / (n / 2) * 2 * n + i % (n / 2) * 2, at[] = {corner, corner + 1, corner + n, corner + n + 1};
      int best = at[0];
      for (int k : at) best = x[k] > x[best] ? k : best;  // the first of equals
      for (int k : at) p[i] += x[k] / 4, slope[l][k] *= pooling == AVG ? 0.25 : k == best;
      if (pooling == MAX) p[i] = x[best];
    }
    x = p;
  }
  double sum = 0;
  for (double z : x) sum += std::exp(z);
  r.plain_loss -= (x[label] - std::log(sum)) / batch;
  r.right += std::max_element(x.begin(), x.end()) - x.begin() == label;
  Vec dx(classes);  // of a layer's output after activation and pooling, from the last layer down
  for (int c = 0; c < classes; c++) {
    r.loss -= targets[c] * (x[c] - std::log(sum)) / batch;
    dx[c] = (std::exp(x[c]) / sum - targets[c]) / batch;
    r.logits.push_back(x[c]);
  }
  for (int l = 4; l >= 0; l--) {
    const Layer& L = net[l];
    int n = L.width();
    Vec dz = slope[l];
    for (int i = 0; i < int(dz.size()); i++)
      dz[i] *= dx[L.pooled ? i / n / 2 * (n / 2) + i % n / 2 : i];  // n is even: i / n / 2 counts pairs of rows
    dx.assign(in[l].size(), 0);
    for (size_t i = 0; i < dz.size(); i++) r.grads[2 * l + 1][i / (n * n)] += dz[i];
    each_product(L, [&](int o, int i, int w) {
      r.grads[2 * l][w] += dz[o] * in[l][i];
      dx[i] += dz[o] * params[2 * l][w];
    });
  }
}
}  // namespace naive

// Exactly as long as said, so that a sanitizer sees one element too far, and aligned to 4 bytes only.
struct Floats {
  std::vector<float> all;
  explicit Floats(size_t n) : all(n + 1, std::numeric_limits<float>::quiet_NaN()) {}
  float* data() { return all.data() + 1; }
  size_t size() const { return all.size() - 1; }
};

static uint64_t state = 1;
static int random_int(int low, int high) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return low + int((state >> 33) % uint64_t(high - low + 1));
}

// Small multiples of a power of two: the pre-activations of C1 (and with relu of C3) are exact in
// float, so that float and double agree on signs and on which of four is the largest, ties included.
static void fill(Floats& v, int low, int high, float scale) {
  for (size_t i = 0; i < v.size(); i++) v.data()[i] = random_int(low, high) * scale;
}
static naive::Vec doubles(Floats& v) { return {v.data(), v.data() + v.size()}; }

static double worst = 0;  // over all comparisons, in units of what is allowed
static bool differs(const std::string& what, const float* found, const naive::Vec& expected) {
  double largest = 0;
  for (double e : expected) largest = std::max(largest, std::fabs(e));
  for (size_t i = 0; i < expected.size(); i++) {
    double error = std::fabs(found[i] - expected[i]) / (2e-5 * largest + 1e-7);
    if (error <= 1) {
      worst = std::max(worst, error);
      continue;
    }
    std::printf("%s[%zu] is %.9g, expected %.9g\n", what.c_str(), i, found[i], expected[i]);
    return true;
  }
  return false;
}

static bool compare(int activation, int pooling, long batch, int classes, float smoothing) {
  static const char* const names[] = {"c1.weight", "c1.bias", "c3.weight", "c3.bias",       "c5.weight",
                                      "c5.bias",   "f6.weight", "f6.bias", "output.weight", "output.bias"};
  std::vector<Floats> params;
  std::vector<naive::Vec> exact;
  naive::Result expected;
  for (const naive::Layer& L : naive::layers(classes))
    for (int size : {L.fan_in() * L.outputs, L.outputs}) {
      int range = int(128 / std::sqrt(L.fan_in()));
      fill(params.emplace_back(size), -range, range, 1 / 128.0f);
      exact.push_back(doubles(params.back()));
      expected.grads.emplace_back(size);
    }
  // Multiples of 1/16 from -2/16 to 18/16, all of which a byte can be where the span is 255 / 16.
  std::vector<uint8_t> bytes(batch * 784);
  Floats x(batch * 1024), pixels(batch * 784);
  const float background = -2 / 16.0f, span = 255 / 16.0f;
  for (size_t i = 0; i < x.size(); i++) x.data()[i] = background;
  for (size_t i = 0; i < bytes.size(); i++) {
    bytes[i] = random_int(0, 20);
    pixels.data()[i] = bytes[i] / 32.0f;
    x.data()[i / 784 * 1024 + (2 + i % 784 / 28) * 32 + 2 + i % 28] = background + bytes[i] / 16.0f;
  }
  Call call{};
  call.batch = batch, call.classes = classes, call.activation = activation, call.pooling = pooling;
  call.smoothing = smoothing;
  std::vector<int64_t> labels;
  for (long b = 0; b < batch; b++) {
    labels.push_back(random_int(0, classes - 1));
    naive::Vec targets(classes, smoothing / classes);
    targets[labels[b]] += 1 - smoothing;
    add_image(expected, exact, {x.data() + b * 1024, x.data() + (b + 1) * 1024}, labels[b], targets, classes,
              activation, pooling, batch);
  }
  std::vector<Floats> first;
  int format = 0;
  for (int threads : {1, 2, 2}) {  // twice with a pool that exists
    std::string where = std::string(activation == TANH ? "tanh" : activation == RELU ? "relu" : "silu") +
                        (pooling == AVG ? "/average" : "/max") + ", batch " + std::to_string(batch) + ", " +
                        std::to_string(classes) + " classes, " + std::to_string(threads) + " threads: ";
    std::vector<Floats> found;
    for (Floats& p : params) found.emplace_back(p.size());
    Floats& logits = found.emplace_back(batch * classes);
    Floats inferred(batch * classes);
    for (int k = 0; k < TENSORS; k++) call.w[k] = params[k].data(), call.g[k] = found[k].data();
    call.format = format++ % 3, call.threads = threads, call.background = background;
    call.pixels = call.format == FIELDS ? (void*)x.data() : call.format == PIXELS ? (void*)pixels.data() : bytes.data();
    call.span = call.format == PIXELS ? 2 : span;
    call.labels = labels.data(), call.logits = logits.data();
    if (lenet5_call(&call)) return std::printf("%sno answer\n", where.c_str()), true;
    const double* scores = call.scores;
    float losses[] = {float(scores[0]), float(scores[1])};
    const double right = scores[2];
    call.labels = nullptr, call.logits = inferred.data();
    lenet5_call(&call);
    if (differs(where + "losses", losses, {expected.loss, expected.plain_loss})) return true;
    if (right != expected.right) return std::printf("%s%g right\n", where.c_str(), right), true;
    if (differs(where + "logits", logits.data(), expected.logits)) return true;
    if (differs(where + "inferred logits", inferred.data(), expected.logits)) return true;
    for (int i = 0; i < 10; i++)
      if (differs(where + names[i] + ".grad", call.g[i], expected.grads[i])) return true;
    if (batch > SINGLES && std::memcmp(inferred.data(), logits.data(), sizeof(float) * logits.size()))
      return std::printf("%slogits differ from those of a training call\n", where.c_str()), true;
    if (first.empty()) first = found;
    for (size_t i = 0; i < found.size(); i++)
      if (std::memcmp(found[i].data(), first[i].data(), sizeof(float) * first[i].size()))
        return std::printf("%snot the result of 1 thread\n", where.c_str()), true;
  }
  return false;
}

// Each byte is the quotient that the division gives, alone and in a vector.
static bool bytes_differ() {
  for (int b = 0; b < 256; b++)
    if (over_255(float(b)) != b / 255.0f || over_255(splat(b))[V - 1] != b / 255.0f)
      return std::printf("byte %d is not %.9g\n", b, b / 255.0f), true;
  return false;
}

// Three steps of Adam or AdamW, against doubles that step along the gradients of a call without Adam.
static bool adam_differs(bool decoupled, int threads) {
  const long batch = 33;
  const double lr = 0.01, beta1 = 0.9, beta2 = 0.999, eps = 1e-3, decay = 0.037;  // eps: where terms nearly cancel
  Floats x(batch * 1024);
  fill(x, -2, 18, 1 / 16.0f);
  std::vector<int64_t> labels(batch);
  for (int64_t& label : labels) label = random_int(0, 9);
  Call call{};
  call.pixels = x.data(), call.labels = labels.data(), call.batch = batch, call.threads = threads;
  call.format = FIELDS, call.classes = 10, call.activation = TANH, call.pooling = AVG;
  Adam adam{lr, beta1, beta2, eps, decay, decoupled, {}, {}, {}};
  std::vector<Floats> weights, gradients, m, v, steps;
  std::vector<naive::Vec> exact, m0, v0;
  for (const naive::Layer& L : naive::layers(10))
    for (int size : {L.fan_in() * L.outputs, L.outputs}) {
      fill(weights.emplace_back(size), -100, 100, 1e-2f);
      for (auto* zeros : {&gradients, &m, &v}) fill(zeros->emplace_back(size), 0, 0, 0);
      fill(steps.emplace_back(1), 0, 0, 0);
      exact.push_back(doubles(weights.back())), m0.emplace_back(size), v0.emplace_back(size);
    }
  for (int k = 0; k < TENSORS; k++) {
    call.w[k] = weights[k].data(), call.g[k] = gradients[k].data();
    adam.step[k] = steps[k].data(), adam.m[k] = m[k].data(), adam.v[k] = v[k].data();
  }
  for (int step = 1; step <= 3; step++) {
    call.adam = nullptr;
    if (lenet5_call(&call)) return std::puts("adam: no answer"), true;
    for (int k = 0; k < TENSORS; k++)
      for (size_t i = 0; i < exact[k].size(); i++) {
        double& w = exact[k][i];
        w = weights[k].data()[i];  // a step at a time, since rounding would change the next gradients
        double d = gradients[k].data()[i] + (decoupled ? 0 : decay * w);
        if (decoupled) w -= lr * decay * w;
        m0[k][i] = beta1 * m0[k][i] + (1 - beta1) * d;
        v0[k][i] = beta2 * v0[k][i] + (1 - beta2) * d * d;
        double first = m0[k][i] / (1 - std::pow(beta1, step)), second = v0[k][i] / (1 - std::pow(beta2, step));
        w -= lr * first / (std::sqrt(second) + eps);
      }
    call.adam = &adam;
    if (lenet5_call(&call)) return std::puts("adam: no answer"), true;
    for (int k = 0; k < TENSORS; k++)
      if (steps[k].data()[0] != step || differs("adam", weights[k].data(), exact[k])) return true;
  }
  return false;
}

int main() {
  if (bytes_differ()) return 1;
  for (int threads : {1, 2})
    if (adam_differs(false, threads) || adam_differs(true, threads)) return 1;
  for (int activation : {TANH, RELU, SILU})
    for (int pooling : {AVG, MAX})
      for (long batch : {1, 4, 7, 8, 9, 33})
        if (compare(activation, pooling, batch, 10, batch == 9 ? 0.1f : 0)) return 1;
  for (int classes : {1, 2, 47, MAXC})
    if (compare(TANH, AVG, 9, classes, 0.1f)) return 1;
  std::fprintf(stderr, "largest error: %.2g of what is allowed, vectors of %d\n", worst, V);
  std::puts("clean");
}
