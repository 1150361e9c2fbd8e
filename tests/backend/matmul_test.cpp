#include "tests/backend/product_reference.h"

namespace sinopia {
namespace {

using namespace testing;

Tensor run_matmul(const Tensor& a, const Tensor& b, Transpose transpose, float alpha) {
  Tensor y = Tensor::empty(
      {a.dim(0), a.dim(transpose == Transpose::Left ? 2 : 1), b.dim(transpose == Transpose::Right ? 1 : 2)});
  cpu_kernels().fill(y, std::nanf(""));
  cpu_kernels().matmul(a, b, transpose, alpha, y);
  return y;
}

void check_matmul(Random& random, int64_t B, int64_t M, int64_t N, int64_t K, Transpose transpose,
                  float alpha) {
  SCOPED_TRACE(fmt::format("B={} M={} N={} K={} transpose={} alpha={}", B, M, N, K,
                           static_cast<int>(transpose), alpha));
  const bool left = transpose == Transpose::Left, right = transpose == Transpose::Right;
  const Tensor a = left ? random.normal({B, K, M}) : random.normal({B, M, K});
  const Tensor b = right ? random.normal({B, N, K}) : random.normal({B, K, N});
  const auto as = doubles(a), bs = doubles(b);
  std::vector<Sum> sums(B * M * N);
  for (int64_t i = 0; i < B; ++i) {
    for (int64_t m = 0; m < M; ++m) {
      for (int64_t n = 0; n < N; ++n) {
        for (int64_t k = 0; k < K; ++k)
          sums[(i * M + m) * N + n].add(alpha * as[left ? (i * K + k) * M + m : (i * M + m) * K + k] *
                                        bs[right ? (i * N + n) * K + k : (i * K + k) * N + n]);
      }
    }
  }
  expect_products_near(run_matmul(a, b, transpose, alpha), sums, Activation::None);
}

TEST(Matmul, MatchesDoubleForAnySize) {
  for_each_instruction_set([] {
    Random random(1);
    const int64_t sizes[] = {1, 2, 3, 5, 8, 16, 17, 33, 70, 109};
    for (int i = 0; i < 80; ++i) {
      const auto pick = [&] { return sizes[random.integer(0, std::size(sizes) - 1)]; };
      check_matmul(random, random.integer(1, 3), pick(), pick(), pick(), static_cast<Transpose>(i % 3),
                   i % 4 ? 1.0f : -0.37f);
    }
    for (const Transpose transpose : {Transpose::None, Transpose::Left, Transpose::Right}) {
      check_matmul(random, 11, 21, 19, 13, transpose, 1);
      check_matmul(random, 1, 130, 70, 700, transpose, 0.125f);
      check_matmul(random, 2, 3, 70, 700, transpose, 0.125f);
      check_matmul(random, 2, 70, 3, 700, transpose, 0.125f);
    }
  });
}

TEST(Matmul, SameBitsOnAnyThreads) {
  Random random(2);
  for (const Transpose transpose : {Transpose::None, Transpose::Left, Transpose::Right}) {
    for (int64_t B : {1, 20}) {
      const Tensor a =
          transpose == Transpose::Left ? random.normal({B, 350, 65}) : random.normal({B, 65, 350});
      const Tensor b =
          transpose == Transpose::Right ? random.normal({B, 90, 350}) : random.normal({B, 350, 90});
      expect_same_bits_on_any_threads([&] { return run_matmul(a, b, transpose, 1); });
    }
  }
}

}  // namespace
}  // namespace sinopia
