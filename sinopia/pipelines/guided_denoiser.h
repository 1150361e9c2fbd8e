#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <vector>

#include "sinopia/diffusion/plan.h"
#include "sinopia/models/unet/unet.h"
#include "sinopia/pipelines/request.h"
#include "sinopia/pipelines/text_encoding.h"

namespace sinopia {

/// What the UNet is asked with: the texts, how strongly they guide, how levels become timesteps.
struct Guidance {
  std::vector<EncodedPrompt> positive;
  EncodedPrompt negative;  ///< an empty schedule: no guidance, the one positive text alone
  double scale = 7;
  double rescale = 0;
  Savings savings;
  /// Of a UNet with a class table: the rows for the positive texts and for the negative one.
  struct Classes {
    int32_t positive, negative;
  };
  std::optional<Classes> classes = {};
};

/// What a picture is made from besides noise and text: the part of another one that stays, and what the UNet
/// is given beside the latent. Both kinds of inpainting take `mask`, 1 where it is painted anew.
struct PictureCondition {
  Tensor mask;      ///< [1,h,w,1], absent without inpainting
  Tensor channels;  ///< [1,h,w,K]: what a UNet with more input channels is given beside the latent, or absent
  Tensor known;     ///< [1,h,w,C]: latent of the picture that is put back, or absent
  Tensor noise;     ///< [1,h,w,C]: its noise
  bool from_noise = false;  ///< the first evaluation sees the sampler's latent as it is
};

/// A UNet with guidance as a sampler's denoiser, for one picture at a time. The known part is put back before
/// each evaluation, at its level; as samplers work on each element by itself this equals diffusers' putting
/// back after each step. Keys and values of the texts are computed once for all steps and pictures that use
/// them.
class GuidedDenoiser {
 public:
  /// All references must outlive this.
  GuidedDenoiser(const UNet& unet, const NoiseSchedule& schedule, const SamplingPlan& plan, Guidance guidance,
                 std::stop_token stop);

  /// Before each picture. The seed decides which tokens others are merged into.
  void begin(PictureCondition condition, uint64_t seed);
  /// Which step (1-based) the next evaluations belong to, for scheduled texts and guidance on some steps.
  void set_step(int step) { step_ = step; }
  /// x [1,h,w,C] at a level -> the estimate of x0. Throws Cancelled when asked to stop, Backend if the
  /// network's output is not finite.
  Tensor operator()(const Tensor& x, double sigma);
  /// The sampler's last latent, as it is to be decoded: scaled to the model's space, the known part put back.
  /// Lets go of cached features.
  Tensor finish(const Tensor& x);
  /// Of all pictures so far.
  const Evaluations& evaluations() const { return evaluations_; }

 private:
  /// Texts of one length, evaluated as one batch.
  struct Group {
    int64_t count = 0;
    UNetContext context;
    Tensor class_labels;  // i32 [count], if the UNet takes them
    DeepFeatures deep;
    std::shared_ptr<RecordedCall> recorded;  // the UNet on these texts
    int evaluations = 0;                     // since deep features were last computed
  };
  /// Whether the texts guide in the present step.
  bool guided() const;
  bool needs_negative() const;
  void prepare_texts(bool negative);
  std::vector<Tensor> evaluate(const Tensor& input, double timestep);
  Tensor combine(const std::vector<Tensor>& outputs, bool negative);

  const UNet& unet_;
  const NoiseSchedule& schedule_;
  const SamplingPlan& plan_;
  Guidance guidance_;
  std::stop_token stop_;
  PictureCondition condition_;
  std::vector<size_t> places_;  // of the texts in groups_
  std::vector<Group> groups_;
  TokenMerging merging_;
  Evaluations evaluations_;
  int step_ = 1;
  int last_guided_step_ = 0;  // set once adaptive guidance has seen enough
  bool first_ = true;
};

}  // namespace sinopia
