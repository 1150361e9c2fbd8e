#include "bench/random_tensor.h"

#include <random>
#include <vector>

#include "sinopia/backend/kernels.h"

namespace sinopia::bench {

Tensor random_tensor(const Shape& shape, DType dtype) {
  std::mt19937 engine(static_cast<unsigned>(shape.numel()));
  std::vector<float> values(shape.numel());
  for (float& v : values) v = static_cast<float>(engine() >> 8) * 0x1p-23f - 1;
  Tensor result = Tensor::empty(shape, dtype);
  cpu_kernels().convert(Tensor::from(shape, values), result);
  return result;
}

}  // namespace sinopia::bench
