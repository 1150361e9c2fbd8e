#include "sinopia/diffusion/guidance.h"

#include <cmath>

#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/reduce.h"

namespace sinopia {

Tensor guide(const Tensor& uncond, std::span<const WeightedOutput> conds, double scale) {
  SINOPIA_CHECK(!conds.empty(), InvalidArgument, "[guidance] expected at least one condition");
  Tensor result = uncond;
  for (const auto& [output, weight] : conds) result = result + (output - uncond) * (weight * scale);
  return result;
}

double cosine_similarity(const Tensor& a, const Tensor& b) {
  SINOPIA_CHECK(a.shape() == b.shape() && a.numel() > 0, InvalidArgument,
                "[guidance] expected predictions of one shape, got {} and {}", describe(a), describe(b));
  const auto mean = [&](const Tensor& product) {
    return double{moments(product.reshape({1, product.numel()})).mean.values<float>()[0]};
  };
  const double squares = mean(square(a)) * mean(square(b));
  return squares > 0 ? mean(a * b) / std::sqrt(squares) : 1;
}

Tensor rescale_guidance(const Tensor& guided, const Tensor& cond, double phi) {
  SINOPIA_CHECK(phi >= 0 && phi <= 1, InvalidArgument, "[guidance] expected a rescale in [0,1], got {}", phi);
  if (phi == 0) return guided;
  const Tensor ratio = sqrt(moments(cond).variance) / sqrt(moments(guided).variance);
  std::vector<int64_t> per_image(static_cast<size_t>(guided.rank()), 1);
  per_image[0] = guided.dim(0);
  return guided * (ratio * phi + (1 - phi)).reshape(Shape(per_image));
}

}  // namespace sinopia
