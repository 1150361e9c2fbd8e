#include "sinopia/pipelines/guided_denoiser.h"

#include "sinopia/diffusion/guidance.h"
#include "sinopia/diffusion/prediction.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

Tensor mix(const Tensor& mask, const Tensor& painted, const Tensor& known) {
  return (1.0 - mask) * known + mask * painted;
}

}  // namespace

GuidedDenoiser::GuidedDenoiser(const UNet& unet, const NoiseSchedule& schedule, const SamplingPlan& plan,
                               Guidance guidance, std::stop_token stop)
    : unet_(unet), schedule_(schedule), plan_(plan), guidance_(std::move(guidance)), stop_(std::move(stop)) {}

void GuidedDenoiser::begin(InpaintCondition condition) {
  condition_ = std::move(condition);
  step_ = 1;
  first_ = true;
}

void GuidedDenoiser::prepare_texts() {
  std::vector<const EncodedPrompt*> prompts;
  if (!guidance_.negative.schedule.empty()) prompts.push_back(&guidance_.negative);
  for (const EncodedPrompt& prompt : guidance_.positive) prompts.push_back(&prompt);
  std::vector<size_t> places;
  for (const EncodedPrompt* prompt : prompts) places.push_back(prompt->at(step_));
  if (places == places_) return;

  std::vector<std::vector<Tensor>> batches;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const Tensor& text = prompts[i]->schedule[places[i]].context;
    if (batches.empty() || batches.back().back().dim(1) != text.dim(1)) batches.emplace_back();
    batches.back().push_back(text);
  }
  groups_.clear();
  for (const auto& batch : batches)
    groups_.push_back({static_cast<int64_t>(batch.size()), unet_.prepare(concat(batch, 0))});
  places_ = std::move(places);
}

std::vector<Tensor> GuidedDenoiser::evaluate(const Tensor& input, double timestep) const {
  std::vector<Tensor> outputs;
  for (const Group& group : groups_) {
    SINOPIA_CHECK(!stop_.stop_requested(), Cancelled, "[denoiser] stopped in step {}", step_);
    const Tensor t = full(Shape{group.count}, static_cast<float>(timestep));
    const Tensor y = unet_.forward(expand_batch(input, group.count), t, group.context);
    SINOPIA_CHECK(all_finite(y), Backend, "[denoiser] the network gave values that are not finite in step {}",
                  step_);
    for (int64_t i = 0; i < group.count; ++i) outputs.push_back(y.slice(i, i + 1));
  }
  return outputs;
}

Tensor GuidedDenoiser::operator()(const Tensor& x, double sigma) {
  prepare_texts();
  const Prediction prediction = schedule_.config().prediction;
  Tensor latent = x;
  if (condition_.known && !(first_ && condition_.from_noise))
    latent = mix(condition_.mask, x, add_noise(prediction, condition_.known, condition_.noise, sigma));
  first_ = false;

  Tensor input = latent * input_scale(prediction, sigma);
  if (condition_.channels) input = concat({input, condition_.channels}, -1);
  const std::vector<Tensor> outputs = evaluate(input, plan_.timestep(schedule_, sigma));

  Tensor output = outputs.front();
  if (!guidance_.negative.schedule.empty()) {
    std::vector<WeightedOutput> texts;
    for (size_t i = 0; i < guidance_.positive.size(); ++i)
      texts.push_back({outputs[i + 1], guidance_.positive[i].weight});
    output = guide(outputs.front(), texts, guidance_.scale);
    if (guidance_.rescale > 0) {
      const Tensor text = texts.size() == 1 ? texts.front().output : guide(outputs.front(), texts, 1);
      output = rescale_guidance(output, text, guidance_.rescale);
    }
  }
  const Tensor x0 = to_x0(prediction, output, latent, sigma);
  return condition_.known ? mix(condition_.mask, x0, condition_.known) : x0;
}

Tensor GuidedDenoiser::finish(const Tensor& x) const {
  const Tensor latent = x * input_scale(schedule_.config().prediction, plan_.sigmas.back());
  return condition_.known ? mix(condition_.mask, latent, condition_.known) : latent;
}

}  // namespace sinopia
