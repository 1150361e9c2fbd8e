#include <fmt/format.h>

#include "bench/bench.h"

namespace sinopia::bench {
namespace {

void add(std::vector<Case>& cases, const std::string& where, int64_t M, int64_t I, int64_t O, DType dtype) {
  Case c;
  c.family = "linear";
  c.name = fmt::format("{} {}x{} > {} {}", where, M, I, O, to_string(dtype));
  c.flops = 2.0 * static_cast<double>(M * I * O);
  c.bytes = static_cast<double>(4 * (M * I + M * O)) +
            static_cast<double>(O * I) * static_cast<double>(size_of(dtype));
  c.prepare = [=] {
    const Tensor x = random_tensor({M, I}), w = random_tensor({O, I}, dtype), b = random_tensor({O});
    Tensor y = Tensor::empty({M, O});
    Prepared p;
    if (dtype == DType::F32) p.contenders = onednn_linear(x, w, b);
    p.contenders.insert(
        p.contenders.begin(),
        {"ours", [=]() mutable { cpu_kernels().linear(x, w, b, {}, Activation::None, y); }, y});
    p.reference = [=](int64_t i) {
      Prepared::Value sum{element(b, i % O), std::abs(element(b, i % O))};
      for (int64_t k = 0; k < I; ++k) {
        sum.add(element(x, i / O * I + k) * element(w, i % O * I + k));
      }
      return sum;
    };
    return p;
  };
  cases.push_back(std::move(c));
}

void add_matmul(std::vector<Case>& cases, const std::string& where, int64_t B, int64_t M, int64_t N,
                int64_t K, bool transpose_b) {
  Case c;
  c.family = "matmul";
  c.name = fmt::format("{} {}x{}x{} * {}x{}{}", where, B, M, K, K, N, transpose_b ? " transposed" : "");
  c.flops = 2.0 * static_cast<double>(B * M * N * K);
  c.bytes = 4.0 * static_cast<double>(B * (M * K + K * N + M * N));
  c.prepare = [=] {
    const Tensor a = random_tensor({B, M, K});
    const Tensor b = transpose_b ? random_tensor({B, N, K}) : random_tensor({B, K, N});
    Tensor y = Tensor::empty({B, M, N});
    Prepared p;
    p.contenders = onednn_matmul(a, b, transpose_b);
    p.contenders.insert(p.contenders.begin(),
                        {"ours",
                         [=]() mutable {
                           cpu_kernels().matmul(a, b, transpose_b ? Transpose::Right : Transpose::None, 1, y);
                         },
                         y});
    p.reference = [=](int64_t i) {
      const int64_t n = i % N, m = i / N % M, batch = i / N / M;
      Prepared::Value sum{0, 0};
      for (int64_t k = 0; k < K; ++k) {
        sum.add(element(a, (batch * M + m) * K + k) *
                element(b, transpose_b ? (batch * N + n) * K + k : (batch * K + k) * N + n));
      }
      return sum;
    };
    return p;
  };
  cases.push_back(std::move(c));
}

}  // namespace

void add_linears(std::vector<Case>& cases) {
  const std::string unet = "SD1.5 UNet", clip = "CLIP-L", bigg = "bigG", xl = "SDXL UNet";
  add(cases, unet, 2, 320, 1280, DType::F32);
  add(cases, unet, 2, 1280, 1280, DType::F32);
  add(cases, unet, 2, 1280, 1280, DType::F16);
  add(cases, unet, 8192, 320, 320, DType::F32);
  add(cases, unet, 8192, 320, 320, DType::F16);
  add(cases, unet, 8192, 320, 2560, DType::F32);
  add(cases, unet, 8192, 1280, 320, DType::F32);
  add(cases, unet, 2048, 640, 640, DType::F32);
  add(cases, unet, 2048, 640, 5120, DType::F32);
  add(cases, unet, 2048, 2560, 640, DType::F32);
  add(cases, unet, 512, 1280, 1280, DType::F32);
  add(cases, unet, 512, 1280, 10240, DType::F32);
  add(cases, unet, 512, 5120, 1280, DType::F32);
  add(cases, unet, 512, 5120, 1280, DType::F16);
  add(cases, unet, 128, 1280, 10240, DType::F32);
  add(cases, unet, 128, 5120, 1280, DType::F32);
  add(cases, unet, 154, 768, 320, DType::F32);
  add(cases, unet, 154, 768, 1280, DType::F32);
  add(cases, clip, 77, 768, 768, DType::F32);
  add(cases, clip, 77, 768, 3072, DType::F32);
  add(cases, clip, 77, 768, 3072, DType::F16);
  add(cases, clip, 77, 3072, 768, DType::F32);
  add(cases, bigg, 77, 1280, 5120, DType::F32);
  add(cases, xl, 2, 2816, 1280, DType::F32);
  add_matmul(cases, "VAE", 1, 4096, 4096, 512, true);
  add_matmul(cases, "VAE", 1, 4096, 512, 4096, false);
  add_matmul(cases, "CLIP-L", 24, 77, 77, 64, true);
  add_matmul(cases, "square", 1, 1024, 1024, 1024, false);
}

}  // namespace sinopia::bench
