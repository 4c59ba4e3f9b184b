// The native CPU kernels: the table-driven selective scan and convolution, forward and backward, behind a plain C ABI.
// The kernels are compiled for AVX-512, AVX2 and any CPU; the caller picks one of the sets this CPU has, by name.
#include "args.h"
#include "parallel.h"
#include "sums.h"

#include <algorithm>
#include <cstring>

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#define LMS_X86 1
#endif

namespace lms {

struct Kernels {
  const char* name;
  int64_t (*workspace)(const ScanArgs&, bool backward);
  void (*gate)(const ScanArgs&, int64_t b, float* gate);
  void (*forward)(const ScanArgs&, const ScanConstants&, int64_t b, int64_t k, int64_t tile, float* workspace);
  void (*backward)(const ScanArgs&, const ScanConstants&, int64_t b, int64_t k, int64_t tile, bool first, const ScanPartials&, float*);
  void (*conv_forward)(const ConvArgs&, const ConvConstants&, int64_t b, int64_t k, int64_t tile);
  void (*conv_backward)(const ConvArgs&, const ConvConstants&, int64_t, int64_t, int64_t, bool first, float* dweight, float* dbias);
  void (*merge_forward)(const MergeArgs&, int64_t b, int64_t l0, int64_t l1, float* workspace);
  void (*merge_backward)(const MergeArgs&, int64_t b, int64_t k, float* workspace, float* dweight);
  void (*normed_mean_forward)(const MergeArgs&, int64_t b, int64_t k, float* workspace);
  void (*normed_mean_backward)(const MergeArgs&, int64_t b, int64_t k, float* workspace);
  void (*gated_sum_forward)(const MergeArgs&, int64_t b, int64_t l0, int64_t l1);
  void (*gated_sum_backward)(const MergeArgs&, int64_t b, int64_t k, float* workspace);
};
#define LMS_KERNELS(name) \
  static const Kernels kernels = {name,          scan_workspace, scan_gate,     scan_forward,   scan_backward,       \
                                  conv_forward,  conv_backward,  merge_forward, merge_backward, normed_mean_forward, \
                                  normed_mean_backward, gated_sum_forward, gated_sum_backward};

#if LMS_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
namespace avx512 {
#define LMS_ISA 512
#include "simd.inc"
#include "scan_kernel.inc"
#include "scan_backward.inc"
#include "conv_kernel.inc"
#include "merge_kernel.inc"
LMS_KERNELS("avx512")
#undef LMS_ISA
#undef LMS_INLINE
#undef LMS_STEP
#undef LMS_UNROLL
}  // namespace avx512
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define LMS_ISA 256
#include "simd.inc"
#include "scan_kernel.inc"
#include "scan_backward.inc"
#include "conv_kernel.inc"
#include "merge_kernel.inc"
LMS_KERNELS("avx2")
#undef LMS_ISA
#undef LMS_INLINE
#undef LMS_STEP
#undef LMS_UNROLL
}  // namespace avx2
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // LMS_X86

namespace portable {
#define LMS_ISA 128
#include "simd.inc"
#include "scan_kernel.inc"
#include "scan_backward.inc"
#include "conv_kernel.inc"
#include "merge_kernel.inc"
LMS_KERNELS("portable")
}  // namespace portable

// The kernels of that name, the best ones for an empty name, null where this CPU or build lacks them.
static const Kernels* find_kernels(const char* name) {
  auto wanted = [name](const Kernels& k) { return !*name || !strcmp(name, k.name); };
#if LMS_X86
  __builtin_cpu_init();
  bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx512 && wanted(avx512::kernels)) return &avx512::kernels;
  if (has_avx2 && wanted(avx2::kernels)) return &avx2::kernels;
#endif
  return wanted(portable::kernels) ? &portable::kernels : nullptr;
}

struct ScanSetup {
  Floats A2, D, bias, weight, gate;
  ScanConstants constants;
  explicit ScanSetup(const Kernels& kernels, const ScanArgs& a)
      : A2(a.K * a.N * round_up(a.D, kPad)), D(a.K * round_up(a.D, kPad)), bias(a.K * round_up(a.D, kPad)),
        weight(a.K * a.R * round_up(a.D, kPad)), gate(a.z ? a.B * a.L * a.D : 0),
        constants{round_up(a.D, kPad), A2.get(), D.get(), bias.get(), weight.get(), gate.get()} {
    if (a.z) {
      parallel_for(a.B, useful_threads(a.threads, 8 * a.B * a.L * a.D), 0,
                   [&](int64_t b, float*) { kernels.gate(a, b, gate.get()); });
    }
    pad_transposed(A2.get(), a.A, a.K, a.D, a.N, constants.Dp, 1.44269504f);
    pad_transposed(D.get(), a.Dv, a.K, a.D, 1, constants.Dp, 1.f);
    pad_transposed(bias.get(), a.bias, a.K, a.D, 1, constants.Dp, 1.f);
    pad_transposed(weight.get(), a.weight, a.K, a.D, a.R, constants.Dp, 1.f);
  }
};

struct ConvSetup {
  Floats weight, bias;
  ConvConstants constants;
  explicit ConvSetup(const ConvArgs& a)
      : weight(a.K * a.W * round_up(a.D, kPad)), bias(a.K * round_up(a.D, kPad)),
        constants{round_up(a.D, kPad), weight.get(), bias.get()} {
    pad_transposed(weight.get(), a.weight, a.K, a.D, a.W, constants.Dp, 1.f);
    pad_transposed(bias.get(), a.bias, a.K, a.D, 1, constants.Dp, 1.f);
  }
};

static void run_scan_forward(const Kernels& kernels, const ScanArgs& a) {
  ScanSetup setup(kernels, a);
  int64_t tiles = ceil_div(a.D, kTile), threads = useful_threads(a.threads, a.B * a.K * a.L * a.D * (a.N + 1));
  parallel_for(a.B * a.K * tiles, threads, kernels.workspace(a, false), [&](int64_t i, float* workspace) {
    kernels.forward(a, setup.constants, i / tiles / a.K, i / tiles % a.K, i % tiles, workspace);
  });
}

static void run_scan_backward(const Kernels& kernels, const ScanArgs& a) {
  ScanSetup setup(kernels, a);
  int64_t Dp = setup.constants.Dp, tiles = ceil_div(a.D, kTile), rows = a.B * a.K * a.L, n = rows * a.N, r = rows * a.R;
  Floats dA(a.B * a.K * a.N * Dp), dD(a.B * a.K * Dp), dbias(a.B * a.K * Dp), dweight(a.B * a.K * a.R * Dp);
  Floats dB(tiles > 1 ? tiles * n : 0), dC(tiles > 1 ? tiles * n : 0), ddelta(tiles > 1 ? tiles * r : 0);
  ScanPartials out = {dA.get(), dD.get(), dbias.get(), dweight.get(), a.dB, a.dC, a.ddelta};
  if (tiles > 1) out.dB = dB.get(), out.dC = dC.get(), out.ddelta = ddelta.get();
  int64_t threads = useful_threads(a.threads, 3 * a.B * a.K * a.L * a.D * (a.N + 1));
  // Gradients shared by the directions (dx of a shared x, dz) belong to one item, which takes the directions in turn.
  bool shared = a.x_shared || a.z;
  int64_t together = shared ? a.K : 1, groups = a.K / together;
  parallel_for(a.B * groups * tiles, threads, kernels.workspace(a, true), [&](int64_t i, float* workspace) {
    int64_t b = i / tiles / groups, k0 = i / tiles % groups * together;
    for (int64_t k = k0; k < k0 + together; k++) {
      kernels.backward(a, setup.constants, b, k, i % tiles, k == k0, out, workspace);
    }
  });
  if (tiles > 1) {
    sum_tiles(a.dB, dB.get(), tiles, n, a.threads);
    sum_tiles(a.dC, dC.get(), tiles, n, a.threads);
    if (a.R) sum_tiles(a.ddelta, ddelta.get(), tiles, r, a.threads);
  }
  sum_transposed(a.dA, dA.get(), a.B, a.K, a.D, a.N, Dp, a.threads);
  if (a.dD) sum_transposed(a.dD, dD.get(), a.B, a.K, a.D, 1, Dp, a.threads);
  if (a.dbias) sum_transposed(a.dbias, dbias.get(), a.B, a.K, a.D, 1, Dp, a.threads);
  if (a.R) sum_transposed(a.dweight, dweight.get(), a.B, a.K, a.D, a.R, Dp, a.threads);
}

static void run_conv_forward(const Kernels& kernels, const ConvArgs& a) {
  ConvSetup setup(a);
  int64_t tiles = ceil_div(a.D, kTile), threads = useful_threads(a.threads, a.B * a.K * a.L * a.D * 4);
  parallel_for(a.B * a.K * tiles, threads, 0, [&](int64_t i, float*) {
    kernels.conv_forward(a, setup.constants, i / tiles / a.K, i / tiles % a.K, i % tiles);
  });
}

static void run_conv_backward(const Kernels& kernels, const ConvArgs& a) {
  ConvSetup setup(a);
  int64_t Dp = setup.constants.Dp, tiles = ceil_div(a.D, kTile);
  Floats dweight(a.B * a.K * a.W * Dp), dbias(a.B * a.K * Dp);
  parallel_for(a.B * tiles, useful_threads(a.threads, a.B * a.K * a.L * a.D * 8), 0, [&](int64_t i, float*) {
    for (int64_t k = 0; k < a.K; k++) {
      kernels.conv_backward(a, setup.constants, i / tiles, k, i % tiles, k == 0, dweight.get(), dbias.get());
    }
  });
  sum_transposed(a.dweight, dweight.get(), a.B, a.K, a.D, a.W, Dp, a.threads);
  if (a.dbias) sum_transposed(a.dbias, dbias.get(), a.B, a.K, a.D, 1, Dp, a.threads);
}

static void run_merge_forward(const Kernels& kernels, const MergeArgs& a) {
  const int64_t block = 16, blocks = ceil_div(a.L, block), threads = useful_threads(a.threads, 2 * a.B * a.K * a.L * a.D);
  parallel_for(a.B * blocks, threads, round_up(a.D, kPad), [&](int64_t i, float* workspace) {
    const int64_t l0 = i % blocks * block;
    kernels.merge_forward(a, i / blocks, l0, l0 + block < a.L ? l0 + block : a.L, workspace);
  });
}

static void run_merge_backward(const Kernels& kernels, const MergeArgs& a) {
  Floats dweights(a.B * a.K);
  const int64_t threads = useful_threads(a.threads, 4 * a.B * a.K * a.L * a.D);
  parallel_for(a.B * a.K, threads, 2 * round_up(a.D, kPad), [&](int64_t i, float* workspace) {
    kernels.merge_backward(a, i / a.K, i % a.K, workspace, dweights.get() + i);
  });
  sum_transposed(a.dweights, dweights.get(), a.B, 1, a.K, 1, a.K, a.threads);
}

static void run_normed_mean_forward(const Kernels& kernels, const MergeArgs& a) {
  const int64_t threads = useful_threads(a.threads, 2 * a.B * a.K * a.L * a.D);
  parallel_for(a.B * a.K, threads, 2 * round_up(a.D, kPad),
               [&](int64_t i, float* workspace) { kernels.normed_mean_forward(a, i / a.K, i % a.K, workspace); });
}

static void run_normed_mean_backward(const Kernels& kernels, const MergeArgs& a) {
  const int64_t threads = useful_threads(a.threads, 4 * a.B * a.K * a.L * a.D);
  parallel_for(a.B * a.K, threads, round_up(a.D, kPad),
               [&](int64_t i, float* workspace) { kernels.normed_mean_backward(a, i / a.K, i % a.K, workspace); });
}

static void run_gated_sum_forward(const Kernels& kernels, const MergeArgs& a) {
  const int64_t block = 16, blocks = ceil_div(a.L, block), threads = useful_threads(a.threads, a.B * a.K * a.L * a.D);
  parallel_for(a.B * blocks, threads, 0, [&](int64_t i, float*) {
    const int64_t l0 = i % blocks * block;
    kernels.gated_sum_forward(a, i / blocks, l0, l0 + block < a.L ? l0 + block : a.L);
  });
}

static void run_gated_sum_backward(const Kernels& kernels, const MergeArgs& a) {
  const int64_t threads = useful_threads(a.threads, 2 * a.B * a.K * a.L * a.D);
  parallel_for(a.B * a.K, threads, round_up(a.D, kPad),
               [&](int64_t i, float* workspace) { kernels.gated_sum_backward(a, i / a.K, i % a.K, workspace); });
}

// Whether every row of order (K, L) is a permutation of range(L): anything else would reach outside the tensors.
static bool are_permutations(const int32_t* order, int64_t K, int64_t L) {
  std::vector<unsigned char> seen(static_cast<size_t>(L));
  for (int64_t k = 0; k < K; k++, order += L) {
    std::fill(seen.begin(), seen.end(), 0);
    for (int64_t t = 0; t < L; t++) {
      if (order[t] < 0 || order[t] >= L || seen[static_cast<size_t>(order[t])]++) return false;
    }
  }
  return true;
}

template <class Args>
static bool valid(const Args& args) {
  return are_permutations(args.order, args.K, args.L);
}
template <>
bool valid(const MergeArgs&) {
  return true;
}

// 0: done; 1: no such kernels on this CPU; 2: out of memory; 3: order is not made of permutations.
template <class Args>
static int guarded(void (*run)(const Kernels&, const Args&), const char* isa, const Args* args) {
  const Kernels* kernels = find_kernels(isa);
  if (!kernels) return 1;
  try {
    if (!valid(*args)) return 3;
    run(*kernels, *args);
  } catch (const std::bad_alloc&) {
    return 2;
  }
  return 0;
}

}  // namespace lms

extern "C" {
__attribute__((visibility("default"))) int lms_abi() {
  return LMS_ABI * 10000 + static_cast<int>(sizeof(ScanArgs) + sizeof(ConvArgs) + sizeof(MergeArgs));
}
__attribute__((visibility("default"))) const char* lms_kernels(const char* isa) {
  const lms::Kernels* kernels = lms::find_kernels(isa);
  return kernels ? kernels->name : "";
}
__attribute__((visibility("default"))) int lms_scan_forward(const char* isa, const ScanArgs* args) {
  return lms::guarded(lms::run_scan_forward, isa, args);
}
__attribute__((visibility("default"))) int lms_scan_backward(const char* isa, const ScanArgs* args) {
  return lms::guarded(lms::run_scan_backward, isa, args);
}
__attribute__((visibility("default"))) int lms_conv_forward(const char* isa, const ConvArgs* args) {
  return lms::guarded(lms::run_conv_forward, isa, args);
}
__attribute__((visibility("default"))) int lms_conv_backward(const char* isa, const ConvArgs* args) {
  return lms::guarded(lms::run_conv_backward, isa, args);
}
__attribute__((visibility("default"))) int lms_merge_forward(const char* isa, const MergeArgs* args) {
  return lms::guarded(lms::run_merge_forward, isa, args);
}
__attribute__((visibility("default"))) int lms_merge_backward(const char* isa, const MergeArgs* args) {
  return lms::guarded(lms::run_merge_backward, isa, args);
}
__attribute__((visibility("default"))) int lms_normed_mean_forward(const char* isa, const MergeArgs* args) {
  return lms::guarded(lms::run_normed_mean_forward, isa, args);
}
__attribute__((visibility("default"))) int lms_normed_mean_backward(const char* isa, const MergeArgs* args) {
  return lms::guarded(lms::run_normed_mean_backward, isa, args);
}
__attribute__((visibility("default"))) int lms_gated_sum_forward(const char* isa, const MergeArgs* args) {
  return lms::guarded(lms::run_gated_sum_forward, isa, args);
}
__attribute__((visibility("default"))) int lms_gated_sum_backward(const char* isa, const MergeArgs* args) {
  return lms::guarded(lms::run_gated_sum_backward, isa, args);
}
}
