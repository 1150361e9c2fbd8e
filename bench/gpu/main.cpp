// Times a GPU's kernels on the shapes of real models, each checked against the same in f32 first.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <functional>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/random_tensor.h"
#include "sinopia/backend/devices.h"
#include "sinopia/backend/kernels.h"
#include "sinopia/base/error.h"
#include "sinopia/ops/shape.h"

namespace sinopia::bench {
namespace {

/// What runs a kernel, and where its result is.
struct Prepared {
  std::function<void()> run;
  Tensor y;
};
struct Case {
  std::string family, name;
  double flops;     ///< 2 a multiply-add
  double elements;  ///< read and written at least
  std::function<Prepared(DType dtype)> prepare;
};

/// Numbers of some 1 / sqrt(inputs), so that sums stay small in every type.
Tensor numbers(Device device, const Shape& shape, DType dtype, int64_t inputs = 1) {
  Tensor x = random_tensor(shape);
  cpu_kernels().affine(x, 1.0f / std::sqrt(static_cast<float>(inputs)), 0, x);
  return copy_to(to_dtype(x, dtype), device);
}

void add_convolution(std::vector<Case>& cases, Device device, const char* where, int64_t N, int64_t side,
                     int64_t I, int64_t O) {
  const Shape x_shape{N, side, side, I}, y_shape{N, side, side, O};
  const auto pixels = static_cast<double>(N * side * side);
  const auto weights = static_cast<double>(9 * I * O), channels = static_cast<double>(I + O);
  const Conv2dOptions options{.stride = 1, .padding = Padding::same(1)};
  const std::string name = fmt::format("{} {}x{}x{} {} > {}", where, N, side, side, I, O);
  const auto add = [&](const char* family, auto prepare) {
    cases.push_back({family, name, 2 * pixels * weights, pixels * channels + weights, prepare});
  };
  add("conv2d", [=](DType dtype) {
    const Tensor x = numbers(device, x_shape, dtype), w = numbers(device, {O, I, 3, 3}, dtype, 9 * I);
    const Tensor bias = numbers(device, {O}, dtype), add_to = numbers(device, y_shape, dtype);
    Tensor y = Tensor::empty(y_shape, dtype, device);
    return Prepared{
        [=]() mutable { kernels(device).conv2d(x, w, bias, add_to, options, Activation::None, y); }, y};
  });
  add("conv2d dx", [=](DType dtype) {
    const Tensor dy = numbers(device, y_shape, dtype), w = numbers(device, {O, I, 3, 3}, dtype, 9 * O);
    Tensor dx = Tensor::empty(x_shape, dtype, device);
    return Prepared{[=]() mutable { kernels(device).conv2d_backward_input(dy, w, options, dx); }, dx};
  });
  add("conv2d dw", [=](DType dtype) {
    const Tensor x = numbers(device, x_shape, dtype), dy = numbers(device, y_shape, dtype, N * side * side);
    Tensor dw = Tensor::empty({O, I, 3, 3}, DType::F32, device);
    return Prepared{[=]() mutable { kernels(device).conv2d_backward_weight(x, dy, options, dw); }, dw};
  });
}

void add_linear(std::vector<Case>& cases, Device device, const char* where, int64_t M, int64_t I, int64_t O) {
  cases.push_back(
      {"linear", fmt::format("{} {}x{} > {}", where, M, I, O), 2.0 * static_cast<double>(M * I * O),
       static_cast<double>(M * I + I * O + M * O), [=](DType dtype) {
         const Tensor x = numbers(device, {M, I}, dtype), w = numbers(device, {O, I}, dtype, I);
         const Tensor bias = numbers(device, {O}, dtype);
         Tensor y = Tensor::empty({M, O}, dtype, device);
         return Prepared{[=]() mutable { kernels(device).linear(x, w, bias, {}, Activation::None, y); }, y};
       }});
}

void add_attention(std::vector<Case>& cases, Device device, const char* where, int64_t B, int64_t T,
                   int64_t S, int64_t heads, int64_t D) {
  const auto products = static_cast<double>(B * T * S * heads * D);
  const auto elements = static_cast<double>(B * heads * D * 2 * (T + S));
  const std::string name = fmt::format("{} {}x{}x{} {} heads of {}", where, B, T, S, heads, D);
  const Shape of_queries{B, T, heads * D}, of_keys{B, S, heads * D};
  const AttentionOptions options{.heads = static_cast<int>(heads)};
  cases.push_back(
      {"attention", name, 4 * products, elements, [=](DType dtype) {
         const Tensor q = numbers(device, of_queries, dtype), k = numbers(device, of_keys, dtype),
                      v = numbers(device, of_keys, dtype);
         Tensor y = Tensor::empty(of_queries, dtype, device);
         return Prepared{[=]() mutable { kernels(device).attention(q, k, v, {}, options, y); }, y};
       }});
  cases.push_back(
      {"attention d", name, 10 * products, 2 * elements, [=](DType dtype) {
         const Tensor q = numbers(device, of_queries, dtype), k = numbers(device, of_keys, dtype),
                      v = numbers(device, of_keys, dtype), dy = numbers(device, of_queries, dtype);
         Tensor y = Tensor::empty(of_queries, dtype, device);
         kernels(device).attention(q, k, v, {}, options, y);
         Tensor dq = empty_like(q), dk = empty_like(k), dv = empty_like(v);
         return Prepared{
             [=]() mutable { kernels(device).attention_backward(q, k, v, {}, options, y, dy, dq, dk, dv); },
             dk};
       }});
}

void add_memory_bound(std::vector<Case>& cases, Device device) {
  const auto norm = [&](const char* where, int64_t N, int64_t side, int64_t C) {
    const Shape shape{N, side, side, C};
    cases.push_back(
        {"group_norm", fmt::format("{} {}x{}x{}x{}, silu", where, N, side, side, C), 0,
         2 * static_cast<double>(shape.numel()), [=](DType dtype) {
           const Tensor x = numbers(device, shape, dtype), w = numbers(device, {C}, dtype);
           Tensor y = empty_like(x);
           return Prepared{
               [=]() mutable { kernels(device).group_norm(x, 32, w, w, 1e-5f, Activation::Silu, y); }, y};
         }});
  };
  norm("sd1", 2, 64, 320);
  norm("sd1", 2, 32, 640);
  norm("sdxl", 2, 128, 320);
  norm("vae", 1, 512, 128);
  const auto rows = [&](const char* where, int64_t M, int64_t D) {
    cases.push_back({"layer_norm", fmt::format("{} {}x{}", where, M, D), 0, 2 * static_cast<double>(M * D),
                     [=](DType dtype) {
                       const Tensor x = numbers(device, {M, D}, dtype), w = numbers(device, {D}, dtype);
                       Tensor y = empty_like(x);
                       return Prepared{[=]() mutable { kernels(device).layer_norm(x, w, w, 1e-5f, y); }, y};
                     }});
    cases.push_back({"geglu", fmt::format("{} {}x{}", where, M, 8 * D), 0, 12 * static_cast<double>(M * D),
                     [=](DType dtype) {
                       const Tensor x = numbers(device, {M, 8 * D}, dtype);
                       Tensor y = Tensor::empty({M, 4 * D}, dtype, device);
                       return Prepared{[=]() mutable { kernels(device).geglu(x, y); }, y};
                     }});
  };
  rows("sd1", 8192, 320);
  rows("sdxl", 8192, 640);
  const Shape small{2, 32, 32, 640};
  cases.push_back(
      {"resize", "sd1 2x32x32x640 > 64x64", 0, 5 * static_cast<double>(small.numel()), [=](DType dtype) {
         const Tensor x = numbers(device, small, dtype);
         Tensor y = Tensor::empty({2, 64, 64, 640}, dtype, device);
         return Prepared{[=]() mutable { kernels(device).resize(x, ResizeFilter::Nearest, false, y); }, y};
       }});
  cases.push_back({"copy", "256 Mi elements", 0, 2.0 * (1 << 28), [=](DType dtype) {
                     const Tensor x = Tensor::empty({1 << 28}, dtype, device);
                     Tensor y = empty_like(x);
                     kernels(device).fill(const_cast<Tensor&>(x), 1);
                     return Prepared{[=]() mutable { kernels(device).convert(x, y); }, y};
                   }});
}

std::vector<Case> all_cases(Device device) {
  std::vector<Case> cases;
  add_linear(cases, device, "peak", 8192, 8192, 8192);
  add_convolution(cases, device, "sd1", 2, 64, 320, 320);
  add_convolution(cases, device, "sd1", 2, 32, 640, 640);
  add_convolution(cases, device, "sd1", 2, 16, 1280, 1280);
  add_convolution(cases, device, "sd1", 2, 8, 1280, 1280);
  add_convolution(cases, device, "sdxl", 2, 128, 320, 320);
  add_convolution(cases, device, "vae", 1, 512, 128, 128);
  add_linear(cases, device, "sd1", 8192, 320, 2560);
  add_linear(cases, device, "sd1", 512, 1280, 10240);
  add_linear(cases, device, "sdxl", 2048, 1280, 10240);
  add_linear(cases, device, "sdxl", 2048, 5120, 1280);
  add_attention(cases, device, "sd1", 2, 4096, 4096, 8, 40);
  add_attention(cases, device, "sd1", 2, 1024, 1024, 8, 80);
  add_attention(cases, device, "sd1", 2, 4096, 77, 8, 40);
  add_attention(cases, device, "sdxl", 2, 4096, 4096, 10, 64);
  add_attention(cases, device, "sdxl", 2, 1024, 1024, 20, 64);
  add_attention(cases, device, "vae", 1, 4096, 4096, 1, 512);
  add_memory_bound(cases, device);
  return cases;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The median of rounds of several calls each, so that the host's part is hidden behind the call before.
double time_of(Device device, const std::function<void()>& run) {
  constexpr int kRounds = 15;
  run();
  synchronise(device);
  const auto round = [&](int calls) {
    const double begin = seconds_now();
    for (int i = 0; i < calls; ++i) run();
    synchronise(device);
    return (seconds_now() - begin) / calls;
  };
  const int calls = static_cast<int>(std::clamp(0.01 / round(1), 3.0, 200.0));
  std::vector<double> rounds;
  for (int i = 0; i < kRounds; ++i) rounds.push_back(round(calls));
  std::nth_element(rounds.begin(), rounds.begin() + kRounds / 2, rounds.end());
  return rounds[kRounds / 2];
}

/// Throws unless the result is near that in f32: within some roundings of the largest value.
void verify(const Case& c, const Prepared& prepared, DType dtype) {
  prepared.run();
  const Tensor got = copy_to(to_dtype(prepared.y, DType::F32), Device{});
  const Prepared in_f32 = c.prepare(DType::F32);
  in_f32.run();
  const Tensor want = copy_to(in_f32.y, Device{});
  double difference = 0, largest = 0;
  for (int64_t i = 0; i < want.numel(); ++i) {
    const double expected = want.data<float>()[i], d = std::abs(got.data<float>()[i] - expected);
    difference = d <= difference ? difference : d;  // NaN stays
    largest = std::max(largest, std::abs(expected));
  }
  const double epsilon = dtype == DType::F16 ? 0x1p-11 : dtype == DType::BF16 ? 0x1p-8 : 0x1p-24;
  SINOPIA_CHECK(difference <= 8 * epsilon * largest, Backend,
                "[bench] {} {}: off by {} beside a largest value of {}; not timed", c.family, c.name,
                difference, largest);
}

int run(const std::string& device_name_given, const std::string& precision, const std::string& filter,
        const std::string& json) {
  const Device device = open_device(device_name_given);
  SINOPIA_CHECK(!device.is_cpu(), Unsupported, "[bench] expected a GPU: {}", gpu_obstacle());
  const DType dtype = precision == "f32" ? DType::F32 : precision == "bf16" ? DType::BF16 : DType::F16;
  fmt::print(
      "{}, {}: medians; % of the matrix product in the first line, GB/s of what is read and written at "
      "least\n",
      device_name(device), precision);
  nlohmann::json report{
      {"device", device_name(device)}, {"precision", precision}, {"cases", nlohmann::json::array()}};
  double peak = 0;
  for (const Case& c : all_cases(device)) {
    const bool is_peak = c.name.starts_with("peak");
    if (!is_peak && (c.family + " " + c.name).find(filter) == std::string::npos) continue;
    const Prepared prepared = c.prepare(dtype);
    if (!is_peak && c.family != "copy") verify(c, prepared, dtype);
    const double seconds = time_of(device, prepared.run);
    if (is_peak) peak = c.flops / seconds;
    const double bytes = c.elements * static_cast<double>(size_of(dtype));
    fmt::print("{:<12} {:<36} {:9.4f} ms", c.family, c.name, 1e3 * seconds);
    if (c.flops > 0)
      fmt::print(" {:7.1f} TFLOP/s {:4.0f}%", c.flops / seconds / 1e12, 100 * c.flops / seconds / peak);
    fmt::print(" {:7.0f} GB/s\n", bytes / seconds / 1e9);
    std::fflush(stdout);
    report["cases"].push_back(
        {{"family", c.family}, {"name", c.name}, {"seconds", seconds}, {"flops", c.flops}, {"bytes", bytes}});
  }
  if (!json.empty()) std::ofstream(json) << report.dump(2) << "\n";
  return 0;
}

}  // namespace
}  // namespace sinopia::bench

int main(int argc, char** argv) {
  CLI::App app("Times a GPU's kernels on the shapes of Stable Diffusion 1.5, SDXL and the autoencoder");
  std::string device = "cuda", precision = "f16", filter, json;
  app.add_option("--device", device, "cuda or cuda:N")->capture_default_str();
  app.add_option("--precision", precision, "f32, f16 or bf16")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}))
      ->capture_default_str();
  app.add_option("--filter", filter, "only cases whose family and name contain this");
  app.add_option("--json", json, "also write the numbers to this file");
  CLI11_PARSE(app, argc, argv);
  try {
    return sinopia::bench::run(device, precision, filter, json);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
