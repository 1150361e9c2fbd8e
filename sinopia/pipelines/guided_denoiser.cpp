#include "sinopia/pipelines/guided_denoiser.h"

#include <cmath>

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

void GuidedDenoiser::begin(PictureCondition condition, uint64_t seed) {
  condition_ = std::move(condition);
  merging_ = {guidance_.savings.token_merging, TorchCpuGenerator(seed)};
  for (Group& group : groups_) group.deep.h = {};
  step_ = 1;
  last_guided_step_ = 0;
  first_ = true;
}

bool GuidedDenoiser::guided() const {
  const int steps = static_cast<int>(plan_.sigmas.size()) - 1;
  return guidance_.savings.guidance_interval.contains(step_ - 1, steps) &&
         (last_guided_step_ == 0 || step_ <= last_guided_step_);
}

// At a scale of 1 what is left of the negative text is what the weights of the others leave.
bool GuidedDenoiser::needs_negative() const {
  double weights = 0;
  for (const EncodedPrompt& prompt : guidance_.positive) weights += prompt.weight;
  constexpr double kNothing = 1e-6;
  return !guidance_.negative.schedule.empty() && (guided() || std::abs(weights - 1) > kNothing);
}

void GuidedDenoiser::prepare_texts(bool negative) {
  std::vector<const EncodedPrompt*> prompts;
  if (negative) prompts.push_back(&guidance_.negative);
  for (const EncodedPrompt& prompt : guidance_.positive) prompts.push_back(&prompt);
  std::vector<size_t> places;
  for (const EncodedPrompt* prompt : prompts) places.push_back(prompt->at(step_));
  if (places == places_) return;

  struct Batch {
    std::vector<Tensor> texts;
    std::vector<int32_t> classes;
  };
  std::vector<Batch> batches;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const Tensor& text = prompts[i]->schedule[places[i]].context;
    if (batches.empty() || batches.back().texts.back().dim(1) != text.dim(1)) batches.emplace_back();
    batches.back().texts.push_back(text);
    if (const auto& classes = guidance_.classes)
      batches.back().classes.push_back(negative && i == 0 ? classes->negative : classes->positive);
  }
  groups_.clear();
  for (const Batch& batch : batches) {
    const auto count = static_cast<int64_t>(batch.texts.size());
    Tensor labels;
    if (guidance_.classes) labels = Tensor::from(Shape{count}, batch.classes);
    groups_.push_back(
        {count, unet_.prepare(concat(batch.texts, 0)), labels, {}, std::make_shared<RecordedCall>(), 0});
    groups_.back().deep.depth = guidance_.savings.deep_cache.depth;
  }
  places_ = std::move(places);
}

std::vector<Tensor> GuidedDenoiser::evaluate(const Tensor& input, double timestep) {
  const int interval = guidance_.savings.deep_cache.interval;
  const TokenMerging merging = merging_;
  std::vector<Tensor> outputs;
  for (Group& group : groups_) {
    SINOPIA_CHECK(!stop_.stop_requested(), Cancelled, "[denoiser] stopped in step {}", step_);
    if (group.evaluations == interval) group.deep.h = {};
    const bool cached = group.deep.h.defined();
    group.evaluations = cached ? group.evaluations + 1 : 1;
    evaluations_.texts += group.count;
    evaluations_.cached += cached ? group.count : 0;
    merging_ = merging;  // the same destinations for every text
    const UNetShortcuts shortcuts{interval > 1 ? &group.deep : nullptr,
                                  guidance_.savings.token_merging > 0 ? &merging_ : nullptr,
                                  group.recorded.get()};
    const Tensor t = full(Shape{group.count}, static_cast<float>(timestep));
    const UNetConditions conditions{.class_labels = group.class_labels};
    const Tensor y = unet_.forward(expand_batch(input, group.count), t, group.context, conditions, shortcuts);
    SINOPIA_CHECK(all_finite(y), Backend, "[denoiser] the network gave values that are not finite in step {}",
                  step_);
    for (int64_t i = 0; i < group.count; ++i) outputs.push_back(y.slice(i, i + 1));
  }
  return outputs;
}

// The answers to the texts, the negative one's first if it was asked, as one.
Tensor GuidedDenoiser::combine(const std::vector<Tensor>& outputs, bool negative) {
  const Tensor& base = outputs.front();  // without a negative text its share is nothing
  if (outputs.size() == 1) return base;
  std::vector<WeightedOutput> texts;
  for (size_t i = 0; i < guidance_.positive.size(); ++i)
    texts.push_back({outputs[i + (negative ? 1 : 0)], guidance_.positive[i].weight});
  if (!guided()) return guide(base, texts, 1);

  const Tensor output = guide(base, texts, guidance_.scale);
  const auto& threshold = guidance_.savings.adaptive_guidance;
  if (guidance_.rescale == 0 && !threshold) return output;
  const Tensor text = texts.size() == 1 ? texts.front().output : guide(base, texts, 1);
  if (threshold && last_guided_step_ == 0 && cosine_similarity(text, base) >= *threshold)
    last_guided_step_ = step_;
  return rescale_guidance(output, text, guidance_.rescale);
}

Tensor GuidedDenoiser::operator()(const Tensor& x, double sigma) {
  const bool negative = needs_negative();
  prepare_texts(negative);
  const Prediction prediction = schedule_.config().prediction;
  Tensor latent = x;
  if (condition_.known && !(first_ && condition_.from_noise))
    latent = mix(condition_.mask, x, add_noise(prediction, condition_.known, condition_.noise, sigma));
  first_ = false;

  Tensor input = latent * input_scale(prediction, sigma);
  if (condition_.channels) input = concat({input, condition_.channels}, -1);
  const Tensor output = combine(evaluate(input, plan_.timestep(schedule_, sigma)), negative);
  const Tensor x0 = to_x0(prediction, output, latent, sigma);
  return condition_.known ? mix(condition_.mask, x0, condition_.known) : x0;
}

Tensor GuidedDenoiser::finish(const Tensor& x) {
  for (Group& group : groups_) group.deep.h = {};
  const Tensor latent = x * input_scale(schedule_.config().prediction, plan_.sigmas.back());
  return condition_.known ? mix(condition_.mask, latent, condition_.known) : latent;
}

}  // namespace sinopia
