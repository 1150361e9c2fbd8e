#include "sinopia/backend/planned_memory.h"

#include <algorithm>

#include <sys/mman.h>

#include "sinopia/backend/kernels.h"
#include "sinopia/backend/planning.h"
#include "sinopia/base/error.h"
#include "sinopia/tensor/allocator.h"

namespace sinopia {
namespace {

// Counts. The addresses are real, for what is written outside kernels.
class CountingAllocator final : public Allocator {
 public:
  void* allocate(size_t bytes) override {
    void* block = mmap(nullptr, std::max<size_t>(bytes, 1), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    SINOPIA_CHECK(block != MAP_FAILED, OutOfMemory, "[memory] no addresses for {} MiB", (bytes >> 20) + 1);
    stats_.in_use += bytes;
    stats_.peak = std::max(stats_.peak, stats_.in_use);
    return block;
  }
  void release(void* data, size_t bytes) noexcept override {
    munmap(data, std::max<size_t>(bytes, 1));
    stats_.in_use -= bytes;
  }
  MemoryStats stats() const override { return stats_; }
  void reset_peak() override { stats_.peak = stats_.in_use; }
  void release_cached() override {}
  void set_limit(size_t) override {}

 private:
  MemoryStats stats_;
};

class NoKernels final : public Kernels {
 public:
  void convert(const Tensor&, Tensor&) override {}
  void fill(Tensor&, float) override {}
  void permute(const Tensor&, std::span<const int>, Tensor&) override {}
  void concat(std::span<const Tensor>, int, Tensor&) override {}
  void narrow(const Tensor&, int, int64_t, Tensor&) override {}
  void gather_rows(const Tensor&, const Tensor&, Tensor&) override {}
  void unary(UnaryOp, const Tensor&, Tensor&) override {}
  void binary(BinaryOp, const Tensor&, const Tensor&, Tensor&) override {}
  void affine(const Tensor&, float, float, Tensor&) override {}
  void clamp(const Tensor&, float, float, Tensor&) override {}
  void geglu(const Tensor&, Tensor&) override {}
  void softmax(const Tensor&, Tensor&) override {}
  void moments(const Tensor&, int, Tensor&, Tensor&) override {}
  bool all_finite(const Tensor&) override { return true; }
  void row_max(const Tensor&, Tensor&, Tensor&) override {}
  void group_mean(const Tensor&, const Tensor&, Tensor&) override {}
  void nearest_rows(const Tensor&, const Tensor&, Tensor&) override {}
  void layer_norm(const Tensor&, const Tensor&, const Tensor&, float, Tensor&) override {}
  void rms_norm(const Tensor&, const Tensor&, float, Tensor&) override {}
  void group_norm(const Tensor&, int, const Tensor&, const Tensor&, float, Activation, Tensor&) override {}
  void linear(const Tensor&, const Tensor&, const Tensor&, const Tensor&, Activation, Tensor&) override {}
  void matmul(const Tensor&, const Tensor&, Transpose, float, Tensor&) override {}
  void conv2d(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Conv2dOptions&, Activation,
              Tensor&) override {}
  void attention(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const AttentionOptions&,
                 Tensor&) override {}
  void unary_backward(UnaryOp, const Tensor&, const Tensor&, Tensor&) override {}
  void clamp_backward(const Tensor&, float, float, const Tensor&, Tensor&) override {}
  void geglu_backward(const Tensor&, const Tensor&, Tensor&) override {}
  void softmax_backward(const Tensor&, const Tensor&, Tensor&) override {}
  void sum_middle(const Tensor&, Tensor&) override {}
  void sum_rows(const Tensor&, const Tensor&, Tensor&) override {}
  void layer_norm_backward(const Tensor&, const Tensor&, float, const Tensor&, Tensor&, Tensor&,
                           Tensor&) override {}
  void rms_norm_backward(const Tensor&, const Tensor&, float, const Tensor&, Tensor&, Tensor&) override {}
  void group_norm_backward(const Tensor&, int, const Tensor&, float, const Tensor&, Tensor&, Tensor&,
                           Tensor&) override {}
  void conv2d_backward_input(const Tensor&, const Tensor&, const Conv2dOptions&, Tensor&) override {}
  void conv2d_backward_weight(const Tensor&, const Tensor&, const Conv2dOptions&, Tensor&) override {}
  void attention_backward(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const AttentionOptions&,
                          const Tensor&, const Tensor&, Tensor&, Tensor&, Tensor&) override {}
  void resize(const Tensor&, ResizeFilter, bool, Tensor&) override {}
  void timestep_embedding(const Tensor&, bool, float, float, Tensor&) override {}
  void add_scaled(const Tensor&, float, Tensor&) override {}
  void blend(const Tensor&, float, Tensor&) override {}
  double sum_of_squares(const Tensor&) override { return 0; }
  void adamw(const OptimizerStep&, const AdamwConstants&, const Tensor&, Tensor&, Tensor&, Tensor&,
             Tensor&) override {}
  void lion(const OptimizerStep&, const LionConstants&, const Tensor&, Tensor&, Tensor&, Tensor&) override {}
  void adafactor(const OptimizerStep&, const AdafactorConstants&, const Tensor&, Tensor&, Tensor&, Tensor&,
                 Tensor&, Tensor&) override {}
};

thread_local bool planning = false;

}  // namespace

Kernels* planning_kernels() {
  static NoKernels kernels;
  return planning ? &kernels : nullptr;
}

size_t planned_peak(const std::function<void()>& work) {
  struct Planning {
    Planning() { planning = true; }
    ~Planning() { planning = false; }
  };
  CountingAllocator counter;
  const CpuAllocatorScope allocator(counter);
  const Planning now;
  work();
  return counter.stats().peak;
}

}  // namespace sinopia
