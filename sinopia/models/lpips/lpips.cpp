#include "sinopia/models/lpips/lpips.h"

#include <array>
#include <span>

#include "sinopia/io/checkpoint_file.h"
#include "sinopia/models/lpips/linear_weights.inc"
#include "sinopia/nn/parameters.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/linear.h"
#include "sinopia/ops/pool.h"

namespace sinopia {
namespace {

struct Stage {
  std::vector<int64_t> places;  // of the convolutions in torchvision's list of modules
  int64_t channels;
  std::span<const float> weights;
};

const std::array<Stage, 5> kStages = {{{{0, 2}, 64, kLinear0},
                                       {{5, 7}, 128, kLinear1},
                                       {{10, 12, 14}, 256, kLinear2},
                                       {{17, 19, 21}, 512, kLinear3},
                                       {{24, 26, 28}, 512, kLinear4}}};

/// Divided by the length of each pixel's features.
Tensor normalised(const Tensor& x) {
  constexpr double kEps = 1e-10;
  const Tensor squares = sum_to(square(x), x.shape().with(-1, 1));
  // A pixel without any feature has a length of 0, whose slope is none: kEps^2 changes no other.
  return x / (sqrt(squares + kEps * kEps) + kEps);
}

}  // namespace

Lpips::Lpips(const Scope& scope) : place_(scope) {
  int64_t in = 3;
  for (const Stage& stage : kStages) {
    std::vector<Conv2d>& convolutions = stages_.emplace_back();
    for (const int64_t place : stage.places) {
      convolutions.emplace_back(scope / "features" / place, in, stage.channels, 3);
      in = stage.channels;
    }
  }
}

std::vector<Tensor> Lpips::features(const Tensor& x) const {
  // The deviations and means of ImageNet, in [-1,1].
  static const Tensor mean = Tensor::from(Shape{3}, std::vector<float>{-0.030f, -0.088f, -0.188f});
  static const Tensor deviation = Tensor::from(Shape{3}, std::vector<float>{0.458f, 0.448f, 0.450f});
  std::vector<Tensor> result;
  Tensor h = (place_.enter(x) - place_.enter(mean)) / place_.enter(deviation);
  for (const std::vector<Conv2d>& stage : stages_) {
    if (!result.empty()) h = max_pool2(h);
    for (const Conv2d& convolution : stage) h = convolution(h, {}, Activation::Relu);
    result.push_back(h);
  }
  return result;
}

Tensor Lpips::forward(const Tensor& x, const Tensor& y) const {
  constexpr int64_t kSmallest = 16;  // is one pixel after four halvings
  SINOPIA_CHECK(x.rank() == 4 && x.dim(3) == 3 && x.dim(1) >= kSmallest && x.dim(2) >= kSmallest &&
                    x.shape() == y.shape(),
                InvalidArgument, "[lpips] expected two pictures [N,H,W,3] of at least 16x16, got {} and {}",
                describe(x), describe(y));
  const std::vector<Tensor> of_x = features(x), of_y = features(y);
  const int64_t N = x.dim(0);
  Tensor total;
  for (size_t i = 0; i < kStages.size(); ++i) {
    const Stage& stage = kStages[i];
    const Tensor weights = Tensor::from(Shape{1, stage.channels},
                                        std::vector<float>(stage.weights.begin(), stage.weights.end()));
    const Tensor weighed = linear(square(normalised(of_x[i]) - normalised(of_y[i])), place_.enter(weights));
    const int64_t pixels = weighed.dim(1) * weighed.dim(2);
    const Tensor mean =
        sum_to(weighed.reshape({N, pixels}), {N, 1}).reshape({N}) / static_cast<double>(pixels);
    total = total ? total + mean : mean;
  }
  return place_.leave(total, x.device(), x.dtype());
}

Lpips load_lpips(const std::filesystem::path& vgg16, const Placement& placement) {
  TensorMap features;
  for (const auto& [name, tensor] : read_tensor_file(vgg16).tensors) {
    if (!name.starts_with("classifier.")) features[name] = tensor;
  }
  CheckpointParameters parameters(std::move(features), "lpips");
  PlacedParameters placed(parameters, placement);
  Lpips result{Scope(placed)};
  parameters.finish();
  return result;
}

}  // namespace sinopia
