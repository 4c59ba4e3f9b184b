// The C ABI of the native CPU kernels: argument blocks that Python fills through ctypes.
// Shapes: B batch, K directions, L tokens, D channels, N states, W taps. float32, raster order; the last stride is always 1.
// Strides count elements; x_k = 0 where x (B, L, D) is shared by the directions. Absent tensors are null.
#pragma once
#include <cstdint>

#define LMS_ABI 5  // native.py checks it: raise it with every change of this file

struct ScanArgs {
  int64_t B, K, L, D, N, R, threads, softplus, x_shared, k_major;  // R: rank of delta, 0 where delta (B, K, L, D) is whole
  int64_t x_b, x_k, x_l, delta_b, delta_k, delta_l, B_b, B_k, B_l, C_b, C_k, C_l, z_b, z_l, dy_b, dy_k, dy_l;
  // A (K, D, N), Dv and bias (K, D), weight (K, D, R), which delta (B, K, L, R) is multiplied with: contiguous.
  const float *x, *delta, *A, *Bm, *Cm, *Dv, *z, *bias, *weight;
  const int32_t* order;                                  // (K, L), contiguous
  const uint8_t* reset;                                  // (K, L), contiguous
  float *y, *states;                                     // (B, K, L, D); (B, K, chunks, N, round_up(D, 16)) or null
  const float* dy;                                       // from here on: backward only
  // Shapes of the inputs, contiguous; with k_major those of each batch and direction are (K, B, L, ...).
  float *dx, *ddelta, *dA, *dB, *dC, *dD, *dz, *dbias, *dweight;
};

struct ConvArgs {
  int64_t B, K, L, D, W, threads;
  int64_t x_b, x_l, dy_b, dy_k, dy_l;
  const float *x, *weight, *bias;  // weight (K, D, W), bias (K, D): contiguous
  const int32_t* order;
  float* y;  // (K, B, L, D)
  const float* dy;
  float *dx, *dweight, *dbias;
};

struct MergeArgs {
  int64_t B, K, L, D, threads;
  double eps;
  // x (B, K, L, D), gate (B, K, D) or null, spatial (B, K, L) or null, weights (K): contiguous, as is all below.
  const float *x, *gate, *spatial, *weights;
  float *y, *moments;  // (B, L, D) of a merge or (B, K, D) of the mean; (B, K, L, 2): mean and 1 / deviation
  const float* dy;
  float *dx, *dgate, *dspatial, *dweights;
};

namespace lms {

constexpr int64_t kTile = 256;     // channels of one work item: whole cache lines of every token it visits
constexpr int64_t kMaxChunk = 32;  // tokens between two saved states; a chunk's buffers stay in L1 and L2
constexpr int64_t kPad = 16;       // channel rows inside the library are padded to the widest vector
constexpr int64_t kMaxTaps = 8;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Chunks have equal lengths (the last may be shorter), so that none is left with a few tokens only.
struct Chunks {
  int64_t count, length;
  explicit Chunks(int64_t L) : count(ceil_div(L, kMaxChunk)), length(ceil_div(L, count)) {}
};

// A * log2 e as (K, N, Dp); D and bias as (K, Dp), zero where absent; weight as (K, R, Dp); silu(z) as (B, L, D).
// Dp = round_up(D, kPad).
struct ScanConstants {
  int64_t Dp;
  const float *A2, *D, *bias, *weight, *gate;
};

// What every work item of a backward leaves to be summed: over the batch (dA, dD, dbias, dweight) and over the tiles (dB, dC and,
// of low rank, ddelta).
struct ScanPartials {
  float *dA, *dD, *dbias, *dweight;  // (B, K, N, Dp), (B, K, Dp), (B, K, Dp), (B, K, R, Dp)
  float *dB, *dC, *ddelta;           // (tiles, B, K, L, N), twice; (tiles, B, K, L, R)
};

// The weight as (K, W, Dp) and the bias as (K, Dp), zero where absent.
struct ConvConstants {
  int64_t Dp;
  const float *weight, *bias;
};

}  // namespace lms
