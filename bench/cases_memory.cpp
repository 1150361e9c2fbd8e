#include <cmath>

#include <fmt/format.h>

#include "bench/bench.h"

namespace sinopia::bench {
namespace {

constexpr float kEps = 1e-5f;

double silu(double x) { return x / (1 + std::exp(-x)); }

/// A case without multiply-adds worth counting. `make` fills in y, what runs, and the reference.
void add(std::vector<Case>& cases, const std::string& family, const std::string& name, double bytes,
         std::function<Prepared()> prepare) {
  cases.push_back({family, name, 0, bytes, std::move(prepare)});
}

Prepared ours(Tensor y, std::function<void(Tensor&)> run, std::function<double(int64_t)> reference) {
  Prepared p;
  p.contenders.push_back({"ours", [=]() mutable { run(y); }, y});
  // These round each element a few times rather than sum: relative to the value, or to 1 near zero.
  p.reference = [=](int64_t i) {
    const double value = reference(i);
    return Prepared::Value{value, 1 + std::abs(value)};
  };
  return p;
}

void add_group_norm(std::vector<Case>& cases, int64_t N, int64_t size, int64_t C) {
  const Shape shape{N, size, size, C};
  add(cases, "group norm", fmt::format("with SiLU {}", to_string(shape)),
      8.0 * static_cast<double>(shape.numel()), [=] {
        const Tensor x = random_tensor(shape), w = random_tensor({C}), b = random_tensor({C});
        const auto run = [=](Tensor& y) { cpu_kernels().group_norm(x, 32, w, b, kEps, Activation::Silu, y); };
        return ours(Tensor::empty(shape), run, [=](int64_t i) {
          const int64_t c = i % C, per_group = C / 32, pixels = size * size, n = i / (pixels * C);
          double sum = 0, squares = 0;
          for (int64_t pixel = 0; pixel < pixels; ++pixel) {
            for (int64_t j = 0; j < per_group; ++j) {
              const double v = element(x, (n * pixels + pixel) * C + c / per_group * per_group + j);
              sum += v;
              squares += v * v;
            }
          }
          const double count = static_cast<double>(pixels * per_group), mean = sum / count;
          const double variance = squares / count - mean * mean;
          return silu((element(x, i) - mean) / std::sqrt(variance + static_cast<double>(kEps)) *
                          element(w, c) +
                      element(b, c));
        });
      });
}

void add_layer_norm(std::vector<Case>& cases, int64_t rows, int64_t D) {
  add(cases, "layer norm", fmt::format("[{},{}]", rows, D), 8.0 * static_cast<double>(rows * D), [=] {
    const Tensor x = random_tensor({rows, D}), w = random_tensor({D}), b = random_tensor({D});
    const auto run = [=](Tensor& y) { cpu_kernels().layer_norm(x, w, b, kEps, y); };
    return ours(empty_like(x), run, [=](int64_t i) {
      double sum = 0, squares = 0;
      for (int64_t j = 0; j < D; ++j) {
        const double v = element(x, i / D * D + j);
        sum += v;
        squares += v * v;
      }
      const double mean = sum / static_cast<double>(D),
                   variance = squares / static_cast<double>(D) - mean * mean;
      return (element(x, i) - mean) / std::sqrt(variance + static_cast<double>(kEps)) * element(w, i % D) +
             element(b, i % D);
    });
  });
}

void add_softmax(std::vector<Case>& cases, int64_t rows, int64_t D) {
  add(cases, "softmax", fmt::format("[{},{}]", rows, D), 8.0 * static_cast<double>(rows * D), [=] {
    const Tensor x = random_tensor({rows, D});
    const auto run = [=](Tensor& y) { cpu_kernels().softmax(x, y); };
    return ours(empty_like(x), run, [=](int64_t i) {
      double sum = 0;
      for (int64_t j = 0; j < D; ++j) sum += std::exp(element(x, i / D * D + j));
      return std::exp(element(x, i)) / sum;
    });
  });
}

void add_elementwise(std::vector<Case>& cases, const Shape& shape) {
  const double bytes = 4.0 * static_cast<double>(shape.numel());
  add(cases, "elementwise", "add " + to_string(shape), 3 * bytes, [=] {
    const Tensor a = random_tensor(shape), b = random_tensor(shape);
    const auto run = [=](Tensor& y) { cpu_kernels().binary(BinaryOp::Add, a, b, y); };
    return ours(empty_like(a), run, [=](int64_t i) { return element(a, i) + element(b, i); });
  });
  add(cases, "elementwise", "silu " + to_string(shape), 2 * bytes, [=] {
    const Tensor x = random_tensor(shape);
    const auto run = [=](Tensor& y) { cpu_kernels().unary(UnaryOp::Silu, x, y); };
    return ours(empty_like(x), run, [=](int64_t i) { return silu(element(x, i)); });
  });
}

void add_geglu(std::vector<Case>& cases, int64_t rows, int64_t D) {
  add(cases, "elementwise", fmt::format("geglu [{},{}]", rows, 2 * D), 12.0 * static_cast<double>(rows * D),
      [=] {
        const Tensor x = random_tensor({rows, 2 * D});
        const auto run = [=](Tensor& y) { cpu_kernels().geglu(x, y); };
        return ours(Tensor::empty({rows, D}), run, [=](int64_t i) {
          const double value = element(x, i / D * 2 * D + i % D),
                       gate = element(x, i / D * 2 * D + D + i % D);
          return value * gate * 0.5 * (1 + std::erf(gate / std::sqrt(2.0)));
        });
      });
}

void add_upsample(std::vector<Case>& cases, int64_t N, int64_t size, int64_t C) {
  add(cases, "resize", fmt::format("nearest 2x [{},{},{},{}]", N, size, size, C),
      20.0 * static_cast<double>(N * size * size * C), [=] {
        const Tensor x = random_tensor({N, size, size, C});
        const auto run = [=](Tensor& y) { cpu_kernels().resize(x, ResizeFilter::Nearest, false, y); };
        return ours(Tensor::empty({N, 2 * size, 2 * size, C}), run, [=](int64_t i) {
          const int64_t c = i % C, ox = i / C % (2 * size), oy = i / C / (2 * size) % (2 * size);
          return element(x, ((i / C / (4 * size * size) * size + oy / 2) * size + ox / 2) * C + c);
        });
      });
}

void add_concat(std::vector<Case>& cases, int64_t N, int64_t size, int64_t A, int64_t B) {
  add(cases, "elementwise", fmt::format("concat [{},{},{},{}+{}]", N, size, size, A, B),
      8.0 * static_cast<double>(N * size * size * (A + B)), [=] {
        const Tensor xs[] = {random_tensor({N, size, size, A}), random_tensor({N, size, size, B})};
        const auto run = [first = xs[0], second = xs[1]](Tensor& y) {
          cpu_kernels().concat(std::vector<Tensor>{first, second}, 3, y);
        };
        return ours(Tensor::empty({N, size, size, A + B}), run,
                    [=, first = xs[0], second = xs[1]](int64_t i) {
                      const int64_t c = i % (A + B), pixel = i / (A + B);
                      return c < A ? element(first, pixel * A + c) : element(second, pixel * B + c - A);
                    });
      });
}

}  // namespace

void add_memory_bound(std::vector<Case>& cases) {
  add_group_norm(cases, 2, 64, 320);
  add_group_norm(cases, 2, 32, 640);
  add_group_norm(cases, 2, 8, 1280);
  add_group_norm(cases, 1, 512, 128);
  add_layer_norm(cases, 8192, 320);
  add_layer_norm(cases, 154, 768);
  add_softmax(cases, 8192, 77);
  add_softmax(cases, 1024, 4096);
  add_elementwise(cases, {2, 64, 64, 320});
  add_geglu(cases, 8192, 1280);
  add_upsample(cases, 2, 32, 640);
  add_upsample(cases, 1, 256, 256);
  add_concat(cases, 2, 64, 320, 320);
}

}  // namespace sinopia::bench
