#include "sinopia/train/trainers/batches.h"

#include <vector>

#include "sinopia/base/threads.h"
#include "sinopia/ops/shape.h"

namespace sinopia {

Tensor stacked(std::span<const Tensor> tensors) {
  std::vector<Tensor> rows;
  for (const Tensor& tensor : tensors) {
    std::vector<int64_t> dims{1};
    for (const int64_t dim : tensor.shape().dims()) dims.push_back(dim);
    rows.push_back(tensor.reshape(Shape(dims)));
  }
  return concat(rows, 0);
}

Tensor drawn_noise(const Shape& shape, uint64_t seed, Purpose purpose, int64_t number) {
  Tensor noise = Tensor::empty(shape);
  const int64_t count = shape.dim(0), each = shape.numel() / count;
  float* const out = noise.data<float>();
  parallel_for(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      Draws(seed, purpose, static_cast<uint32_t>(number), static_cast<uint32_t>(i))
          .normal({out + i * each, static_cast<size_t>(each)});
  });
  return noise;
}

}  // namespace sinopia
