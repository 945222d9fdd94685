// Renders distorted digits from tables of plain numbers; what `render` in data/distortions.py does
// with torch, up to rounding.  One image at a time, so results do not depend on the batch.
#include <cmath>
#include <cstdint>

namespace {
constexpr int SIDE = 28, KNOTS = 7, AFFINE = 6, ELASTIC_END = AFFINE + 2 * KNOTS * KNOTS;
enum { STROKE = ELASTIC_END, BLUR, INK, NOISE, NOISE_KEY, MARKS };
constexpr int NUM_MARKS = 2, MARK_VALUES = 5, VALUES = MARKS + NUM_MARKS * MARK_VALUES;
// One pixel of background before the image and two after it: a clamped sample reads no other.
constexpr int STRIDE = SIDE + 4;

// out = basis (28, 7) * knots (7, 7) * basis^T
void add_field(const float* basis, const float* knots, float* out) {
  float half[SIDE][KNOTS], transposed[KNOTS][SIDE];
  for (int y = 0; y < SIDE; y++)
    for (int k = 0; k < KNOTS; k++) transposed[k][y] = basis[y * KNOTS + k];
  for (int y = 0; y < SIDE; y++)
    for (int k = 0; k < KNOTS; k++) {
      float sum = 0;
      for (int j = 0; j < KNOTS; j++) sum += basis[y * KNOTS + j] * knots[j * KNOTS + k];
      half[y][k] = sum;
    }
  for (int y = 0; y < SIDE; y++) {
    float row[SIDE];
    for (int x = 0; x < SIDE; x++) row[x] = out[y * SIDE + x];
    for (int k = 0; k < KNOTS; k++)
      for (int x = 0; x < SIDE; x++) row[x] += half[y][k] * transposed[k][x];
    for (int x = 0; x < SIDE; x++) out[y * SIDE + x] = row[x];
  }
}

// A NaN becomes -1, which is background.
inline float clamp(float a) { return a > -1.0f ? (a < SIDE ? a : float(SIDE)) : -1.0f; }

void warp(const float* source, const float* values, const float* basis, bool elastic, float* out) {
  float sy[SIDE * SIDE], sx[SIDE * SIDE];
  for (int y = 0; y < SIDE; y++)
    for (int x = 0; x < SIDE; x++) {
      sy[y * SIDE + x] = values[0] * float(y) + values[1] * float(x) + values[2];
      sx[y * SIDE + x] = values[3] * float(y) + values[4] * float(x) + values[5];
    }
  if (elastic) {
    add_field(basis, values + AFFINE, sy);
    add_field(basis, values + AFFINE + KNOTS * KNOTS, sx);
  }
  for (int i = 0; i < SIDE * SIDE; i++) {
    float y = clamp(sy[i]) + 1.0f, x = clamp(sx[i]) + 1.0f;  // 0 .. 29
    int top = int(y), left = int(x);
    float down = y - float(top), right = x - float(left);
    const float* p = source + top * STRIDE + left;
    float upper = p[0] + right * (p[1] - p[0]);
    float lower = p[STRIDE] + right * (p[STRIDE + 1] - p[STRIDE]);
    out[i] = upper + down * (lower - upper);
  }
}
// The largest (or, of a negative sign, smallest) of each pixel and the four around it.
void largest_neighbour(const float* in, float* out, float sign) {
  for (int y = 1; y <= SIDE; y++)
    for (int x = 1; x <= SIDE; x++) {
      const float* p = in + y * STRIDE + x;
      float a = sign * p[-1], b = sign * p[1], c = sign * p[-STRIDE], d = sign * p[STRIDE];
      float m = sign * p[0];
      a = a > b ? a : b, c = c > d ? c : d;
      a = a > c ? a : c;
      out[y * STRIDE + x] = sign * (m > a ? m : a);
    }
}

void mix(float* x, const float* from, const float* to, float share) {
  for (int i = 0; i < STRIDE * (SIDE + 3); i++) x[i] += share * (to[i] - from[i]);
}

void grow(float* source, float amount) {
  float once[STRIDE * (SIDE + 3)] = {}, twice[STRIDE * (SIDE + 3)] = {};
  largest_neighbour(source, once, amount < 0 ? -1.0f : 1.0f);
  if (amount < 0) return mix(source, source, once, -amount);
  if (amount > 1) largest_neighbour(once, twice, 1.0f);
  float before[STRIDE * (SIDE + 3)];
  for (int i = 0; i < STRIDE * (SIDE + 3); i++) before[i] = source[i];
  mix(source, before, once, amount < 1 ? amount : 1.0f);
  if (amount > 1) mix(source, once, twice, amount < 2 ? amount - 1 : 1.0f);
}

void draw_mark(float* source, const float* mark) {
  float y0 = mark[0], x0 = mark[1], dy = mark[2] - y0, dx = mark[3] - x0, radius = mark[4];
  float square = dy * dy + dx * dx;
  if (!(radius > 0)) return;
  for (int y = 0; y < SIDE; y++)
    for (int x = 0; x < SIDE; x++) {
      float along = ((float(y) - y0) * dy + (float(x) - x0) * dx) / (square > 1e-6f ? square : 1e-6f);
      along = along < 0 ? 0 : along > 1 ? 1 : along;
      float ry = float(y) - y0 - along * dy, rx = float(x) - x0 - along * dx;
      float cover = radius + 0.5f - std::sqrt(ry * ry + rx * rx);
      float& pixel = source[(y + 1) * STRIDE + x + 1];
      cover = cover < 1 ? cover : 1;
      if (cover > pixel) pixel = cover;
    }
}

inline uint32_t hash32(uint32_t value) {
  uint32_t state = value * 747796405u + 2891336453u;
  uint32_t word = ((state >> ((state >> 28) + 4)) ^ state) * 277803737u;
  return (word >> 22) ^ word;
}

void expose(float* x, const float* values) {
  float share = values[BLUR], ink = values[INK], noise = values[NOISE];
  if (share != 0) {
    float rows[SIDE + 2][SIDE + 2] = {}, down[SIDE][SIDE + 2];
    for (int y = 0; y < SIDE; y++)
      for (int i = 0; i < SIDE; i++) rows[y + 1][i + 1] = x[y * SIDE + i];
    for (int y = 0; y < SIDE; y++)
      for (int i = 0; i < SIDE + 2; i++)
        down[y][i] = 0.25f * (rows[y][i] + 2 * rows[y + 1][i] + rows[y + 2][i]);
    for (int y = 0; y < SIDE; y++)
      for (int i = 0; i < SIDE; i++) {
        float soft = 0.25f * (down[y][i] + 2 * down[y][i + 1] + down[y][i + 2]);
        x[y * SIDE + i] += share * (soft - x[y * SIDE + i]);
      }
  }
  uint32_t key = uint32_t(values[NOISE_KEY]) * 1024u;
  for (uint32_t i = 0; i < SIDE * SIDE; i++) {
    float a = x[i] * ink;
    if (noise != 0) a += noise * (float(hash32(key + i)) * 0x1p-31f - 1.0f);
    x[i] = a > 0 ? (a < 1 ? a : 1.0f) : 0.0f;
  }
}
}  // namespace

// images: (N, 28, 28); indices: (batch,); table: (batch, VALUES); basis: (28, 7); out: (batch, 28,
// 28).  Returns 0, or 1 where an index is out of range; nothing is written then.
extern "C" int lenet_distort(const uint8_t* images, int64_t num_images, const int64_t* indices,
                             int64_t batch, const float* table, const float* basis, float* out) {
  for (int64_t b = 0; b < batch; b++)
    if (indices[b] < 0 || indices[b] >= num_images) return 1;
  float source[STRIDE * (SIDE + 3)] = {};
  for (int64_t b = 0; b < batch; b++) {
    const uint8_t* image = images + indices[b] * SIDE * SIDE;
    for (int y = 0; y < SIDE; y++)
      for (int x = 0; x < SIDE; x++)
        source[(y + 1) * STRIDE + x + 1] = float(image[y * SIDE + x]) / 255.0f;
    const float* values = table + b * VALUES;
    bool elastic = false;
    for (int i = AFFINE; i < ELASTIC_END; i++) elastic |= values[i] != 0.0f;
    if (values[STROKE] != 0) grow(source, values[STROKE]);
    for (int m = 0; m < NUM_MARKS; m++) draw_mark(source, values + MARKS + m * MARK_VALUES);
    warp(source, values, basis, elastic, out + b * SIDE * SIDE);
    expose(out + b * SIDE * SIDE, values);
  }
  return 0;
}
