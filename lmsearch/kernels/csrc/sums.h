// Parameters as the kernels read them, and the sums of what work items left.
#pragma once
#include "args.h"
#include "parallel.h"

namespace lms {

// (rows, cols) -> (cols, padded rows) times `scale` for each of `count` matrices; zeros for a null source.
static void pad_transposed(float* to, const float* from, int64_t count, int64_t rows, int64_t cols, int64_t padded, float scale) {
  for (int64_t i = 0; i < count * cols * padded; i++) to[i] = 0.f;
  for (int64_t m = 0; from && m < count; m++) {
    for (int64_t r = 0; r < rows; r++) {
      // A NaN times scale becomes the canonical NaN, whose bits survive the kernels' integer arithmetic.
      for (int64_t c = 0; c < cols; c++) {
        float v = from[(m * rows + r) * cols + c];
        to[(m * cols + c) * padded + r] = v != v ? __builtin_nanf("") : v * scale;
      }
    }
  }
}

// The reverse, summed over `batch` in order: (batch, count, cols, padded rows) -> (count, rows, cols).
static void sum_transposed(float* to, const float* from, int64_t batch, int64_t count, int64_t rows, int64_t cols, int64_t padded,
                           int64_t threads) {
  constexpr int64_t kRows = 64;  // summed together, so that memory is read along them
  const int64_t blocks = ceil_div(rows, kRows), matrices = count * cols;
  parallel_for(matrices * blocks, useful_threads(threads, batch * matrices * rows), 0, [&](int64_t item, float*) {
    const int64_t i = item / blocks / cols, c = item / blocks % cols, r0 = item % blocks * kRows;
    const int64_t width = rows - r0 < kRows ? rows - r0 : kRows;
    double sum[kRows] = {};
    for (int64_t b = 0; b < batch; b++) {
      const float* row = from + ((b * count + i) * cols + c) * padded + r0;
      for (int64_t r = 0; r < width; r++) sum[r] += row[r];
    }
    for (int64_t r = 0; r < width; r++) to[(i * rows + r0 + r) * cols + c] = static_cast<float>(sum[r]);
  });
}

// Shares of the tiles, `n` floats each, summed in order.
static void sum_tiles(float* to, const float* from, int64_t tiles, int64_t n, int64_t threads) {
  const int64_t block = 1 << 14;
  parallel_for(ceil_div(n, block), useful_threads(threads, n * tiles), 0, [&](int64_t i, float*) {
    int64_t end = (i + 1) * block < n ? (i + 1) * block : n;
    for (int64_t j = i * block; j < end; j++) to[j] = from[j];
    for (int64_t tile = 1; tile < tiles; tile++) {
      for (int64_t j = i * block; j < end; j++) to[j] += from[tile * n + j];
    }
  });
}

}  // namespace lms
