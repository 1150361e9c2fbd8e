// One call of each of a few kernels on small shapes of real models, for callgrind to count: every case is a
// dump of its own, named after it. Run by bench/instructions/run.
#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <hwy/targets.h>
#include <valgrind/callgrind.h>

#include "bench/random_tensor.h"
#include "sinopia/backend/kernels.h"
#include "sinopia/base/threads.h"

namespace sinopia::bench {
namespace {

struct Case {
  std::string name;
  std::function<void()> run;
};

void add_conv2d(std::vector<Case>& cases, const std::string& name, const Shape& x_shape, int64_t outputs,
                Conv2dMethod method, int stride = 1, DType dtype = DType::F16) {
  const Conv2dOptions options{.stride = stride, .padding = Padding::same(1), .method = method};
  const Tensor x = random_tensor(x_shape), w = random_tensor({outputs, x_shape[3], 3, 3}, dtype);
  const Tensor bias = random_tensor({outputs});
  Tensor y =
      Tensor::empty({x_shape[0], (x_shape[1] - 1) / stride + 1, (x_shape[2] - 1) / stride + 1, outputs});
  cases.push_back(
      {name, [=]() mutable { cpu_kernels().conv2d(x, w, bias, {}, options, Activation::None, y); }});
}

void add_linear(std::vector<Case>& cases, const std::string& name, int64_t rows, int64_t in, int64_t out,
                DType dtype) {
  const Tensor x = random_tensor({rows, in}), w = random_tensor({out, in}, dtype);
  const Tensor bias = random_tensor({out});
  Tensor y = Tensor::empty({rows, out});
  cases.push_back({name, [=]() mutable { cpu_kernels().linear(x, w, bias, {}, Activation::None, y); }});
}

void add_attention(std::vector<Case>& cases, const std::string& name, int64_t queries, int64_t keys,
                   int heads, int64_t size) {
  const Tensor q = random_tensor({1, queries, heads * size}), k = random_tensor({1, keys, heads * size});
  const Tensor v = random_tensor({1, keys, heads * size});
  Tensor y = Tensor::empty(q.shape());
  cases.push_back({name, [=]() mutable { cpu_kernels().attention(q, k, v, {}, {.heads = heads}, y); }});
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  add_conv2d(cases, "conv 3x3, tiles of 4x4, 1x32x32x64 > 64", {1, 32, 32, 64}, 64, Conv2dMethod::Winograd4);
  add_conv2d(cases, "conv 3x3, tiles of 2x2, 1x16x16x96 > 96", {1, 16, 16, 96}, 96, Conv2dMethod::Winograd2);
  add_conv2d(cases, "conv 3x3, tiles of 4x4, 2x8x8x320 > 320", {2, 8, 8, 320}, 320, Conv2dMethod::Winograd4);
  add_conv2d(cases, "conv 3x3, direct, 1x16x16x64 > 64", {1, 16, 16, 64}, 64, Conv2dMethod::Direct);
  add_conv2d(cases, "conv 3x3, stride 2, 1x32x32x64 > 64", {1, 32, 32, 64}, 64, Conv2dMethod::Auto, 2);
  add_conv2d(cases, "conv 3x3, latent, 1x32x32x4 > 128", {1, 32, 32, 4}, 128, Conv2dMethod::Auto);
  add_conv2d(cases, "conv 3x3, to a picture, 1x32x32x128 > 3", {1, 32, 32, 128}, 3, Conv2dMethod::Auto);
  add_linear(cases, "linear, 256x320 > 320, f32", 256, 320, 320, DType::F32);
  add_linear(cases, "linear, 256x320 > 320, f16", 256, 320, 320, DType::F16);
  add_linear(cases, "linear, 77x768 > 320, f16", 77, 768, 320, DType::F16);
  add_linear(cases, "linear, 2x1280 > 1280, f16", 2, 1280, 1280, DType::F16);
  add_linear(cases, "linear, 64x512 > 320, q4_K", 64, 512, 320, DType::Q4_K);
  add_attention(cases, "attention, 256 to 256, 2 heads of 40", 256, 256, 2, 40);
  add_attention(cases, "attention, 256 to 77, 2 heads of 64", 256, 77, 2, 64);
  const Tensor map = random_tensor({1, 32, 32, 320}), w = random_tensor({320}), b = random_tensor({320});
  Tensor y = Tensor::empty(map.shape());
  cases.push_back({"group norm and SiLU, 1x32x32x320",
                   [=]() mutable { cpu_kernels().group_norm(map, 32, w, b, 1e-5f, Activation::Silu, y); }});
  cases.push_back({"layer norm, 1024x320", [=]() mutable {
                     cpu_kernels().layer_norm(map.reshape({1024, 320}), w, b, 1e-5f, y);
                   }});
  Tensor half = Tensor::empty({1, 32, 32, 160});
  cases.push_back({"GEGLU, 1024x320", [=]() mutable { cpu_kernels().geglu(map, half); }});
  Tensor twice = Tensor::empty({1, 64, 64, 320});
  cases.push_back({"nearest upsampling, 1x32x32x320",
                   [=]() mutable { cpu_kernels().resize(map, ResizeFilter::Nearest, false, twice); }});
  return cases;
}

}  // namespace
}  // namespace sinopia::bench

int main() {
  sinopia::set_thread_count(1);
  for (sinopia::bench::Case& c : sinopia::bench::all_cases()) {
    c.run();  // what is done once: dispatch, scratch, tables
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
    c.run();
    CALLGRIND_DUMP_STATS_AT(c.name.c_str());
    CALLGRIND_STOP_INSTRUMENTATION;
  }
  fmt::print("{}\n", hwy::TargetName(hwy::SupportedTargets() & -hwy::SupportedTargets()));
}
