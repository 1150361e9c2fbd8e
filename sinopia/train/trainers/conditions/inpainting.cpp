// The part of a picture that is known: a mask and the latent of the picture with a hole, behind the noisy
// latent. Reference: diffusers pipelines/stable_diffusion/pipeline_stable_diffusion_inpaint.py, whose order
// of channels this is.
#include "sinopia/train/trainers/conditions/inpainting.h"

#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/resize.h"
#include "sinopia/train/data/inpainting_masks.h"
#include "sinopia/train/trainers/batches.h"

namespace sinopia {
namespace {

class Inpainting final : public Condition {
 public:
  explicit Inpainting(int64_t channels) : channels_(channels) {}
  bool needs_pixels() const override { return true; }
  int64_t channels() const override { return channels_; }

  void prepare(const ConditionSource& source, TensorMap& prepared) const override {
    std::vector<Tensor> masks;
    for (size_t i = 0; i < source.examples.size(); ++i)
      masks.push_back(draw_inpainting_mask(source.pictures.dim(1), source.pictures.dim(2), {},
                                           source.draws(Purpose::Mask, i)));
    prepared["mask"] = stacked(masks);
    prepared["known"] = source.pictures * (1.0 - prepared["mask"]);
  }

  void apply(const TensorMap& prepared, const Autoencoder& autoencoder,
             ConditionedInput& input) const override {
    const Tensor &mask = prepared.at("mask"), &known = prepared.at("known");
    const int64_t factor = autoencoder.config().factor();
    input.concatenated.push_back(
        resize(mask, mask.dim(1) / factor, mask.dim(2) / factor, ResizeFilter::Nearest));
    input.concatenated.push_back(autoencoder.to_diffusion(autoencoder.encode(known).mean));
  }

 private:
  int64_t channels_;
};

}  // namespace

bool wants_inpainting(const ConditionContext& context) {
  return context.more_channels() == context.autoencoder.latent_channels + 1;
}

std::unique_ptr<Condition> make_inpainting(const ConditionContext& context) {
  return std::make_unique<Inpainting>(context.more_channels());
}

}  // namespace sinopia
