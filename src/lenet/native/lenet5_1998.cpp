// The LeNet-5 of 1998 on the CPU, float32: patterns one at a time, on one thread.
//
// Learning pattern by pattern leaves no batch to vectorize over, so vectors run over the maps or
// units of a layer: C1's 6 maps are the lanes of one vector of 8, C3's 16 maps are two vectors, C5 and
// F6 are 15 and 11.  Convolutions are register tiles of "broadcast pixel * vector of kernels".  The
// update of a weight follows its gradient while both are in registers, so a pattern reads each weight
// of C5 twice and its rate once; that is what bounds the speed.  C3's missing connections are kernels
// of zeros whose rate is zero.
//
// Nothing here depends on a number of threads or on what else runs: seeds side by side are processes.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>

typedef float v8 __attribute__((vector_size(32)));
typedef int32_t i8 __attribute__((vector_size(32)));
#define UNROLL _Pragma("GCC unroll 64")
#define NOINLINE __attribute__((noinline))
#define INLINE inline __attribute__((always_inline))
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, i8{__VA_ARGS__})
#endif

constexpr int CLASSES = 10, UNITS5 = 120, UNITS6 = 84, V5 = 15, V6 = 11, IN5 = 400;
constexpr float A = 1.7159f, S = 2.0f / 3;  // f(a) = A tanh(S a)
enum { MSE, MAP };

// What the caller says of the network; mirrored in engine_1998.py.
struct Net {
  const float* codes;    // 10 x 84, the RBF units' parameters
  const int32_t* table;  // per kernel of C3: its map, the map of S2 it looks at
  int32_t kernels;       // 60 in the paper, 96 if all are connected
  int32_t plain;         // S2 and S4 are plain averages: no coefficient, bias or squashing
  int32_t linear;        // the output is a linear layer in place of the RBF units
  int32_t criterion;
  float j;               // of the MAP criterion; infinite: plain cross-entropy
  float background, span;
};

// The weights with their lanes; their rates or gradients have the same layout.
struct Weights {
  v8 c1[25], c1b, s2, s2b;                // [tap], lanes: maps
  v8 c3[25][6][2], c3b[2], s4[2], s4b[2];  // [tap][map of S2], lanes: maps
  v8 c5[IN5][V5], c5b[V5];                // [input: position, map], lanes: units
  v8 f6[UNITS5][V6], f6b[V6];
  v8 out[UNITS6][2], outb[2];
};

struct State {
  Weights w, r;  // r: rates, or sums of gradients
  v8 c3t[5][16][5];  // [ky][map of C3][kx], lanes: maps of S2
  v8 codes[CLASSES][V6];
  float x[32][32], logits[CLASSES], dlogits[CLASSES];
  v8 v1[28][28], sum2[14][14], v2[14][14], d2[14][14];  // v: states; sum: of 2x2; d: gradients
  v8 v3[10][10][2], sum4[5][5][2], v4[5][5][2], d4[5][5][2];
  v8 v5[V5], d5[V5], v6[V6], d6[V6];
};

// ---------------------------------------------------------------- element-wise pieces
INLINE v8 splat(float a) { return a - v8{}; }
INLINE v8 pick(i8 m, v8 a, v8 b) { return (v8)(((i8)a & m) | ((i8)b & ~m)); }

// A tanh(S a): tanh by an odd/even rational minimax (the one of Eigen), saturated at the clamp.
INLINE v8 squash(v8 a) {
  v8 x = a * S;
  const v8 top = splat(7.90531110763549805f);
  x = pick(x > top, top, x);
  x = pick(x < -top, -top, x);
  v8 s = x * x;
  v8 p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * s + -8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  v8 q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return A * x * p / q;
}
// f'(a) from f(a).
INLINE v8 slope(v8 v) { return (S * A) - v * v * (S / A); }

// Element k is the sum of the lanes of a[k].
INLINE v8 lane_sums(const v8 a[8]) {
  v8 b[4], c[2];
  UNROLL for (int k = 0; k < 4; k++)
    b[k] = SHUFFLE(a[2 * k], a[2 * k + 1], 0, 8, 2, 10, 4, 12, 6, 14) +
           SHUFFLE(a[2 * k], a[2 * k + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  UNROLL for (int k = 0; k < 2; k++)
    c[k] = SHUFFLE(b[2 * k], b[2 * k + 1], 0, 1, 8, 9, 4, 5, 12, 13) +
           SHUFFLE(b[2 * k], b[2 * k + 1], 2, 3, 10, 11, 6, 7, 14, 15);
  return SHUFFLE(c[0], c[1], 0, 1, 2, 3, 8, 9, 10, 11) + SHUFFLE(c[0], c[1], 4, 5, 6, 7, 12, 13, 14, 15);
}
INLINE float lane_sum(v8 a) { return ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7])); }

// ---------------------------------------------------------------- between the caller's layout and lanes
// Calls f(tensor, element of it, its place in the weights) for every trainable number.
template <class F> static void each_weight(const Net& net, Weights& w, F f) {
  float *c1 = (float*)w.c1, *c3 = (float*)w.c3, *c5 = (float*)w.c5, *f6 = (float*)w.f6, *out = (float*)w.out;
  for (int o = 0; o < 6; o++) {
    for (int t = 0; t < 25; t++) f(0, o * 25 + t, c1[t * 8 + o]);
    f(1, o, ((float*)&w.c1b)[o]);
    f(2, o, ((float*)&w.s2)[o]);
    f(3, o, ((float*)&w.s2b)[o]);
  }
  for (int k = 0; k < net.kernels; k++)
    for (int t = 0; t < 25; t++) f(4, k * 25 + t, c3[(t * 6 + net.table[2 * k + 1]) * 16 + net.table[2 * k]]);
  for (int o = 0; o < 16; o++) {
    f(5, o, ((float*)w.c3b)[o]);
    f(6, o, ((float*)w.s4)[o]);
    f(7, o, ((float*)w.s4b)[o]);
  }
  for (int o = 0; o < UNITS5; o++) {
    for (int c = 0; c < 16; c++)
      for (int t = 0; t < 25; t++) f(8, (o * 16 + c) * 25 + t, c5[(t * 16 + c) * (V5 * 8) + o]);
    f(9, o, ((float*)w.c5b)[o]);
  }
  for (int o = 0; o < UNITS6; o++) {
    for (int i = 0; i < UNITS5; i++) f(10, o * UNITS5 + i, f6[i * (V6 * 8) + o]);
    f(11, o, ((float*)w.f6b)[o]);
  }
  if (!net.linear) return;
  for (int o = 0; o < CLASSES; o++) {
    for (int i = 0; i < UNITS6; i++) f(12, o * UNITS6 + i, out[i * 16 + o]);
    f(13, o, ((float*)w.outb)[o]);
  }
}

static void unpack(const Net& net, Weights& w, const float* const* tensors) {
  std::memset((void*)&w, 0, sizeof w);
  each_weight(net, w, [&](int t, int i, float& at) { at = tensors[t] ? tensors[t][i] : 0; });
}
static void pack(const Net& net, Weights& w, float* const* tensors) {
  each_weight(net, w, [&](int t, int i, float& at) {
    if (tensors[t]) tensors[t][i] = at;
  });
}

// The kernels of C3 with the maps of S2 as lanes, for the gradient of S2.
static void transpose_c3(State& s) {
  const float* c3 = (const float*)s.w.c3;
  for (int ky = 0; ky < 5; ky++)
    for (int kx = 0; kx < 5; kx++) {
      const float* from = c3 + (ky * 5 + kx) * 96;
      for (int o = 0; o < 16; o++)
        s.c3t[ky][o][kx] = v8{from[o], from[16 + o], from[32 + o], from[48 + o], from[64 + o], from[80 + o], 0, 0};
    }
}

// ---------------------------------------------------------------- forward
static NOINLINE void forward_c1(State& s) {
  for (int y = 0; y < 28; y++)
    for (int x = 0; x < 28; x += 7) {
      v8 a[7];
      UNROLL for (int i = 0; i < 7; i++) a[i] = s.w.c1b;
      for (int ky = 0; ky < 5; ky++) {
        const float* in = &s.x[y + ky][x];
        UNROLL for (int kx = 0; kx < 5; kx++) {
          v8 w = s.w.c1[ky * 5 + kx];
          UNROLL for (int i = 0; i < 7; i++) a[i] += w * in[i + kx];
        }
      }
      UNROLL for (int i = 0; i < 7; i++) s.v1[y][x + i] = squash(a[i]);
    }
}

static NOINLINE void forward_c3(State& s) {
  for (int y = 0; y < 10; y++)
    for (int x = 0; x < 10; x += 5) {
      v8 a[5][2];
      UNROLL for (int i = 0; i < 5; i++) a[i][0] = s.w.c3b[0], a[i][1] = s.w.c3b[1];
      for (int ky = 0; ky < 5; ky++)
        for (int kx = 0; kx < 5; kx++) {
          const v8(*w)[2] = s.w.c3[ky * 5 + kx];
          const float* in = (const float*)&s.v2[y + ky][x + kx];
          UNROLL for (int c = 0; c < 6; c++) {
            v8 w0 = w[c][0], w1 = w[c][1];
            UNROLL for (int i = 0; i < 5; i++) {
              v8 b = splat(in[i * 8 + c]);
              a[i][0] += w0 * b;
              a[i][1] += w1 * b;
            }
          }
        }
      UNROLL for (int i = 0; i < 5; i++) s.v3[y][x + i][0] = squash(a[i][0]), s.v3[y][x + i][1] = squash(a[i][1]);
    }
}

INLINE v8 subsample(v8 sum, v8 coefficient, v8 bias, bool plain) {
  return plain ? sum * 0.25f : squash(coefficient * sum + bias);
}

static void forward_s2(const Net& net, State& s) {
  for (int y = 0; y < 14; y++)
    for (int x = 0; x < 14; x++) {
      const v8 *upper = &s.v1[2 * y][2 * x], *lower = &s.v1[2 * y + 1][2 * x];
      v8 sum = s.sum2[y][x] = (upper[0] + upper[1]) + (lower[0] + lower[1]);
      s.v2[y][x] = subsample(sum, s.w.s2, s.w.s2b, net.plain);
    }
}

static void forward_s4(const Net& net, State& s) {
  for (int y = 0; y < 5; y++)
    for (int x = 0; x < 5; x++)
      for (int k = 0; k < 2; k++) {
        v8 sum = s.sum4[y][x][k] = (s.v3[2 * y][2 * x][k] + s.v3[2 * y][2 * x + 1][k]) +
                                   (s.v3[2 * y + 1][2 * x][k] + s.v3[2 * y + 1][2 * x + 1][k]);
        s.v4[y][x][k] = subsample(sum, s.w.s4[k], s.w.s4b[k], net.plain);
      }
}

template <int N> INLINE void weighted_sums(const v8 (*w)[N], const v8* bias, const float* in, int inputs, v8* a) {
  v8 acc[N];
  UNROLL for (int k = 0; k < N; k++) acc[k] = bias[k];
  for (int i = 0; i < inputs; i++) {
    UNROLL for (int k = 0; k < N; k++) acc[k] += w[i][k] * in[i];
  }
  UNROLL for (int k = 0; k < N; k++) a[k] = acc[k];
}

static NOINLINE void forward_full(const Net& net, State& s) {
  weighted_sums<V5>(s.w.c5, s.w.c5b, (const float*)s.v4, IN5, s.v5);
  for (v8& v : s.v5) v = squash(v);
  weighted_sums<V6>(s.w.f6, s.w.f6b, (const float*)s.v5, UNITS5, s.v6);
  for (v8& v : s.v6) v = squash(v);
  if (net.linear) {
    v8 a[2];
    weighted_sums<2>(s.w.out, s.w.outb, (const float*)s.v6, UNITS6, a);
    std::memcpy(s.logits, a, sizeof s.logits);
    return;
  }
  for (int i = 0; i < CLASSES; i++) {
    v8 y = {};
    for (int k = 0; k < V6; k++) y += (s.v6[k] - s.codes[i][k]) * (s.v6[k] - s.codes[i][k]);
    s.logits[i] = -lane_sum(y);
  }
}

static void forward(const Net& net, State& s, const float* pixels) {
  for (int y = 0; y < 28; y++)
    for (int x = 0; x < 28; x++) s.x[y + 2][x + 2] = net.background + pixels[y * 28 + x] * net.span;
  forward_c1(s);
  forward_s2(net, s);
  forward_c3(s);
  forward_s4(net, s);
  forward_full(net, s);
}

// ---------------------------------------------------------------- criterion
// E of the logits, which are negated penalties, and its gradient.
static double criterion(const Net& net, State& s, int label) {
  for (int i = 0; i < CLASSES; i++) s.dlogits[i] = i == label ? -1 : 0;
  if (net.criterion == MSE) return -s.logits[label];
  float top = -net.j, sum = 0, e[CLASSES];
  for (float z : s.logits) top = z > top ? z : top;
  for (int i = 0; i < CLASSES; i++) sum += e[i] = std::exp(s.logits[i] - top);
  sum += std::exp(-net.j - top);
  for (int i = 0; i < CLASSES; i++) s.dlogits[i] += e[i] / sum;
  return std::log(sum) + top - s.logits[label];
}

// ---------------------------------------------------------------- backward
// LEARN: the update w -= rate * gradient.  Otherwise the gradient is added up.
template <bool LEARN> INLINE void apply(v8& w, v8& r, v8 gradient) {
  if (LEARN) w -= r * gradient;
  else r += gradient;
}

// A layer's gradient from the right: at its inputs (eight at a time), then at its weights.
template <bool LEARN, int N> INLINE void backward_full(v8 (*w)[N], v8 (*r)[N], const float* in, int inputs, const v8* d,
                                                      v8* din) {
  for (int i = 0; i < inputs; i += 8) {
    v8 dots[8];
    for (int l = 0; l < 8; l++) {
      v8 dot = {}, x = splat(in[i + l]);
      UNROLL for (int k = 0; k < N; k++) {
        dot += w[i + l][k] * d[k];
        apply<LEARN>(w[i + l][k], r[i + l][k], x * d[k]);
      }
      dots[l] = dot;
    }
    din[i / 8] = lane_sums(dots);
  }
}

template <bool LEARN> static void backward_output(const Net& net, State& s) {
  for (v8& d : s.d6) d = v8{};
  if (!net.linear) {
    for (int i = 0; i < CLASSES; i++)
      for (int k = 0; k < V6; k++) s.d6[k] -= 2 * s.dlogits[i] * (s.v6[k] - s.codes[i][k]);
    return;
  }
  v8 d[2] = {};
  std::memcpy(d, s.dlogits, sizeof s.dlogits);
  const float* in = (const float*)s.v6;
  for (int i = 0; i < UNITS6; i++) {
    ((float*)s.d6)[i] = lane_sum(s.w.out[i][0] * d[0] + s.w.out[i][1] * d[1]);
    for (int k = 0; k < 2; k++) apply<LEARN>(s.w.out[i][k], s.r.out[i][k], in[i] * d[k]);
  }
  for (int k = 0; k < 2; k++) apply<LEARN>(s.w.outb[k], s.r.outb[k], d[k]);
}

template <bool LEARN> static NOINLINE void backward_f6_c5(State& s) {
  for (int k = 0; k < V6; k++) s.d6[k] *= slope(s.v6[k]);
  backward_full<LEARN, V6>(s.w.f6, s.r.f6, (const float*)s.v5, UNITS5, s.d6, s.d5);
  for (int k = 0; k < V6; k++) apply<LEARN>(s.w.f6b[k], s.r.f6b[k], s.d6[k]);
  for (int k = 0; k < V5; k++) s.d5[k] *= slope(s.v5[k]);
  backward_full<LEARN, V5>(s.w.c5, s.r.c5, (const float*)s.v4, IN5, s.d5, &s.d4[0][0][0]);
  for (int k = 0; k < V5; k++) apply<LEARN>(s.w.c5b[k], s.r.c5b[k], s.d5[k]);
}

// Turns the gradient at a unit's state into that at each of its four inputs, and adds up those of
// its coefficient and bias.
INLINE v8 backward_subsample(v8 d, v8 v, v8 sum, v8 coefficient, bool plain, v8& dcoefficient, v8& dbias) {
  if (plain) return d * 0.25f;
  d *= slope(v);
  dcoefficient += d * sum;
  dbias += d;
  return d * coefficient;
}

// From here on v3 and v1 hold gradients at the weighted sums of C3 and C1, no longer states.
template <bool LEARN> static NOINLINE void backward_s4(const Net& net, State& s) {
  for (int k = 0; k < 2; k++) {
    v8 dc = {}, db = {}, total = {};
    for (int y = 0; y < 5; y++)
      for (int x = 0; x < 5; x++) {
        v8 d = backward_subsample(s.d4[y][x][k], s.v4[y][x][k], s.sum4[y][x][k], s.w.s4[k], net.plain, dc, db);
        UNROLL for (int q = 0; q < 4; q++) {
          v8& v = s.v3[2 * y + q / 2][2 * x + q % 2][k];
          total += v = d * slope(v);
        }
      }
    apply<LEARN>(s.w.s4[k], s.r.s4[k], dc);
    apply<LEARN>(s.w.s4b[k], s.r.s4b[k], db);
    apply<LEARN>(s.w.c3b[k], s.r.c3b[k], total);
  }
}

static NOINLINE void backward_c3_inputs(State& s) {
  for (int y2 = 0; y2 < 14; y2++) {
    v8 acc[14] = {};
    for (int ky = 0; ky < 5; ky++) {
      int y = y2 - ky;
      if (y < 0 || y > 9) continue;
      const float* d = (const float*)s.v3[y];
      for (int o = 0; o < 16; o++) {
        const v8* w = s.c3t[ky][o];
        UNROLL for (int x = 0; x < 10; x++) {
          v8 b = splat(d[x * 16 + o]);
          UNROLL for (int kx = 0; kx < 5; kx++) acc[x + kx] += b * w[kx];
        }
      }
    }
    UNROLL for (int x = 0; x < 14; x++) s.d2[y2][x] = acc[x];
  }
}

template <bool LEARN> static NOINLINE void backward_c3_weights(State& s) {
  for (int ky = 0; ky < 5; ky++)
    for (int c = 0; c < 6; c++) {
      v8 acc[5][2] = {};
      for (int y = 0; y < 10; y++) {
        const float* in = (const float*)s.v2[y + ky] + c;
        for (int x = 0; x < 10; x++) {
          v8 d0 = s.v3[y][x][0], d1 = s.v3[y][x][1];
          UNROLL for (int kx = 0; kx < 5; kx++) {
            v8 b = splat(in[(x + kx) * 8]);
            acc[kx][0] += b * d0;
            acc[kx][1] += b * d1;
          }
        }
      }
      UNROLL for (int kx = 0; kx < 5; kx++) {
        UNROLL for (int k = 0; k < 2; k++)
          apply<LEARN>(s.w.c3[ky * 5 + kx][c][k], s.r.c3[ky * 5 + kx][c][k], acc[kx][k]);
      }
    }
}

template <bool LEARN> static NOINLINE void backward_s2(const Net& net, State& s) {
  v8 dc = {}, db = {}, total = {};
  for (int y = 0; y < 14; y++)
    for (int x = 0; x < 14; x++) {
      v8 d = backward_subsample(s.d2[y][x], s.v2[y][x], s.sum2[y][x], s.w.s2, net.plain, dc, db);
      UNROLL for (int q = 0; q < 4; q++) {
        v8& v = s.v1[2 * y + q / 2][2 * x + q % 2];
        total += v = d * slope(v);
      }
    }
  apply<LEARN>(s.w.s2, s.r.s2, dc);
  apply<LEARN>(s.w.s2b, s.r.s2b, db);
  apply<LEARN>(s.w.c1b, s.r.c1b, total);
}

template <bool LEARN, int ROWS> INLINE void backward_c1_rows(State& s, int ky) {
  v8 acc[ROWS][5] = {};
  for (int y = 0; y < 28; y++)
    for (int x = 0; x < 28; x++) {
      v8 d = s.v1[y][x];
      UNROLL for (int k = 0; k < ROWS; k++) {
        UNROLL for (int kx = 0; kx < 5; kx++) acc[k][kx] += d * s.x[y + ky + k][x + kx];
      }
    }
  UNROLL for (int k = 0; k < ROWS; k++) {
    UNROLL for (int kx = 0; kx < 5; kx++)
      apply<LEARN>(s.w.c1[(ky + k) * 5 + kx], s.r.c1[(ky + k) * 5 + kx], acc[k][kx]);
  }
}

template <bool LEARN> static NOINLINE void backward_c1(State& s) {
  backward_c1_rows<LEARN, 2>(s, 0);
  backward_c1_rows<LEARN, 2>(s, 2);
  backward_c1_rows<LEARN, 1>(s, 4);
}

template <bool LEARN> static void backward(const Net& net, State& s) {
  backward_output<LEARN>(net, s);
  backward_f6_c5<LEARN>(s);
  backward_s4<LEARN>(net, s);
  backward_c3_inputs(s);
  backward_c3_weights<LEARN>(s);
  if (LEARN) transpose_c3(s);
  backward_s2<LEARN>(net, s);
  backward_c1<LEARN>(s);
}

// ---------------------------------------------------------------- what the caller sees
static State& prepare(const Net& net, const float* const* weights) {
  static thread_local std::unique_ptr<State> kept;
  if (!kept) kept.reset(new State);
  State& s = *kept;
  unpack(net, s.w, weights);
  transpose_c3(s);
  for (auto& row : s.x)
    for (float& x : row) x = net.background;
  std::memset((void*)s.codes, 0, sizeof s.codes);
  for (int i = 0; i < CLASSES && !net.linear; i++)
    std::memcpy(s.codes[i], net.codes + i * UNITS6, UNITS6 * sizeof(float));
  return s;
}

template <bool LEARN> static double present(const Net& net, State& s, const float* x, const int64_t* labels, long n,
                                            float* logits) {
  double loss = 0;
  for (long i = 0; i < n; i++) {
    forward(net, s, x + i * 784);
    loss += criterion(net, s, int(labels[i]));
    std::memcpy(logits + i * CLASSES, s.logits, sizeof s.logits);
    backward<LEARN>(net, s);
  }
  return loss / n;
}

static bool are_labels(const int64_t* labels, long n) {
  for (long i = 0; i < n; i++)
    if (labels[i] < 0 || labels[i] >= CLASSES) return false;
  return n > 0;
}

// Tensors are those of the model in its order: 12, or 14 with a linear output; a null pointer is a
// tensor that the model lacks.  Each returns the mean loss, or -infinity if n is 0 or a label is wrong.
extern "C" {
// Presents n patterns x (28 x 28, 0..1) one after the other, each with its update of the weights.
double lenet5_1998_learn(const Net* net, const float* x, const int64_t* labels, long n, float* const* weights,
                         const float* const* rates, float* logits) {
  if (!are_labels(labels, n)) return -INFINITY;
  State& s = prepare(*net, weights);
  unpack(*net, s.r, rates);
  double loss = present<true>(*net, s, x, labels, n, logits);
  pack(*net, s.w, weights);
  return loss;
}

// Writes the gradients of the mean loss.
double lenet5_1998_gradients(const Net* net, const float* x, const int64_t* labels, long n,
                             const float* const* weights, float* const* gradients, float* logits) {
  if (!are_labels(labels, n)) return -INFINITY;
  State& s = prepare(*net, weights);
  std::memset((void*)&s.r, 0, sizeof s.r);
  double loss = present<false>(*net, s, x, labels, n, logits);
  const float share = 1.0f / n;
  each_weight(*net, s.r, [&](int t, int i, float& at) {
    if (gradients[t]) gradients[t][i] = at * share;
  });
  return loss;
}

void lenet5_1998_infer(const Net* net, const float* x, long n, const float* const* weights, float* logits) {
  State& s = prepare(*net, weights);
  for (long i = 0; i < n; i++) {
    forward(*net, s, x + i * 784);
    std::memcpy(logits + i * CLASSES, s.logits, sizeof s.logits);
  }
}
}
