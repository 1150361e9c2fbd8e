#include "sinopia/train/trainers/conditions/low_resolution.h"

#include <algorithm>
#include <cmath>

#include "sinopia/base/error.h"
#include "sinopia/diffusion/schedule.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/shape.h"
#include "sinopia/train/data/degradation.h"
#include "sinopia/train/trainers/batches.h"

namespace sinopia {
namespace {

constexpr int64_t kChannels = 3;  // of a picture

ScheduleConfig noise_of_small_pictures() {
  ScheduleConfig config;
  config.beta_start = 1e-4;
  config.beta_end = 0.02;
  return config;
}

class LowResolution final : public Condition {
 public:
  LowResolution(int factor, const Degradation& degradation, int64_t levels)
      : factor_(factor), degradation_(degradation), levels_(levels) {}
  bool needs_pixels() const override { return true; }
  int64_t channels() const override { return kChannels; }

  void prepare(const ConditionSource& source, TensorMap& prepared) const override {
    const int64_t H = source.pictures.dim(1), W = source.pictures.dim(2);
    std::vector<Tensor> small;
    std::vector<int32_t> levels;
    for (size_t i = 0; i < source.examples.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      Draws draws = source.draws(Purpose::Degradation, i);
      if (levels_ > 0) levels.push_back(static_cast<int32_t>(draws.integer(levels_)));
      Tensor x =
          degrade(source.pictures.slice(row, row + 1).reshape({H, W, 3}), factor_, degradation_, draws);
      if (levels_ > 0) x = noised(x, levels.back(), source.draws(Purpose::DegradationNoise, i));
      small.push_back(x);
    }
    prepared["low_resolution"] = stacked(small);
    if (levels_ > 0)
      prepared["noise_level"] = Tensor::from(Shape{static_cast<int64_t>(levels.size())}, levels);
  }

  void apply(const TensorMap& prepared, const Autoencoder&, ConditionedInput& input) const override {
    input.concatenated.push_back(prepared.at("low_resolution"));
    if (levels_ > 0) input.conditions.class_labels = prepared.at("noise_level");
  }

 private:
  /// Reference: diffusers pipeline_stable_diffusion_upscale.py, whose low_res_scheduler this is.
  Tensor noised(const Tensor& x, int32_t level, Draws draws) const {
    const auto abar = static_cast<double>(schedule_.alphas_cumprod()[static_cast<size_t>(level)]);
    Tensor noise = Tensor::empty(x.shape());
    draws.normal({noise.data<float>(), static_cast<size_t>(noise.numel())});
    return x * std::sqrt(abar) + noise * std::sqrt(1 - abar);
  }

  int factor_;
  Degradation degradation_;
  int64_t levels_;
  NoiseSchedule schedule_{noise_of_small_pictures()};
};

}  // namespace

bool wants_low_resolution(const ConditionContext& context) { return context.more_channels() == kChannels; }

std::unique_ptr<Condition> make_low_resolution(const ConditionContext& context) {
  constexpr int64_t kMostNoise = 350;  // levels of the x4 upscaler's training
  const bool told = context.unet.class_embedding == UNetClassEmbedding::Table;
  const int64_t levels = told ? std::min(context.unet.num_class_embeds, kMostNoise) : 0;
  const Degradation degradation =
      context.recipe.diffusion.degradation == DegradationKind::Light ? light_degradation() : Degradation{};
  return std::make_unique<LowResolution>(static_cast<int>(context.autoencoder.factor()), degradation, levels);
}

}  // namespace sinopia
