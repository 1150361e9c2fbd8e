#include "tests/backend/product_reference.h"

namespace sinopia {
namespace {

using namespace testing;

Tensor run_matmul(const Tensor& a, const Tensor& b, bool transpose_b, float alpha) {
  Tensor y = Tensor::empty({a.dim(0), a.dim(1), transpose_b ? b.dim(1) : b.dim(2)});
  cpu_kernels().fill(y, std::nanf(""));
  cpu_kernels().matmul(a, b, transpose_b, alpha, y);
  return y;
}

void check_matmul(Random& random, int64_t B, int64_t M, int64_t N, int64_t K, bool transpose_b, float alpha) {
  SCOPED_TRACE(fmt::format("B={} M={} N={} K={} transpose_b={} alpha={}", B, M, N, K, transpose_b, alpha));
  const Tensor a = random.normal({B, M, K});
  const Tensor b = transpose_b ? random.normal({B, N, K}) : random.normal({B, K, N});
  const auto as = doubles(a), bs = doubles(b);
  std::vector<Sum> sums(B * M * N);
  for (int64_t i = 0; i < B; ++i) {
    for (int64_t m = 0; m < M; ++m) {
      for (int64_t n = 0; n < N; ++n) {
        for (int64_t k = 0; k < K; ++k)
          sums[(i * M + m) * N + n].add(alpha * as[(i * M + m) * K + k] *
                                        bs[transpose_b ? (i * N + n) * K + k : (i * K + k) * N + n]);
      }
    }
  }
  expect_products_near(run_matmul(a, b, transpose_b, alpha), sums, Activation::None);
}

TEST(Matmul, MatchesDoubleForAnySize) {
  for_each_instruction_set([] {
    Random random(1);
    const int64_t sizes[] = {1, 2, 3, 5, 8, 16, 17, 33, 70, 109};
    for (int i = 0; i < 80; ++i) {
      const auto pick = [&] { return sizes[random.integer(0, std::size(sizes) - 1)]; };
      check_matmul(random, random.integer(1, 3), pick(), pick(), pick(), i & 1, i % 3 ? 1.0f : -0.37f);
    }
    for (bool transpose_b : {false, true}) {
      check_matmul(random, 11, 21, 19, 13, transpose_b, 1);
      check_matmul(random, 1, 130, 70, 700, transpose_b, 0.125f);
      check_matmul(random, 2, 3, 70, 700, transpose_b, 0.125f);
      check_matmul(random, 2, 70, 3, 700, transpose_b, 0.125f);
    }
  });
}

TEST(Matmul, SameBitsOnAnyThreads) {
  Random random(2);
  for (bool transpose_b : {false, true}) {
    for (int64_t B : {1, 20}) {
      const Tensor a = random.normal({B, 65, 350});
      const Tensor b = transpose_b ? random.normal({B, 90, 350}) : random.normal({B, 350, 90});
      expect_same_bits_on_any_threads([&] { return run_matmul(a, b, transpose_b, 1); });
    }
  }
}

}  // namespace
}  // namespace sinopia
