#include <cmath>

#include "sinopia/backend/cuda/cuda_kernels.h"
#include "sinopia/backend/cuda/elements.h"
#include "sinopia/backend/cuda/map.h"
#include "sinopia/backend/cuda/packed_weights.h"
#include "sinopia/backend/cuda/runtime.h"
#include "sinopia/backend/cuda/stored_weights.h"

namespace sinopia {
namespace cuda {
namespace {

struct AddScaled {
  float scale;
  __device__ float operator()(float x, float y) const { return fmaf(x, scale, y); }
};

struct Blend {
  float weight;
  __device__ float operator()(float x, float y) const { return fmaf(-(y - x), weight, y); }
};

/// A step of AdamW for one element, and its constants, rounded once. An element's numbers are its gradient, w
/// and `kStates` more.
struct Adamw {
  static constexpr int kStates = 2;
  float keep, scale, beta2, fresh1, fresh2, rate, inverse_root, eps;

  __device__ void operator()(float gradient, float& w, float (&state)[kStates]) const {
    const float g = gradient * scale, old = state[0];
    const float mean = fmaf(g - old, fresh1, old);
    const float square = fmaf(g * g, fresh2, state[1] * beta2);
    const float root = fmaf(sqrtf(square), inverse_root, eps);
    w = fmaf(-(mean / root), rate, w * keep);
    state[0] = mean;
    state[1] = square;
  }
};

struct Lion {
  static constexpr int kStates = 1;
  float keep, scale, beta1, beta2, fresh1, fresh2, rate;

  __device__ void operator()(float gradient, float& w, float (&state)[kStates]) const {
    const float g = gradient * scale, old = state[0];
    const float direction = old * beta1 + g * fresh1;
    const float kept = w * keep;
    w = direction == 0 ? kept : kept - copysignf(rate, direction);
    state[0] = old * beta2 + g * fresh2;
  }
};

template <int kStates>
struct States {
  float* at[kStates];
};

/// Every number is read and written once, kCount neighbours at a time. S is the type of `stored`, or void.
template <int kCount, class S, class Rule>
__global__ void step_kernel(Rule rule, const float* gradient, float* w, States<Rule::kStates> states,
                            S* stored, int64_t n) {
  constexpr int kStates = Rule::kStates;
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kCount;
  if (i + kCount <= n) {
    const auto g = load_run<float, kCount>(gradient + i);
    auto weights = load_run<float, kCount>(w + i);
    Run<float, kCount> state[kStates];
#pragma unroll
    for (int s = 0; s < kStates; ++s) state[s] = load_run<float, kCount>(states.at[s] + i);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      float own[kStates];
#pragma unroll
      for (int s = 0; s < kStates; ++s) own[s] = state[s].values[k];
      rule(g.values[k], weights.values[k], own);
#pragma unroll
      for (int s = 0; s < kStates; ++s) state[s].values[k] = own[s];
    }
    store_run(w + i, weights);
#pragma unroll
    for (int s = 0; s < kStates; ++s) store_run(states.at[s] + i, state[s]);
    store_rounded(weights, stored, i);
    return;
  }
  for (int64_t k = i; k < n; ++k) {
    float own[kStates];
    for (int s = 0; s < kStates; ++s) own[s] = states.at[s][k];
    rule(gradient[k], w[k], own);
    for (int s = 0; s < kStates; ++s) states.at[s][k] = own[s];
    store_rounded(Run<float, 1>{w[k]}, stored, k);
  }
}

template <class Rule>
void step_all(const Rule& rule, const Tensor& gradient, Tensor& w, States<Rule::kStates> states,
              Tensor& stored) {
  const int64_t n = w.numel();
  const float* g = gradient.data<float>();
  float* weights = w.data<float>();
  constexpr int kCount = run_length(sizeof(float));
  bool wide = aligned({g, weights, stored.raw()}, 16);
  for (const float* state : states.at) wide = wide && aligned({state}, 16);
  for_stored(stored, [&](auto* rounded) {
    using S = std::remove_pointer_t<decltype(rounded)>;
    launch(wide ? step_kernel<kCount, S, Rule> : step_kernel<1, S, Rule>,
           dim3(static_cast<unsigned>(ceil_div(n, int64_t{wide ? kCount : 1} * kMapThreads))),
           dim3(kMapThreads), 0, rule, g, weights, states, rounded, n);
  });
}

}  // namespace
}  // namespace cuda

void CudaKernels::add_scaled(const Tensor& x, float scale, Tensor& y) {
  cuda::packed_weights::forget(y);
  float* to = y.data<float>();
  cuda::map(cuda::AddScaled{scale}, cuda::Inputs<float, 2>{{x.data<float>(), to}}, to, y.numel());
}

void CudaKernels::blend(const Tensor& x, float weight, Tensor& y) {
  cuda::packed_weights::forget(y);
  float* to = y.data<float>();
  cuda::map(cuda::Blend{weight}, cuda::Inputs<float, 2>{{x.data<float>(), to}}, to, y.numel());
}

void CudaKernels::adamw(const OptimizerStep& step, const AdamwConstants& constants, const Tensor& gradient,
                        Tensor& w, Tensor& m, Tensor& v, Tensor& stored) {
  cuda::packed_weights::forget(w);
  cuda::packed_weights::forget(stored);
  const double t = static_cast<double>(step.number), rate = step.learning_rate;
  const cuda::Adamw rule{.keep = static_cast<float>(1 - rate * step.weight_decay),
                         .scale = static_cast<float>(step.gradient_scale),
                         .beta2 = static_cast<float>(constants.beta2),
                         .fresh1 = static_cast<float>(1 - constants.beta1),
                         .fresh2 = static_cast<float>(1 - constants.beta2),
                         .rate = static_cast<float>(rate / (1 - std::pow(constants.beta1, t))),
                         .inverse_root = static_cast<float>(1 / std::sqrt(1 - std::pow(constants.beta2, t))),
                         .eps = static_cast<float>(constants.eps)};
  cuda::step_all(rule, gradient, w, {{m.data<float>(), v.data<float>()}}, stored);
}

void CudaKernels::lion(const OptimizerStep& step, const LionConstants& constants, const Tensor& gradient,
                       Tensor& w, Tensor& m, Tensor& stored) {
  cuda::packed_weights::forget(w);
  cuda::packed_weights::forget(stored);
  const cuda::Lion rule{.keep = static_cast<float>(1 - step.learning_rate * step.weight_decay),
                        .scale = static_cast<float>(step.gradient_scale),
                        .beta1 = static_cast<float>(constants.beta1),
                        .beta2 = static_cast<float>(constants.beta2),
                        .fresh1 = static_cast<float>(1 - constants.beta1),
                        .fresh2 = static_cast<float>(1 - constants.beta2),
                        .rate = static_cast<float>(step.learning_rate)};
  cuda::step_all(rule, gradient, w, {{m.data<float>()}}, stored);
}

}  // namespace sinopia
