// LeNet-5 forward, backward and inference on the CPU, float32.
//
// Images are handled in blocks of V with the image index innermost: every vector holds the same
// pixel of V images.  Convolutions are then register tiles of "broadcast weight * vector" FMAs with
// no shuffles, and a whole block's activations stay in L2 from the first layer to the last gradient.
//
// Everything that depends on a block alone (including its convolution weight gradient) is written
// to that block's own slot, and slots are summed in block order.  The result therefore does not
// depend on the number of threads nor on which thread took which block.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>
#if !defined(__wasm__)  // where there is one thread (scripts/build_wasm.py)
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>
#if !defined(_WIN32)
#include <pthread.h>
#endif
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int V = 16;
#if defined(__clang__)  // which would split the vectors in two on processors it tunes for 256 bits
#pragma clang attribute push(__attribute__((min_vector_width(512))), apply_to = function)
#endif
#elif defined(__AVX__)
constexpr int V = 8;
#else
constexpr int V = 4;
#endif
typedef float vf __attribute__((vector_size(4 * V)));
typedef int32_t vi __attribute__((vector_size(4 * V)));
typedef float vfu __attribute__((vector_size(4 * V), aligned(4), may_alias));  // unaligned access
typedef uint8_t vbu __attribute__((vector_size(V), aligned(1), may_alias));
#define UNROLL _Pragma("GCC unroll 64")
#define NOINLINE __attribute__((noinline))
#define INLINE inline __attribute__((always_inline))
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, vi{__VA_ARGS__})
#endif

enum { TANH, RELU, SILU };
enum { AVG, MAX };
enum { FIELDS, PIXELS, BYTES };

constexpr int TENSORS = 10;  // weights and biases of C1, C3, C5, F6 and the output

// The state of torch.optim.Adam or AdamW for the ten tensors.
struct Adam {
  double lr, beta1, beta2, eps, weight_decay;
  int64_t decoupled;  // AdamW's decay of the weights, else Adam's addition to the gradients
  float *step[TENSORS], *m[TENSORS], *v[TENSORS];
};

// One call from Python; mirrored in engine.py.  Without `labels` only the logits are computed, without `adam` the
// weights stay as they are.
struct Call {
  const void* pixels;
  const int64_t* labels;
  float* logits;  // (batch, classes), or null
  const Adam* adam;
  int64_t batch;
  float *w[TENSORS], *g[TENSORS];  // weights; their gradients, which are overwritten
  double scores[3];  // written: mean loss with smoothed labels, mean loss, images whose label has the largest logit
  int32_t format;    // FIELDS (B, 32, 32) float, ready; PIXELS (B, 28, 28) float; BYTES (B, 28, 28) uint8
  int32_t classes, activation, pooling, threads;
  float background, span;  // pixel p becomes background + p * span, a byte b is the pixel b / 255, and two pixels
  float smoothing;         // of background are added on each side
};

constexpr int MAXC = 64, PW = 2 * V;  // PW: width of a panel of the fully connected gradients
constexpr int panels(int n) { return (n + PW - 1) / PW; }
constexpr int ROWS = 6;               // rows of a register tile of the same
constexpr int round_up(int n, int m) { return (n + m - 1) / m * m; }
constexpr int POINTS = 6;             // of C3's products, see there
constexpr int SLOT = round_up(150 + 6 + POINTS * 480 + 16, 16);  // dw1, db1, db3, dw3 at the points

// ---------------------------------------------------------------- element-wise pieces
INLINE vf splat(float a) { return a - vf{}; }
INLINE vf mask(vf a, vi m) { return (vf)((vi)a & m); }

// A product rounded before it is added to: keeps the compiler from fusing the two where results must be
// those of torch, or of another instance of the same code.
template <class T> INLINE T rounded(T a) {
#if defined(__x86_64__)
  asm("" : "+x"(a));
#elif defined(__aarch64__)
  asm("" : "+w"(a));
#endif
  return a;
}

// The smaller / larger of two; of a NaN and a number, the second argument.  One instruction each.
INLINE vf vmin(vf a, vf b) { return a < b ? a : b; }
INLINE vf vmax(vf a, vf b) { return a > b ? a : b; }
INLINE vf clampv(vf x, float c) { return vmax(splat(-c), vmin(splat(c), x)); }  // a NaN passes through

// exp by 2^n * p(r), relative error about 1e-7; the clamp keeps 1/(1+exp) a normal number.
INLINE vf vexp(vf x) {
  x = clampv(x, 87.0f);
  const vf magic = splat(12582912.0f);  // adding it rounds to an integer held in the low bits
  vf t = x * 1.44269504f + magic, n = t - magic;
  vf r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return p * (vf)(((vi)t - (vi)magic + 127) << 23);
}

// tanh(x)/2 by an odd/even rational minimax (the one of Eigen, p halved); saturates at the clamp.
INLINE vf half_tanh(vf x) {
  x = clampv(x, 7.90531110763549805f);
  vf s = x * x;
  vf p = s * (-2.76076847742355e-16f / 2) + 2.00018790482477e-13f / 2;
  p = p * s + -8.60467152213735e-11f / 2;
  p = p * s + 5.12229709037114e-08f / 2;
  p = p * s + 1.48572235717979e-05f / 2;
  p = p * s + 6.37261928875436e-04f / 2;
  p = p * s + 4.89352455891786e-03f / 2;
  vf q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return x * p / q;
}

// a = act(z) and d = act'(z).
template <int ACT> INLINE void activate(vf z, vf& a, vf& d) {
  if (ACT == TANH) {
    a = 2.0f * half_tanh(z);
    d = 1.0f - a * a;
  } else if (ACT == RELU) {
    vi off = z <= vf{};
    a = mask(z, ~off);
    d = mask(splat(1.0f), ~off);
  } else {
    vf s = 1.0f / (1.0f + vexp(-z));
    a = rounded(z * s);
    d = s + a * (1.0f - s);
  }
}

// Activation and 2x2 pooling of one window; d[k] = d(pooled)/d(z[k]), so that the backward pass is a
// plain product whatever the activation and pooling.  Max takes the first maximum, as torch does; for
// the monotonic activations it is taken before the activation, which saves three of four.
template <int ACT, int POOL> INLINE vf act_pool(const vf z[4], vf d[4]) {
  vf a[4], m, dm;
  if (POOL == AVG && ACT == TANH) {  // in halves of tanh the quarters of the average cost nothing
    UNROLL for (int k = 0; k < 4; k++) a[k] = half_tanh(z[k]), d[k] = 0.25f - a[k] * a[k];
    return ((a[0] + a[1]) + (a[2] + a[3])) * 0.5f;
  }
  if (POOL == AVG) {
    UNROLL for (int k = 0; k < 4; k++) activate<ACT>(z[k], a[k], d[k]), d[k] = d[k] * 0.25f;
    return ((a[0] + a[1]) + (a[2] + a[3])) * 0.25f;
  }
  if (ACT == SILU) {
    UNROLL for (int k = 0; k < 4; k++) activate<ACT>(z[k], a[k], d[k]);
  } else {
    UNROLL for (int k = 0; k < 4; k++) a[k] = z[k];
  }
  m = vmax(vmax(a[0], a[1]), vmax(a[2], a[3]));
  vi is[4], free = vi{} - 1;
  UNROLL for (int k = 0; k < 4; k++) is[k] = (a[k] == m) & free, free = free & ~is[k];
  if (ACT == SILU) {
    UNROLL for (int k = 0; k < 4; k++) d[k] = mask(d[k], is[k]);
    return m;
  }
  vf out;
  activate<ACT>(m, out, dm);
  UNROLL for (int k = 0; k < 4; k++) d[k] = mask(dm, is[k]);
  return out;
}

template <int... I> INLINE vf zip_lo(vf a, vf b, std::integer_sequence<int, I...>) {
  return SHUFFLE(a, b, (I / 2 + (I % 2) * V)...);
}
template <int... I> INLINE vf zip_hi(vf a, vf b, std::integer_sequence<int, I...>) {
  return SHUFFLE(a, b, (I / 2 + V / 2 + (I % 2) * V)...);
}
INLINE void transpose(vf a[V]) {  // log2(V) perfect shuffles of the V*V elements
  std::make_integer_sequence<int, V> seq;
  UNROLL for (int s = 1; s < V; s *= 2) {
    vf b[V];
    UNROLL for (int i = 0; i < V / 2; i++) {
      b[2 * i] = zip_lo(a[i], a[i + V / 2], seq);
      b[2 * i + 1] = zip_hi(a[i], a[i + V / 2], seq);
    }
    UNROLL for (int i = 0; i < V; i++) a[i] = b[i];
  }
}

// out[i] = sum over lanes of v[i]; v is readable up to a multiple of V.
static void lane_sums(const vf* v, int n, float* out) {
  for (int i = 0; i < n; i += V) {
    vf a[V];
    UNROLL for (int k = 0; k < V; k++) a[k] = v[i + k];
    transpose(a);
    UNROLL for (int s = V / 2; s; s /= 2) {
      UNROLL for (int k = 0; k < s; k++) a[k] = a[k] + a[k + s];
    }
    if (i + V <= n) *(vfu*)(out + i) = a[0];
    else std::memcpy(out + i, &a[0], sizeof(float) * (n - i));
  }
}

// ---------------------------------------------------------------- one block
struct Scratch {  // per thread, about 460 kB
  vf x[32 * 32], d1[28][6][28], p1[6][14][14];
  vf d3[16][10][10], p3[round_up(400, V)], dp1[6][14][14], dp3[400];
  vf tiles[POINTS][6][14][5], products[POINTS][16][2][5], at_point[16][10][5];
  vf a5[round_up(120, V)], d5[120], a6[round_up(84, V)], d6[84], out[MAXC], dz5[120], dz6[84], dz7[MAXC];
};

struct Filters {  // the filters of C3 at the points, in the order in which they are read
  float forward[POINTS][8][6][5][2];    // [point][o / 2][c][ky][o % 2]
  float backward[POINTS][3][16][5][2];  // [point][c / 2][o][ky][c % 2]
};

struct Single;
struct Job : Call {
  long blocks;
  Scratch* scratch;  // one per thread
  Filters* filters;
  float *slots, *at5, *at6, *at7;  // per block conv gradients; panels of layer inputs
  vf *dz5, *dz6, *dz7;             // gradients at the layers' outputs: [unit / 6][block][6]
  float* image_scores;             // three for each image, see `Call`
  Single* single;                  // in place of blocks, for a few images
  void (*block)(const Job&, Scratch&, long);
};

template <class F> static void each_border_pixel(F f) {
  for (int i = 0; i < 64; i++) f(i), f(30 * 32 + i);
  for (int y = 2; y < 30; y++) f(y * 32), f(y * 32 + 1), f(y * 32 + 30), f(y * 32 + 31);
}

// b / 255 for whole b up to 255, rounded as the division is: b * hi is exact, and what is lost of b * lo is too
// little to matter (tests try all 256, fused or not).
template <class T> INLINE T over_255(T b) {
  constexpr float hi = 257 / 65536.0f, lo = float(1 / 255.0 - hi);
  return b * hi + b * lo;
}

// V bytes as floats; GCC 12 takes them one by one where it is not told how.
INLINE vf load_bytes(const uint8_t* p) {
#if defined(__AVX512F__)
  return __builtin_convertvector((vi)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128((const __m128i*)p)), vf);
#elif defined(__AVX2__)
  return __builtin_convertvector((vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)), vf);
#else
  return __builtin_convertvector(*(const vbu*)p, vf);
#endif
}

struct Places {  // in the field, of each of the 28x28 pixels
  int16_t at[784];
  constexpr Places() : at() {
    for (int i = 0; i < 784; i++) at[i] = (2 + i / 28) * 32 + 2 + i % 28;
  }
};
constexpr Places places;

template <int FORMAT> static void load_images(const Job& job, Scratch& s, long blk) {
  constexpr int size = FORMAT == FIELDS ? 1024 : 784;
  const vf background = splat(job.background), span = splat(job.span);
  int64_t first[V];  // a lane without an image of its own repeats the last one, and its gradient gets no weight
  for (int l = 0; l < V; l++) first[l] = std::min<int64_t>(blk * V + l, job.batch - 1) * size;
  for (int i = 0; i < size; i += V) {
    vf a[V];
    UNROLL for (int l = 0; l < V; l++) {
      if (FORMAT == BYTES) a[l] = load_bytes((const uint8_t*)job.pixels + first[l] + i);
      else a[l] = *(const vfu*)((const float*)job.pixels + first[l] + i);
    }
    transpose(a);
    UNROLL for (int k = 0; k < V; k++) {
      if (FORMAT == BYTES) a[k] = over_255(a[k]);
      if (FORMAT == FIELDS) s.x[i + k] = a[k];
      else s.x[places.at[i + k]] = rounded(a[k] * span) + background;
    }
  }
  if (FORMAT != FIELDS) each_border_pixel([&](int i) { s.x[i] = background; });
}

static void load_block(const Job& job, Scratch& s, long blk) {
  switch (job.format) {
    case FIELDS: return load_images<FIELDS>(job, s, blk);
    case PIXELS: return load_images<PIXELS>(job, s, blk);
    default: return load_images<BYTES>(job, s, blk);
  }
}

// Two rows of C1 before activation.  w is transposed to [tap][output].
static NOINLINE void c1_rows(const vf* in0, const float (*w)[6], const float* bias, vf z[2][6][28]) {
  for (int r = 0; r < 2; r++)
    for (int x = 0; x < 28; x += 2) {
      vf acc[6][2];
      UNROLL for (int o = 0; o < 6; o++) acc[o][0] = acc[o][1] = splat(bias[o]);
      const vf* in = in0 + r * 32 + x;
      for (int ky = 0; ky < 5; ky++, in += 32) {
        UNROLL for (int kx = 0; kx < 5; kx++) {
          vf u = in[kx], v = in[kx + 1];
          UNROLL for (int o = 0; o < 6; o++) {
            vf b = splat(w[ky * 5 + kx][o]);
            acc[o][0] += b * u;
            acc[o][1] += b * v;
          }
        }
      }
      UNROLL for (int o = 0; o < 6; o++) z[r][o][x] = acc[o][0], z[r][o][x + 1] = acc[o][1];
    }
}

template <int ACT, int POOL, bool TRAIN> static void c1_forward(Scratch& s, const float* w, const float* bias) {
  float wt[25][6];
  for (int t = 0; t < 25; t++)
    for (int o = 0; o < 6; o++) wt[t][o] = w[o * 25 + t];
  for (int py = 0; py < 14; py++) {
    vf z[2][6][28];
    c1_rows(s.x + 2 * py * 32, wt, bias, z);
    for (int o = 0; o < 6; o++)
      for (int px = 0; px < 14; px++) {
        vf q[4] = {z[0][o][2 * px], z[0][o][2 * px + 1], z[1][o][2 * px], z[1][o][2 * px + 1]}, d[4];
        s.p1[o][py][px] = act_pool<ACT, POOL>(q, d);
        if (!TRAIN) continue;
        UNROLL for (int k = 0; k < 4; k++) s.d1[2 * py + k / 2][o][2 * px + k % 2] = d[k];
      }
  }
}

// C3 takes two neighbouring outputs and a filter's row of five as polynomials in x.  Their product has six
// coefficients, so it is known by its values at six points (0, 1, -1, 2, -2 and infinity), which takes six
// multiplications instead of ten (Toom and Cook; in this form Winograd 1980).  With E and F the values of the two
// at the points, and B the matrix that gets coefficients from values, a tile of six inputs d has
//   inputs' gradient  B (E dy . F w),   outputs  E' (F w . B' d),   filter's gradient  F' (E dy . B' d),
// where . is elementwise and ' the transpose.  Sums over channels and rows of the filter are taken at the points.
// B is kept whole-numbered; F has its divisors.
static void filters_at_points(const float* w, Filters& f) {
  for (int o = 0; o < 16; o++)
    for (int c = 0; c < 6; c++)
      for (int ky = 0; ky < 5; ky++, w += 5) {
        float even = w[0] + w[2] + w[4], odd = w[1] + w[3];
        float even2 = w[0] + 4 * w[2] + 16 * w[4], odd2 = 2 * w[1] + 8 * w[3];
        float values[POINTS] = {0.25f * w[0],
                                (even + odd) * (-1 / 6.0f),
                                (even - odd) * (-1 / 6.0f),
                                (even2 + odd2) * (1 / 24.0f),
                                (even2 - odd2) * (1 / 24.0f),
                                w[4]};
        for (int k = 0; k < POINTS; k++)
          f.forward[k][o / 2][c][ky][o % 2] = f.backward[k][c / 2][o][ky][c % 2] = values[k];
      }
}

// The transpose of that: gradients at the points (POINTS, 16, 6, 5) to those of the filters.
static void filter_gradient(const float* at, float* dw) {
  for (int i = 0; i < 480; i++, dw += 5) {
    const float *q = at + i, plus = (q[480] + q[960]) * (-1 / 6.0f), minus = (q[480] - q[960]) * (-1 / 6.0f);
    const float plus2 = (q[1440] + q[1920]) * (1 / 24.0f), minus2 = (q[1440] - q[1920]) * (1 / 24.0f);
    dw[0] = q[0] * 0.25f + plus + plus2;
    dw[1] = minus + 2 * minus2;
    dw[2] = plus + 4 * plus2;
    dw[3] = minus + 8 * minus2;
    dw[4] = plus + 16 * plus2 + q[2400];
  }
}

// B' d of every tile.
static void c3_tiles(Scratch& s) {
  for (int c = 0; c < 6; c++)
    for (int y = 0; y < 14; y++)
      UNROLL for (int t = 0; t < 5; t++) {  // left as a loop, GCC 12 at -O1 and -O2 loses these stores
        const vf* d = &s.p1[c][y][2 * t];
        vf even = d[4] - 4.0f * d[2], odd = d[3] - 4.0f * d[1];
        vf even2 = d[4] - d[2], odd2 = 2.0f * (d[3] - d[1]);
        s.tiles[0][c][y][t] = 4.0f * d[0] - 5.0f * d[2] + d[4];
        s.tiles[1][c][y][t] = even + odd;
        s.tiles[2][c][y][t] = even - odd;
        s.tiles[3][c][y][t] = even2 + odd2;
        s.tiles[4][c][y][t] = even2 - odd2;
        s.tiles[5][c][y][t] = 4.0f * d[1] - 5.0f * d[3] + d[5];
      }
}

// A pointer that the compiler knows nothing of.  GCC otherwise carries rows over from one turn of a loop to the
// next, more of them than there are registers.
INLINE const vf* afresh(const vf* p) {
  asm("" : "+r"(p));
  return p;
}

// Row y of output channels 2 * pair and 2 * pair + 1 at one point, before E'.
static INLINE void c3_row(const vf tiles[6][14][5], const float filter[6][5][2], int y, vf* out0, vf* out1) {
  vf acc[2][5] = {};
  for (int c = 0; c < 6; c++) {
    const vf* in = afresh(tiles[c][y]);
    UNROLL for (int ky = 0; ky < 5; ky++, in += 5) {
      vf b0 = splat(filter[c][ky][0]), b1 = splat(filter[c][ky][1]);
      UNROLL for (int t = 0; t < 5; t++) {
        vf v = rounded(in[t]);
        acc[0][t] += b0 * v;
        acc[1][t] += b1 * v;
      }
    }
  }
  UNROLL for (int t = 0; t < 5; t++) out0[t] = acc[0][t], out1[t] = acc[1][t];
}
static NOINLINE void c3_products(Scratch& s, const Filters& f, int y) {
  for (int k = 0; k < POINTS; k++)
    for (int pair = 0; pair < 8; pair++)
      for (int r = 0; r < 2; r++)
        c3_row(s.tiles[k], f.forward[k][pair], y + r, s.products[k][2 * pair][r], s.products[k][2 * pair + 1][r]);
}

template <int ACT, int POOL, bool TRAIN> static void c3_forward(Scratch& s, const Filters& f, const float* bias) {
  c3_tiles(s);
  for (int py = 0; py < 5; py++) {
    c3_products(s, f, 2 * py);
    for (int o = 0; o < 16; o++)
      for (int px = 0; px < 5; px++) {
        vf q[4], d[4];
        UNROLL for (int r = 0; r < 2; r++) {
          vf m[POINTS];
          UNROLL for (int k = 0; k < POINTS; k++) m[k] = s.products[k][o][r][px];
          vf plus = m[1] + m[2], minus = m[1] - m[2], plus2 = m[3] + m[4], minus2 = m[3] - m[4];
          q[2 * r] = (m[0] + bias[o]) + plus + plus2;
          q[2 * r + 1] = (m[5] + bias[o]) + minus + 2.0f * minus2;
        }
        s.p3[(o * 5 + py) * 5 + px] = act_pool<ACT, POOL>(q, d);
        if (!TRAIN) continue;
        UNROLL for (int i = 0; i < 4; i++) s.d3[o][2 * py + i / 2][2 * px + i % 2] = d[i];
      }
  }
}

// out[j..j+T) = bias + W in, for T rows of W (row length I, known so that one pointer serves all rows).
template <int I, int T> INLINE void fc_rows(const float* w, const float* bias, const vf* in, vf* out) {
  vf acc[T];
  UNROLL for (int k = 0; k < T; k++) acc[k] = splat(bias[k]);
  for (int i = 0; i < I; i++) {
    UNROLL for (int k = 0; k < T; k++) acc[k] += w[k * I + i] * in[i];
  }
  UNROLL for (int k = 0; k < T; k++) out[k] = acc[k];
}

// out = W^T dz, T inputs at a time.
template <int I, int T> static void fc_input_grad(const float* w, const vf* dz, int J, vf* out) {
  for (int i = 0; i < I; i += T) {
    vf acc[T] = {};
    for (int j = 0; j < J; j++) {
      UNROLL for (int k = 0; k < T; k++) acc[k] += w[j * I + i + k] * dz[j];
    }
    UNROLL for (int k = 0; k < T; k++) out[i + k] = acc[k];
  }
}

template <int ACT> static void fc_forward(const Job& job, Scratch& s) {
  const float* const* w = job.w;
  int n = job.classes, j = 0;
  for (int j = 0; j < 120; j += 12) fc_rows<400, 12>(w[4] + j * 400, w[5] + j, s.p3, s.a5 + j);
  for (int j = 0; j < 120; j++) activate<ACT>(s.a5[j], s.a5[j], s.d5[j]);
  for (int j = 0; j < 84; j += 12) fc_rows<120, 12>(w[6] + j * 120, w[7] + j, s.a5, s.a6 + j);
  for (int j = 0; j < 84; j++) activate<ACT>(s.a6[j], s.a6[j], s.d6[j]);
  for (; j + 10 <= n; j += 10) fc_rows<84, 10>(w[8] + j * 84, w[9] + j, s.a6, s.out + j);
  for (; j < n; j++) fc_rows<84, 1>(w[8] + j * 84, w[9] + j, s.a6, s.out + j);
}

static void store_logits(const Job& job, const Scratch& s, long blk) {
  if (!job.logits) return;
  long n = job.batch - blk * V;
  for (int l = 0; l < V && l < n; l++)
    for (int c = 0; c < job.classes; c++) job.logits[(blk * V + l) * job.classes + c] = s.out[c][l];
}

// Softmax cross-entropy of smoothed labels: losses, and the gradient of the mean into dz7.
static void loss_grad(const Job& job, Scratch& s, long blk) {
  int C = job.classes;
  long n = job.batch - blk * V;
  vf m = s.out[0], sum = {}, total = {}, e[MAXC];
  for (int c = 1; c < C; c++) m = vmax(m, s.out[c]);
  for (int c = 0; c < C; c++) e[c] = vexp(s.out[c] - m), sum += e[c], total += s.out[c];
  vf* dz = s.dz7;
  float uniform = job.smoothing / C, keep = 1 - job.smoothing;
  vf weight = {}, r;
  for (int l = 0; l < V && l < n; l++) weight[l] = 1.0f / job.batch;  // padding lanes get no gradient
  r = weight / sum;
  for (int c = 0; c < C; c++) dz[c] = e[c] * r - uniform * weight;
  for (int l = 0; l < V && l < n; l++) {
    int64_t y = job.labels[blk * V + l];
    float lse = m[l] + std::log(sum[l]), loss = lse - s.out[y][l];
    int best = 0;  // the first of equals
    for (int c = 1; c < C; c++) best = s.out[c][l] > s.out[best][l] ? c : best;
    float* scores = job.image_scores + 3 * (blk * V + l);
    scores[0] = keep * loss + uniform * (C * lse - total[l]);
    scores[1] = loss;
    scores[2] = best == y;
    dz[y][l] -= keep * weight[l];
  }
}

// Copies a layer's input, image major, into panels of PW columns: at[panel][image][PW].
static void store_panels(const Job& job, long blk, const vf* in, int n, float* at) {
  for (int i = 0; i < n; i += V) {
    vf a[V];
    UNROLL for (int k = 0; k < V; k++) a[k] = in[i + k];
    transpose(a);
    float* p = at + ((i / PW) * job.blocks + blk) * V * PW + i % PW;
    UNROLL for (int k = 0; k < V; k++) *(vf*)(p + k * PW) = a[k];
  }
}

static void store_rows(const Job& job, long blk, const vf* dz, int n, vf* out) {
  for (int j = 0; j < n; j++) out[((j / ROWS) * job.blocks + blk) * ROWS + j % ROWS] = dz[j];
}

// E dy at point k.
template <int K> static void c3_at_point(Scratch& s) {
  for (int o = 0; o < 16; o++)
    for (int y = 0; y < 10; y++)
      for (int t = 0; t < 5; t++) {
        vf a = s.d3[o][y][2 * t], b = s.d3[o][y][2 * t + 1];
        s.at_point[o][y][t] = K == 0   ? a
                              : K == 1 ? a + b
                              : K == 2 ? a - b
                              : K == 3 ? a + 2.0f * b
                              : K == 4 ? a - 2.0f * b
                                       : b;
      }
}

// The filters' gradient at one point, of one block: dw[o][c][ky].
static NOINLINE void c3_weight_grad(const vf tiles[6][14][5], const vf g[16][10][5], float* dw) {
  for (int o = 0; o < 16; o += 2) {
    vf buf[round_up(60, V)];
    for (int c = 0; c < 6; c++) {
      vf acc[2][5] = {};
      for (int y = 0; y < 10; y++) {
        const vf* in = afresh(tiles[c][y]);
        UNROLL for (int t = 0; t < 5; t++) {
          vf g0 = g[o][y][t], g1 = g[o + 1][y][t];
          UNROLL for (int ky = 0; ky < 5; ky++) {
            vf v = rounded(in[ky * 5 + t]);
            acc[0][ky] += g0 * v;
            acc[1][ky] += g1 * v;
          }
        }
      }
      UNROLL for (int ky = 0; ky < 5; ky++) buf[c * 5 + ky] = acc[0][ky], buf[30 + c * 5 + ky] = acc[1][ky];
    }
    lane_sums(buf, 60, dw + o * 30);
  }
}

// The inputs' gradient at one point, in place of the tiles, which are not needed any more.
static NOINLINE void c3_input_products(const vf g[16][10][5], const float filter[3][16][5][2], vf out[6][14][5]) {
  for (int pair = 0; pair < 3; pair++)
    for (int y = 0; y < 14; y++) {
      vf acc[2][5] = {};
      int k0 = y > 9 ? y - 9 : 0, k1 = y < 4 ? y : 4;
      for (int o = 0; o < 16; o++)
        for (int ky = k0; ky <= k1; ky++) {
          vf b0 = splat(filter[pair][o][ky][0]), b1 = splat(filter[pair][o][ky][1]);
          const vf* in = afresh(g[o][y - ky]);
          UNROLL for (int t = 0; t < 5; t++) {
            vf v = rounded(in[t]);
            acc[0][t] += b0 * v;
            acc[1][t] += b1 * v;
          }
        }
      UNROLL for (int t = 0; t < 5; t++) out[2 * pair][y][t] = acc[0][t], out[2 * pair + 1][y][t] = acc[1][t];
    }
}

// B times that; tile t's six coefficients lie at 2 * t and on.
static void c3_input_grad(Scratch& s) {
  for (int c = 0; c < 6; c++)
    for (int y = 0; y < 14; y++) {
      vf* out = s.dp1[c][y];
      vf carry[4] = {};  // of the tiles before, at 2 * t .. 2 * t + 3
      for (int t = 0; t < 5; t++, out += 2) {
        vf p[POINTS];
        UNROLL for (int k = 0; k < POINTS; k++) p[k] = s.tiles[k][c][y][t];
        vf plus = p[1] + p[2], minus = p[1] - p[2], plus2 = p[3] + p[4], minus2 = p[3] - p[4];
        out[0] = carry[0] + 4.0f * p[0];
        out[1] = carry[1] + (4.0f * p[5] - 4.0f * minus - 2.0f * minus2);
        carry[0] = carry[2] - (5.0f * p[0] + 4.0f * plus + plus2);
        carry[1] = carry[3] + (minus + 2.0f * minus2 - 5.0f * p[5]);
        carry[2] = p[0] + plus + plus2;
        carry[3] = p[5];
      }
      UNROLL for (int i = 0; i < 4; i++) out[i] = carry[i];
    }
}

template <int K> static void c3_backward_at(const Job& job, Scratch& s, float* dw) {
  c3_at_point<K>(s);
  c3_weight_grad(s.tiles[K], s.at_point, dw + K * 480);
  c3_input_products(s.at_point, job.filters->backward[K], s.tiles[K]);
}
template <int... K> static void c3_backward(const Job& job, Scratch& s, float* dw, std::integer_sequence<int, K...>) {
  (c3_backward_at<K>(job, s, dw), ...);
  c3_input_grad(s);
}

static void c1_weight_grad(const Scratch& s, float* dw, float* db) {
  vf acc_w[round_up(150, V)] = {}, acc_b[round_up(6, V)] = {};
  for (int py = 0; py < 14; py++) {  // two rows at a time: one pooled row, and what fits in L1
    vf dz[2][6][28];
    for (int r = 0; r < 2; r++)
      for (int o = 0; o < 6; o++) {
        vf sum = {};
        for (int x = 0; x < 28; x++) sum += dz[r][o][x] = s.d1[2 * py + r][o][x] * s.dp1[o][py][x / 2];
        acc_b[o] += sum;
      }
    for (int ky = 0; ky < 5; ky++)
      for (int o = 0; o < 6; o += 2) {
        vf acc[2][5], *a0 = acc_w + o * 25 + ky * 5, *a1 = a0 + 25;
        UNROLL for (int k = 0; k < 5; k++) acc[0][k] = a0[k], acc[1][k] = a1[k];
        for (int r = 0; r < 2; r++) {
          const vf *in = s.x + (2 * py + r + ky) * 32, *g0 = dz[r][o], *g1 = dz[r][o + 1];
          for (int x = 0; x < 28; x += 7)
            UNROLL for (int i = x; i < x + 7; i++) {
              UNROLL for (int k = 0; k < 5; k++) {
                vf v = in[i + k];
                acc[0][k] += g0[i] * v;
                acc[1][k] += g1[i] * v;
              }
            }
        }
        UNROLL for (int k = 0; k < 5; k++) a0[k] = acc[0][k], a1[k] = acc[1][k];
      }
  }
  lane_sums(acc_w, 150, dw);
  lane_sums(acc_b, 6, db);
}

template <int ACT, int POOL, bool TRAIN> static void forward(const Job& job, Scratch& s, long blk) {
  load_block(job, s, blk);
  c1_forward<ACT, POOL, TRAIN>(s, job.w[0], job.w[1]);
  c3_forward<ACT, POOL, TRAIN>(s, *job.filters, job.w[3]);
  fc_forward<ACT>(job, s);
  store_logits(job, s, blk);
}

template <int ACT, int POOL> static void train_block(const Job& job, Scratch& s, long blk) {
  forward<ACT, POOL, true>(job, s, blk);
  store_panels(job, blk, s.p3, 400, job.at5);
  store_panels(job, blk, s.a5, 120, job.at6);
  store_panels(job, blk, s.a6, 84, job.at7);
  loss_grad(job, s, blk);

  fc_input_grad<84, 12>(job.w[8], s.dz7, job.classes, s.dz6);
  for (int i = 0; i < 84; i++) s.dz6[i] *= s.d6[i];
  fc_input_grad<120, 12>(job.w[6], s.dz6, 84, s.dz5);
  for (int i = 0; i < 120; i++) s.dz5[i] *= s.d5[i];
  fc_input_grad<400, 10>(job.w[4], s.dz5, 120, s.dp3);
  store_rows(job, blk, s.dz5, 120, job.dz5);
  store_rows(job, blk, s.dz6, 84, job.dz6);
  store_rows(job, blk, s.dz7, job.classes, job.dz7);

  float* slot = job.slots + blk * SLOT;
  vf sums[16];
  for (int o = 0; o < 16; o++) {
    sums[o] = vf{};
    for (int y = 0; y < 10; y++)
      for (int x = 0; x < 10; x++) sums[o] += s.d3[o][y][x] *= s.dp3[(o * 5 + y / 2) * 5 + x / 2];
  }
  lane_sums(sums, 16, slot + 156);
  c3_backward(job, s, slot + 172, std::make_integer_sequence<int, POINTS>());
  c1_weight_grad(s, slot, slot + 150);
}

// ---------------------------------------------------------------- one image
// A block costs the same whether one lane is used or all.  For a few images the lanes are neighbouring
// positions instead: a convolution runs over the rows of a map as one long row, and computes some positions
// that lie across two rows and are never read.
constexpr int SINGLES = 4;  // up to this many images are cheaper one by one
constexpr int P1 = round_up(28 * 32, 2 * V), P3 = round_up(10 * 14, 3 * V);  // positions of C1 and C3
struct Single {
  // Readable beyond the last position by the kernel's reach.
  vf x[(P1 + 160 + V) / V], z1[6 * P1 / V], p1[(5 * 196 + P3 + 64 + V) / V], z3[16 * P3 / V];
  vf p3[round_up(400, V) / V], a5[round_up(120, V) / V], a6[round_up(84, V) / V];
};

// out[o][position] for all O * groups output channels; T vectors of positions at a time.
template <int CI, int PLANE, int ROW, int O, int T>
static void convolve(const float* in, const float* w, const float* bias, int outputs, int positions, float* out) {
  constexpr int K = CI * 25;
  for (int o = 0; o < outputs; o += O)
    for (int p = 0; p < positions; p += T * V) {
      vf acc[O][T];
      UNROLL for (int j = 0; j < O; j++) {
        UNROLL for (int t = 0; t < T; t++) acc[j][t] = splat(bias[o + j]);
      }
      const float* wk = w + o * K;
      for (int c = 0; c < CI; c++)
        for (int ky = 0; ky < 5; ky++, wk += 5) {
          const float* from = in + c * PLANE + ky * ROW + p;
          UNROLL for (int kx = 0; kx < 5; kx++) {
            vf v[T];
            UNROLL for (int t = 0; t < T; t++) v[t] = *(const vfu*)(from + kx + t * V);
            UNROLL for (int j = 0; j < O; j++) {
              vf b = splat(wk[j * K + kx]);
              UNROLL for (int t = 0; t < T; t++) acc[j][t] += b * v[t];
            }
          }
        }
      UNROLL for (int j = 0; j < O; j++) {
        UNROLL for (int t = 0; t < T; t++) *(vfu*)(out + (o + j) * positions + p + t * V) = acc[j][t];
      }
    }
}

template <int ACT> INLINE void activate_all(vf* z, int n) {
  vf unused;
  for (int i = 0; i < n; i++) activate<ACT>(z[i], z[i], unused);
}

// Activation and 2x2 pooling of maps whose rows of 2 * SIDE are ROW apart; out[map][SIDE][SIDE].
template <int ACT, int POOL, int SIDE, int ROW> static void pool_maps(vf* z, int maps, int positions, float* out) {
  constexpr bool LATE = POOL == MAX && ACT != SILU;  // after a maximum, a quarter is left to activate
  if (!LATE) activate_all<ACT>(z, maps * positions / V);
  for (int o = 0; o < maps; o++)
    for (int y = 0; y < SIDE; y++) {
      const float* a = (const float*)z + o * positions + 2 * y * ROW;
      const float* b = a + ROW;
      for (int x = 0; x < SIDE; x++, a += 2, b += 2)
        if (POOL == AVG) {
          *out++ = ((a[0] + a[1]) + (b[0] + b[1])) * 0.25f;
        } else {
          float top = a[0] < a[1] ? a[1] : a[0], bottom = b[0] < b[1] ? b[1] : b[0];
          *out++ = top < bottom ? bottom : top;
        }
    }
}

// out = bias + W in, T rows of W at a time; the lanes run along a row.
template <int I, int T> static void fc_dots(const float* w, const float* bias, const float* in, int J, float* out) {
  constexpr int whole = I / V * V;
  for (int j = 0; j < J; j += T) {
    vf acc[round_up(T, V)] = {};
    for (int i = 0; i < whole; i += V) {
      vf v = *(const vfu*)(in + i);
      UNROLL for (int k = 0; k < T; k++) acc[k] += *(const vfu*)(w + (j + k) * I + i) * v;
    }
    float sums[T];
    lane_sums(acc, T, sums);
    for (int k = 0; k < T; k++) {
      float rest = bias[j + k];
      for (int i = whole; i < I; i++) rest += w[(j + k) * I + i] * in[i];
      out[j + k] = sums[k] + rest;
    }
  }
}

static void load_single(const Job& job, Single& s, long image) {
  float* x = (float*)s.x;
  if (job.format == FIELDS) {
    std::memcpy(x, (const float*)job.pixels + image * 1024, 4 * 1024);
    return;
  }
  each_border_pixel([&](int i) { x[i] = job.background; });
  typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
  typedef uint8_t four_bytes __attribute__((vector_size(4), aligned(1), may_alias));
  for (int y = 0; y < 28; y++)
    for (int i = 0; i < 28; i += 4) {
      long at = image * 784 + y * 28 + i;
      four p;
      if (job.format == BYTES)
        p = over_255(__builtin_convertvector(*(const four_bytes*)((const uint8_t*)job.pixels + at), four));
      else p = *(const four*)((const float*)job.pixels + at);
      *(four*)(x + (y + 2) * 32 + 2 + i) = rounded(p * job.span) + job.background;
    }
}

template <int ACT, int POOL> static void infer_single(const Job& job, Scratch&, long image) {
  Single& s = *job.single;
  constexpr bool LATE = POOL == MAX && ACT != SILU;
  const float* const* w = job.w;
  load_single(job, s, image);
  convolve<1, 1024, 32, 6, 2>((float*)s.x, w[0], w[1], 6, P1, (float*)s.z1);
  pool_maps<ACT, POOL, 14, 32>(s.z1, 6, P1, (float*)s.p1);
  if (LATE) activate_all<ACT>(s.p1, round_up(1176, V) / V);
  convolve<6, 196, 14, 4, 3>((float*)s.p1, w[2], w[3], 16, P3, (float*)s.z3);
  pool_maps<ACT, POOL, 5, 14>(s.z3, 16, P3, (float*)s.p3);
  if (LATE) activate_all<ACT>(s.p3, round_up(400, V) / V);
  fc_dots<400, 12>(w[4], w[5], (float*)s.p3, 120, (float*)s.a5);
  activate_all<ACT>(s.a5, round_up(120, V) / V);
  fc_dots<120, 12>(w[6], w[7], (float*)s.a5, 84, (float*)s.a6);
  activate_all<ACT>(s.a6, round_up(84, V) / V);
  int even = job.classes / 2 * 2;
  float* logits = job.logits + image * job.classes;
  fc_dots<84, 2>(w[8], w[9], (float*)s.a6, even, logits);
  fc_dots<84, 1>(w[8] + even * 84, w[9] + even, (float*)s.a6, job.classes - even, logits + even);
}

// ---------------------------------------------------------------- after all blocks
// Panel p of dW[J][I] = dz^T at, summed over all images; with panel 0 the bias gradient as well.
static void fc_grad(const Job& job, int p, const vf* dz, int J, int I, const float* at, float* dw, float* db) {
  const float* panel = at + (long)p * job.blocks * V * PW;
  int cols = I - p * PW < PW ? I - p * PW : PW;
  for (int j = 0; j < J; j += ROWS, dz += job.blocks * ROWS) {
    vf acc[ROWS][2] = {};
    const vf* a = (const vf*)panel;
    for (long b = 0; b < job.blocks; b++) {
      const float* d = (const float*)(dz + b * ROWS);
      UNROLL for (int l = 0; l < V; l++, a += 2) {
        vf u = a[0], v = a[1];
        UNROLL for (int k = 0; k < ROWS; k++) {
          vf w = splat(d[k * V + l]);
          acc[k][0] += w * u;
          acc[k][1] += w * v;
        }
      }
    }
    for (int k = 0; k < ROWS && j + k < J; k++) {
      float* out = dw + (j + k) * I + p * PW;
      if (cols == PW) *(vfu*)out = acc[k][0], *(vfu*)(out + V) = acc[k][1];
      else std::memcpy(out, acc[k], 4 * cols);
    }
    if (p) continue;
    vf sums[round_up(ROWS, V)] = {};
    for (long b = 0; b < job.blocks; b++)
      for (int k = 0; k < ROWS; k++) sums[k] += dz[b * ROWS + k];
    lane_sums(sums, J - j < ROWS ? J - j : ROWS, db + j);
  }
}

constexpr int N5 = panels(400), N6 = panels(120), N7 = panels(84), TASKS = N5 + N6 + N7 + 1;

static void reduce(const Job& job, int task) {
  if (task < N5) return fc_grad(job, task, job.dz5, 120, 400, job.at5, job.g[4], job.g[5]);
  if ((task -= N5) < N6) return fc_grad(job, task, job.dz6, 84, 120, job.at6, job.g[6], job.g[7]);
  if ((task -= N6) < N7)
    return fc_grad(job, task, job.dz7, job.classes, 84, job.at7, job.g[8], job.g[9]);
  float sum[SLOT];
  std::memcpy(sum, job.slots, sizeof sum);
  for (long b = 1; b < job.blocks; b++)
    for (int i = 0; i < SLOT; i++) sum[i] += job.slots[b * SLOT + i];
  std::memcpy(job.g[0], sum, 4 * 150), std::memcpy(job.g[1], sum + 150, 4 * 6);
  std::memcpy(job.g[3], sum + 156, 4 * 16), filter_gradient(sum + 172, job.g[2]);
}

// ---------------------------------------------------------------- Adam
// Element by element, so the result depends on no order.
static void adam_range(const Adam& a, float count, float* __restrict p, float* __restrict m, float* __restrict v,
                       const float* __restrict g, long n) {
  const float lr = a.lr, beta1 = a.beta1, beta2 = a.beta2, eps = a.eps, decay = a.weight_decay;
  const float correction1 = 1 - std::pow(a.beta1, count), correction2 = 1 - std::pow(a.beta2, count);
  const float rate = lr / correction1, root = 1 / std::sqrt(correction2);
  const float l2 = a.decoupled ? 0 : decay, keep = a.decoupled ? 1 - lr * decay : 1;
  for (long i = 0; i < n; i++) {
    float d = g[i] + l2 * p[i];
    float first = m[i] = m[i] + (1 - beta1) * (d - m[i]);
    float second = v[i] = beta2 * v[i] + (1 - beta2) * (d * d);
    p[i] = keep * p[i] - rate * first / (std::sqrt(second) * root + eps);
  }
}

constexpr long CHUNK = 8192;  // elements that a thread takes at a time

// Calls f(tensor, first element, number of elements) for every chunk of every tensor.
template <class F> static void each_chunk(const Job& job, F f) {
  const long sizes[TENSORS] = {150, 6, 2400, 16, 48000, 120, 10080, 84, 84 * job.classes, job.classes};
  for (int k = 0; k < TENSORS; k++)
    for (long at = 0; at < sizes[k]; at += CHUNK) f(k, at, std::min(CHUNK, sizes[k] - at));
}

static void adam_chunk(const Job& job, long chunk) {
  const Adam& a = *job.adam;
  each_chunk(job, [&](int k, long at, long n) {
    if (chunk-- == 0) adam_range(a, *a.step[k] + 1, job.w[k] + at, a.m[k] + at, a.v[k] + at, job.g[k] + at, n);
  });
}

// ---------------------------------------------------------------- threads
// A call is a list of items: the blocks, then (training) the reduction tasks, which need all blocks, then (with Adam)
// the chunks of the tensors, which need those.
#if defined(__wasm__)
struct Pool {
  Job job;
  char* memory = nullptr;
  size_t size = 0;
};
static Pool pool;

static void run(long items, int) {
  const Job& job = pool.job;
  for (long item = 0; item < items; item++)
    if (item < job.blocks) job.block(job, *job.scratch, item);
    else if (item < job.blocks + TASKS) reduce(job, item - job.blocks);
    else adam_chunk(job, item - job.blocks - TASKS);
}
#else
// Threads take the next item until there is none, and wait where it needs what others still do.
// A worker joins a call under the lock, and the caller waits for those that have joined: it never waits for one that
// has not woken up, and one that wakes up late finds the call closed.
struct Pool {
  std::mutex entry;  // one call at a time
  std::mutex lock;
  std::condition_variable wake;
  std::atomic<long> calls{0}, next{0}, done{0};
  std::atomic<int> joined{0};
  bool open = false;
  long items = 0;
  int threads = 1, workers = 0;  // of this call; started so far
  Job job;
  char* memory = nullptr;
  size_t size = 0;
};
// Never destroyed, since workers wait in it until the process ends.  They do not survive a fork: a child starts anew.
static Pool& pool = *new Pool;
#if !defined(_WIN32)  // which has no fork
static const int fork_handler = pthread_atfork(nullptr, nullptr, [] { new (&pool) Pool; });
#endif

static void cpu_pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}
template <class F> static void spin_until(F ready) {
  for (int i = 0; !ready(); i++) i < 2000 ? cpu_pause() : std::this_thread::yield();
}
static void do_item(int thread, long item) {
  const Job& job = pool.job;
  if (item < job.blocks) return job.block(job, job.scratch[thread], item);
  spin_until([&] { return pool.done >= job.blocks; });
  if ((item -= job.blocks) < TASKS) return reduce(job, item);
  spin_until([&] { return pool.done >= job.blocks + TASKS; });
  adam_chunk(job, item - TASKS);
}
static void work(int thread) {
  for (long item; (item = pool.next++) < pool.items; pool.done++) do_item(thread, item);
}
static void worker(int thread) {
  using clock = std::chrono::steady_clock;
  for (long seen = 0;;) {
    auto called = [&] { return pool.calls != seen; };
    for (auto end = clock::now() + std::chrono::microseconds(60); !called() && clock::now() < end;)
      for (int i = 0; i < 16; i++) cpu_pause();
    {
      std::unique_lock<std::mutex> hold(pool.lock);
      pool.wake.wait(hold, called);
      seen = pool.calls;
      if (!pool.open || thread >= pool.threads) continue;
      pool.joined++;
    }
    work(thread);
    pool.joined--;
  }
}
static void run(long items, int threads) {
  for (; pool.workers < threads - 1; pool.workers++) std::thread(worker, pool.workers + 1).detach();
  pool.next = pool.done = 0, pool.items = items, pool.threads = threads;
  if (threads > 1) {
    {
      std::lock_guard<std::mutex> hold(pool.lock);
      pool.open = true, pool.calls++;
    }
    pool.wake.notify_all();
  }
  work(0);
  if (threads > 1) {
    std::lock_guard<std::mutex> hold(pool.lock);
    pool.open = false;
  }
  spin_until([] { return pool.joined == 0; });
}
#endif

// ---------------------------------------------------------------- the call
template <int ACT, int POOL> static void choose_block(Job& job, bool singles) {
  job.block = job.labels ? train_block<ACT, POOL> : singles ? infer_single<ACT, POOL> : forward<ACT, POOL, false>;
}
template <int ACT> static void choose_block(Job& job, bool singles) {
  job.pooling == AVG ? choose_block<ACT, AVG>(job, singles) : choose_block<ACT, MAX>(job, singles);
}

// Gives the job its arrays, in memory that is kept from call to call.  Returns whether there was enough.
static bool allocate(Job& job, int threads) {
  size_t used;
  char* base = nullptr;
  auto take = [&](auto*& array, size_t count) {
    if (base) array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(base + used);
    used += (count * sizeof(*array) + 63) / 64 * 64;
  };
  auto take_all = [&] {
    const long n = job.blocks;
    used = 0;
    take(job.scratch, threads), take(job.single, 1), take(job.filters, 1);
    if (!job.labels) return;
    take(job.slots, n * SLOT), take(job.image_scores, n * V * 3);
    take(job.at5, n * V * PW * N5), take(job.at6, n * V * PW * N6), take(job.at7, n * V * PW * N7);
    take(job.dz5, n * 120), take(job.dz6, n * 84), take(job.dz7, n * round_up(job.classes, ROWS));
  };
  take_all();  // to know the size
  if (used > pool.size) {
    std::free(pool.memory);
    pool.size = (used + 65535) / 65536 * 65536;
    // Zeros, since padding columns and rows are computed with, though never used.  Windows has no aligned_alloc.
    pool.memory = (char*)std::calloc(pool.size + 64, 1);
    if (!pool.memory) return pool.size = 0, false;
  }
  base = pool.memory + (64 - (uintptr_t)pool.memory % 64);
  take_all();
  return true;
}

enum { OK, BAD_LABEL, NO_MEMORY };

extern "C" int lenet5_call(Call* call) {
  Job job{};
  static_cast<Call&>(job) = *call;
  const long B = job.batch;
  const bool train = job.labels, singles = !train && B <= SINGLES;
  for (long i = 0; train && i < B; i++)
    if (job.labels[i] < 0 || job.labels[i] >= job.classes) return BAD_LABEL;
  job.blocks = singles ? B : (B + V - 1) / V;
  const int threads = singles ? 1 : std::max(1L, std::min<long>(job.threads, job.blocks));
  switch (job.activation) {
    case TANH: choose_block<TANH>(job, singles); break;
    case RELU: choose_block<RELU>(job, singles); break;
    default: choose_block<SILU>(job, singles);
  }
#if !defined(__wasm__)
  std::lock_guard<std::mutex> hold(pool.entry);
#endif
  if (!allocate(job, threads)) return NO_MEMORY;
  if (!singles) filters_at_points(job.w[2], *job.filters);
  long items = job.blocks + (train ? TASKS : 0);
  if (job.adam) each_chunk(job, [&](int, long, long) { items++; });
  pool.job = job;
  run(items, threads);
  if (!train) return OK;
  for (int k = 0; job.adam && k < TENSORS; k++) *job.adam->step[k] += 1;
  std::fill(call->scores, call->scores + 3, 0);
  for (long i = 0; i < 3 * B; i++) call->scores[i % 3] += job.image_scores[i];
  call->scores[0] /= B, call->scores[1] /= B;
  return OK;
}
#if defined(__clang__) && defined(__AVX512F__)
#pragma clang attribute pop
#endif
