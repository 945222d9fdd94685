// Renders distorted digits from tables of plain numbers; what `render` in data/distortions.py does
// with torch, up to rounding.  One image at a time, so results do not depend on the batch.
#include <cstdint>

namespace {
constexpr int SIDE = 28, KNOTS = 7, AFFINE = 6, VALUES = AFFINE + 2 * KNOTS * KNOTS;
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
    for (int i = AFFINE; i < VALUES; i++) elastic |= values[i] != 0.0f;
    warp(source, values, basis, elastic, out + b * SIDE * SIDE);
  }
  return 0;
}
