// Threads for one call: spawned and joined inside it (nothing survives a fork), work items drawn from a counter.
// Every item writes its own memory, so results do not depend on the number of threads.
#pragma once
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <system_error>
#include <thread>
#include <vector>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace lms {

// Treats denormals as zero in this thread while it lives: decayed states would otherwise cost 100 cycles each on some CPUs.
class FlushDenormals {
#if defined(__x86_64__) || defined(__i386__)
  unsigned saved_;

 public:
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040u); }
  ~FlushDenormals() { _mm_setcsr(saved_); }
#else
 public:
  FlushDenormals() {}
  ~FlushDenormals() {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
};

// Uninitialised floats, aligned to a cache line.
class Floats {
  float* p_;

 public:
  explicit Floats(int64_t n) : p_(nullptr) {
    if (posix_memalign(reinterpret_cast<void**>(&p_), 64, sizeof(float) * static_cast<size_t>(n > 0 ? n : 1))) {
      throw std::bad_alloc();
    }
  }
  ~Floats() { free(p_); }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
  float* get() const { return p_; }
};

// Calls item(i, workspace) for every i in [0, items) from up to `threads` threads, each with its own workspace floats.
template <class Item>
void parallel_for(int64_t items, int64_t threads, int64_t workspace, const Item& item) {
  if (threads > items) threads = items;
  if (threads < 1) threads = 1;
  Floats memory(round_up(workspace, 16) * threads);
  std::atomic<int64_t> next(0);
  auto run = [&](int64_t thread) {
    FlushDenormals flush;
    float* mine = memory.get() + thread * round_up(workspace, 16);
    for (int64_t i = next++; i < items; i = next++) item(i, mine);
  };
  std::vector<std::thread> others;
  others.reserve(static_cast<size_t>(threads));
  try {
    for (int64_t t = 1; t < threads; t++) others.emplace_back(run, t);
  } catch (const std::system_error&) {
    // The system gives no more threads: those that run share the work.
  }
  run(0);
  for (std::thread& t : others) t.join();
}

// A thread costs about as much as 2^18 steps of the recurrence.
inline int64_t useful_threads(int64_t threads, int64_t work) {
  int64_t useful = 1 + (work >> 18);
  return threads < useful ? threads : useful;
}

}  // namespace lms
