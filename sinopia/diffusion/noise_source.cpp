#include "sinopia/diffusion/noise_source.h"

#include "sinopia/ops/shape.h"

namespace sinopia {

NoiseSource independent_noise(std::vector<std::shared_ptr<NoiseGenerator>> generators, const Shape& shape) {
  SINOPIA_CHECK(shape.rank() == 4 && shape[0] == static_cast<int64_t>(generators.size()), InvalidArgument,
                "[noise] expected one generator for each image of {}, got {}", to_string(shape),
                generators.size());
  return [generators = std::move(generators), one = shape.with(0, 1)](double, double) {
    std::vector<Tensor> images;
    for (const auto& generator : generators) images.push_back(randn(*generator, one));
    return concat(images, 0);
  };
}

}  // namespace sinopia
