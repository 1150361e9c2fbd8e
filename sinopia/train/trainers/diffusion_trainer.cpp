#include "sinopia/train/trainers/diffusion_trainer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "sinopia/autograd/tape.h"
#include "sinopia/base/error.h"
#include "sinopia/io/file.h"
#include "sinopia/io/picture_grid.h"
#include "sinopia/io/sha256.h"
#include "sinopia/models/checkpoint/folder.h"
#include "sinopia/models/checkpoint/single_file.h"
#include "sinopia/models/checkpoint/variants.h"
#include "sinopia/nn/parameters.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/ops/shape.h"
#include "sinopia/pipelines/generation.h"
#include "sinopia/pipelines/sampling_choice.h"
#include "sinopia/text/layout.h"
#include "sinopia/train/data/layout_boxes.h"
#include "sinopia/train/data/prefetch.h"
#include "sinopia/train/trainers/batches.h"
#include "sinopia/train/trainers/caption_encoder.h"
#include "sinopia/train/trainers/conditions/condition.h"
#include "sinopia/train/trainers/conditions/labels.h"
#include "sinopia/train/trainers/latents.h"
#include "sinopia/train/trainers/training_set.h"
#include "sinopia/train/training_state.h"

namespace sinopia {
namespace {

constexpr size_t kMaxConfigBytes = size_t{1} << 20;

void set_prediction(ScheduleInfo& schedule, const DiffusionRecipe& r) {
  constexpr std::array<const char*, 5> kNames = {"", "epsilon", "v_prediction", "sample", "flow_prediction"};
  if (r.prediction != PredictionChoice::Own) schedule.prediction = kNames[static_cast<size_t>(r.prediction)];
  if (schedule.prediction == kNames.back()) {
    schedule.scheduler = "FlowMatchEulerDiscreteScheduler";
    schedule.flow_shift = r.timesteps.shift;
    return;
  }
  if (!r.zero_terminal_snr || schedule.zero_terminal_snr) return;
  // Lin et al. 2023: sampling has to begin at the last timestep, where leading spacing does not.
  schedule.zero_terminal_snr = true;
  schedule.timestep_spacing = "trailing";
  schedule.steps_offset = 0;
  schedule.scheduler = "DDIMScheduler";
}

/// What training begins with.
CheckpointParts starting_parts(const Recipe& recipe) {
  const DiffusionRecipe& r = recipe.diffusion;
  CheckpointParts parts;
  if (!r.start.empty()) {
    parts = read_checkpoint(r.start);
    SINOPIA_CHECK(!parts.unet.tensors.empty(), Unsupported, "[train] '{}' has no denoiser but: {}", r.start,
                  parts.description);
  } else {
    const auto seed = static_cast<uint64_t>(recipe.seed);
    parts.unet.config = unet_config_from_json(read_text_file(r.unet_config, kMaxConfigBytes));
    const Variant& variant = variant_of(parts.unet.config);
    parts.family = variant.family;
    parts.variant = variant.name;
    parts.description = variant.title;
    parts.schedule = variant.schedule;
    SINOPIA_CHECK(variant.text_encoders.size() == 1, Unsupported,
                  "[train] {} has {} text encoders; it can be trained further, not from fresh weights",
                  variant.title, variant.text_encoders.size());
    parts.unet.tensors = fresh_tensors<UNet>(parts.unet.config, seed);
    TextEncoderPart text;
    text.config = clip_text_config_from_json(read_text_file(r.text_config, kMaxConfigBytes));
    text.config.final_norm = variant.text_encoders.front().final_norm;
    text.padding_id = variant.text_encoders.front().padding_id;
    text.tensors = fresh_tensors<ClipTextModel>(text.config, seed + 1);
    parts.text_encoders.push_back(std::move(text));
    parts.metadata["format"] = "pt";
  }
  if (!r.autoencoder.empty()) parts.vae = read_autoencoder_part(r.autoencoder);
  SINOPIA_CHECK(!parts.vae.tensors.empty(), NotFound,
                "[train] '{}' has no autoencoder: diffusion.autoencoder is needed", r.start);
  set_prediction(parts.schedule, r);
  const AutoencoderConfig& vae = parts.vae.config;
  SINOPIA_CHECK(parts.unet.config.out_channels == vae.latent_channels, InvalidArgument,
                "[train] the denoiser gives {} channels, the autoencoder has {}",
                parts.unet.config.out_channels, vae.latent_channels);
  check_picture_sizes(recipe.data, vae.factor());
  parts.unet.config.sample_size = std::max(recipe.data.width, recipe.data.height) / vae.factor();
  int64_t width = 0;
  for (const TextEncoderPart& text : parts.text_encoders) width += text.config.hidden_size;
  SINOPIA_CHECK(width == parts.unet.config.cross_attention_dim, InvalidArgument,
                "[train] the text encoders give vectors of {} numbers, the denoiser takes {}", width,
                parts.unet.config.cross_attention_dim);
  return parts;
}

std::string hash_of_weights(const std::vector<TextEncoderPart>& encoders) {
  std::string hashes;
  for (const TextEncoderPart& encoder : encoders) hashes += hash_of_tensors(encoder.tensors);
  return hashes;
}

struct DiffusionBatch {
  int64_t number = 0;
  std::vector<std::string> captions;
  PictureLatents latents;
  TensorMap conditions;
};

/// The networks as they are to be used, on one set of weights.
struct DiffusionNetworks {
  std::optional<UNet> unet;
  std::vector<ClipTextModel> texts;
};

class DiffusionTrainer final : public Trainer {
 public:
  explicit DiffusionTrainer(const Recipe& recipe)
      : recipe_(recipe),
        seed_(static_cast<uint64_t>(recipe.seed)),
        placement_(placement_of(recipe)),
        parts_(starting_parts(recipe)),
        data_(recipe.data, recipe.batch, seed_),
        latents_(data_, parts_.vae, recipe.data.cache, seed_, placement_) {
    const DiffusionRecipe& r = recipe.diffusion;
    const ConditionContext context{recipe_, parts_.unet.config, parts_.vae.config, data_, parts_.class_names};
    if (wants_labels(context) && parts_.class_names.empty()) parts_.class_names = data_.labels();
    conditions_ = make_conditions(context);
    for (const auto& condition : conditions_) needs_pixels_ = needs_pixels_ || condition->needs_pixels();
    scheduler_ = scheduler_config(parts_.schedule);
    DiffusionObjective::Config objective = r.objective;
    objective.schedule = scheduler_.schedule;
    objective_.emplace(objective);

    networks_.unet.emplace(train<UNet>(parts_.unet, "unet", true));
    for (size_t i = 0; i < parts_.text_encoders.size(); ++i) {
      const std::string name = i == 0 ? "text_encoder" : "text_encoder_" + std::to_string(i + 1);
      networks_.texts.push_back(
          train<ClipTextModel>(parts_.text_encoders[i], name, r.text == TextTraining::Trained));
    }
    if (!recipe.data.cache.empty() && r.text == TextTraining::Frozen)
      text_cache_.emplace(recipe.data.cache, "text-" + hash_of_weights(parts_.text_encoders));
    guard_ = StepGuard(recipe.optimizer.clip);
    if (placement_.dtype == DType::F16) guard_.scale_losses();
  }

  void start(int64_t step) override {
    step_ = step;
    prefetch_.emplace(step * recipe_.accumulate, recipe_.steps * recipe_.accumulate,
                      static_cast<int>(recipe_.data.ahead), [this](int64_t number) { return make(number); });
  }

  Scalars step() override {
    const double share = 1.0 / static_cast<double>(recipe_.accumulate);
    double loss = 0;
    for (int64_t i = 0; i < recipe_.accumulate; ++i) {
      loss += share * backward_pass(*prefetch_->next());
      for (auto& network : trained_) network->gather(share / guard_.loss_scale());
    }
    const double rate = learning_rate(recipe_.optimizer.rate, step_, recipe_.steps);
    const double text_rate = rate_with_peak(recipe_.optimizer.rate, rate, recipe_.diffusion.text_rate);
    std::vector<StepGuard::Update> updates;
    for (size_t i = 0; i < trained_.size(); ++i)
      updates.push_back(trained_[i]->update(i > 0 ? text_rate : rate));
    const StepGuard::Result result = guard_.step(updates);
    for (auto& network : trained_) network->finish_step(result.taken);
    ++step_;
    return {{"loss", loss}, {"learning_rate", rate}, {"gradient_norm", result.norm}};
  }

  Scalars validate() override {
    constexpr size_t kParts = 4;
    const std::vector<int64_t>& examples = data_.validation();
    if (examples.empty()) return {};
    const DiffusionNetworks networks = result_networks();
    std::array<double, kParts> sums{}, counts{};
    for (size_t begin = 0; begin < examples.size(); begin += static_cast<size_t>(recipe_.batch)) {
      const size_t end = std::min(begin + static_cast<size_t>(recipe_.batch), examples.size());
      // Levels are spread evenly, so that the mean over them has no luck in it.
      std::vector<double> levels;
      std::vector<std::string> captions;
      const Tensor x0 = latents_.validation(begin, end);
      for (size_t i = begin; i < end; ++i) {
        levels.push_back((static_cast<double>(i) + 0.5) / static_cast<double>(examples.size()));
        captions.push_back(told(data_[examples[i]].captions.front(), validation_example(i)));
      }
      Tensor eps = Tensor::empty(x0.shape());
      const auto each = static_cast<size_t>(x0.numel() / x0.dim(0));
      for (size_t i = begin; i < end; ++i)
        Draws(seed_, Purpose::Validation, static_cast<uint32_t>(i))
            .normal({eps.data<float>() + (i - begin) * each, each});
      const NoisedBatch noised = objective_->noised(x0, eps, levels);
      const Tensor output = denoise(networks, noised, captions, latents_.validation_sizes(begin, end),
                                    validation_conditions(begin, end));
      const std::vector<float> losses = objective_->losses(output, noised).to_vector<float>();
      for (size_t i = 0; i < losses.size(); ++i) {
        const auto part = static_cast<size_t>(levels[i] * kParts);
        sums[part] += losses[i];
        ++counts[part];
      }
    }
    Scalars scalars;
    double sum = 0;
    for (const double part : sums) sum += part;
    scalars.emplace_back("validation/loss", sum / static_cast<double>(examples.size()));
    for (size_t i = 0; i < kParts; ++i)
      if (counts[i] > 0)
        scalars.emplace_back(fmt::format("validation/loss_noise_{}of{}", i + 1, kParts), sums[i] / counts[i]);
    return scalars;
  }

  Image samples() override {
    if (networks_.texts.size() != 1 || parts_.unet.config.addition != UNetAddition::None) return {};
    constexpr size_t kShown = 8;
    std::vector<GenerationRequest> requests;
    for (const std::string& prompt : recipe_.report.prompts) requests.emplace_back().prompt = prompt;
    // A condition that is no text comes from an example.
    if (requests.empty() || !conditions_.empty()) {
      requests.clear();
      for (size_t i = 0; i < std::min(kShown, data_.validation().size()); ++i) {
        const PreparedExample one = validation_example(i);
        GenerationRequest& request = requests.emplace_back();
        request.prompt = told(data_[one.example].captions.front(), one);
        for (const auto& condition : conditions_)
          if (!condition->request(one.example, request)) return {};
      }
    }
    if (requests.empty()) return {};
    const DiffusionNetworks networks = result_networks();
    TextEncoding text(networks.texts[0], parts_.text_encoders[0].padding_id);
    const MappedWeights mapped;
    const std::string name = "training";
    std::vector<Image> shown;
    for (size_t i = 0; i < requests.size(); ++i) {
      GenerationRequest& request = requests[i];
      request.plain_prompt = true;
      request.steps = static_cast<int>(recipe_.report.sample_steps);
      request.cfg_scale = recipe_.report.sample_guidance;
      request.sampler = recipe_.report.sample_sampler;
      request.width = static_cast<int>(recipe_.data.width);
      request.height = static_cast<int>(recipe_.data.height);
      request.seed = seed_ + i;
      GenerationResult result =
          run_generation({*networks.unet, latents_.autoencoder(), nullptr, nullptr, text, mapped,
                          objective_->schedule(), scheduler_, name, parts_.class_names},
                         request);
      shown.push_back(std::move(result.images.front()));
    }
    return picture_grid(shown, static_cast<int>(kShown));
  }

  void export_model(const std::filesystem::path& folder) override {
    CheckpointParts parts = parts_;
    parts.unet.tensors = on_cpu(trained_.front()->result());
    if (recipe_.diffusion.text == TextTraining::Trained)
      for (size_t i = 0; i < parts.text_encoders.size(); ++i)
        parts.text_encoders[i].tensors = on_cpu(trained_[i + 1]->result());
    convert_dtype(parts, recipe_.export_type);
    save_diffusers_folder(folder, parts);
  }

  std::vector<TrainedNetwork*> networks() override {
    std::vector<TrainedNetwork*> all;
    for (auto& network : trained_) all.push_back(network.get());
    return all;
  }
  StepGuard& guard() override { return guard_; }

 private:
  /// A network of the checkpoint, with leaves for parameters if it is to be trained; parts_ keeps the
  /// tensors of those alone that are not.
  template <class Network, class Part>
  Network train(Part& part, const std::string& name, bool trained) {
    if (!trained) {
      CheckpointParameters given(part.tensors, name);
      PlacedParameters placed(given, placement_);
      Network network(Scope(placed), part.config);
      given.finish();
      return network;
    }
    TensorMap leaves;
    auto network = trainable_network<Network>(std::move(part.tensors), part.config, name, placement_, leaves);
    part.tensors.clear();
    trained_.push_back(std::make_unique<TrainedNetwork>(name, leaves, recipe_.optimizer, recipe_.ema));
    return network;
  }

  DiffusionNetworks result_networks() const {
    DiffusionNetworks networks;
    CheckpointParameters unet(trained_.front()->result(), "unet");
    PlacedParameters placed_unet(unet, placement_);
    networks.unet.emplace(Scope(placed_unet), parts_.unet.config);
    for (size_t i = 0; i < parts_.text_encoders.size(); ++i) {
      const TextEncoderPart& part = parts_.text_encoders[i];
      CheckpointParameters text(part.tensors.empty() ? trained_[i + 1]->result() : part.tensors,
                                "text encoder");
      PlacedParameters placed_text(text, placement_);
      networks.texts.emplace_back(Scope(placed_text), part.config);
    }
    return networks;
  }

  DiffusionBatch make(int64_t number) const {
    DiffusionBatch made{number, {}, {}, {}};
    const TrainingSet::Batch batch = data_.batch(number);
    made.latents = latents_.prepare(batch, number, needs_pixels_);
    ConditionSource source{{}, true, {}, [&](Purpose purpose, size_t i) {
                             return Draws(seed_, purpose, static_cast<uint32_t>(number),
                                          static_cast<uint32_t>(i));
                           }};
    for (size_t i = 0; i < batch.examples.size(); ++i) {
      const auto index = static_cast<int64_t>(i);
      const PreparedExample& one =
          source.examples.emplace_back(PreparedExample{batch.examples[i], size_of(made.latents.sizes, index),
                                                       data_.mirrored(batch.examples[i], number, index)});
      const bool dropped =
          Draws(seed_, Purpose::Dropout, static_cast<uint32_t>(number), static_cast<uint32_t>(i))
              .chance(recipe_.diffusion.caption_dropout);
      made.captions.push_back(dropped ? "" : told(data_.caption(batch.examples[i], number, index), one));
    }
    std::vector<Tensor> pictures;
    if (needs_pixels_)
      for (const PictureLatents::One& one : made.latents.each) pictures.push_back(one.picture);
    if (needs_pixels_) source.pictures = concat(pictures, 0);
    for (const auto& condition : conditions_) condition->prepare(source, made.conditions);
    return made;
  }

  double backward_pass(const DiffusionBatch& batch) {
    const DiffusionRecipe& r = recipe_.diffusion;
    const Tensor x0 = latents_.sample(batch.latents, batch.number);
    Tensor noise = drawn_noise(x0.shape(), seed_, Purpose::Noise, batch.number);
    if (r.offset_noise > 0)
      noise = with_offset_noise(
          noise, drawn_noise({x0.dim(0), 1, 1, x0.dim(3)}, seed_, Purpose::OffsetNoise, batch.number),
          r.offset_noise);
    std::vector<double> levels;
    for (int64_t i = 0; i < x0.dim(0); ++i) {
      Draws draws(seed_, Purpose::Timestep, static_cast<uint32_t>(batch.number), static_cast<uint32_t>(i));
      levels.push_back(draw_level(r.timesteps, draws));
    }
    const NoisedBatch noised = objective_->noised(x0, noise, levels);
    const RecordGradients on;
    const Tensor loss = objective_->loss(
        denoise(networks_, noised, batch.captions, batch.latents.sizes, batch.conditions), noised);
    backward(loss * guard_.loss_scale());
    return item(loss);
  }

  /// sizes [N,8]: SizeConditioning::values.
  Tensor denoise(const DiffusionNetworks& networks, const NoisedBatch& noised,
                 std::span<const std::string> captions, const Tensor& sizes,
                 const TensorMap& prepared) const {
    const bool told_sizes = parts_.unet.config.addition == UNetAddition::TextTime;
    const TensorMap text = text_cache_ ? kept_texts(networks, captions) : encode(networks, captions);
    ConditionedInput input;
    {
      const RecordGradients off(false);  // what comes from the autoencoder is not trained
      for (const auto& condition : conditions_) condition->apply(prepared, latents_.autoencoder(), input);
    }
    if (told_sizes) {
      input.conditions.text_embeds = text.at("pooled");
      input.conditions.time_ids = narrow(sizes, 1, 0, SizeConditioning::kTold);
    }
    std::vector<Tensor> channels{noised.x};
    channels.insert(channels.end(), input.concatenated.begin(), input.concatenated.end());
    UNetShortcuts shortcuts;
    shortcuts.checkpoint_activations = recipe_.checkpoint_activations;
    return networks.unet->forward(concat(channels, -1), noised.timestep,
                                  networks.unet->prepare(text.at("context")), input.conditions, shortcuts);
  }

  /// What the text encoder is told of an example: its caption and, if the recipe says so, its boxes.
  std::string told(const std::string& caption, const PreparedExample& one) const {
    if (!recipe_.diffusion.boxes) return caption;
    constexpr double kLeastShare = 0.25;  // of a box that the crop has left
    return layout_prompt(caption,
                         prepared_boxes(data_[one.example].boxes, one.size, one.mirrored, kLeastShare));
  }

  /// Row `i` of sizes [N,8].
  static SizeConditioning size_of(const Tensor& sizes, int64_t i) {
    std::array<float, SizeConditioning::kValues> values;
    std::copy_n(sizes.data<float>() + i * SizeConditioning::kValues, SizeConditioning::kValues,
                values.begin());
    return SizeConditioning::from_values(values);
  }

  PreparedExample validation_example(size_t i) {
    return {data_.validation()[i], size_of(latents_.validation_sizes(i, i + 1), 0)};
  }

  /// Of validation pictures [begin,end), always the same.
  TensorMap validation_conditions(size_t begin, size_t end) {
    constexpr uint32_t kNoBatch = 0xffffffff;
    ConditionSource source{{}, false, {}, [&](Purpose purpose, size_t i) {
                             return Draws(seed_, purpose, kNoBatch, static_cast<uint32_t>(begin + i));
                           }};
    for (size_t i = begin; i < end; ++i) source.examples.push_back(validation_example(i));
    if (needs_pixels_) source.pictures = latents_.validation_pictures(begin, end);
    TensorMap prepared;
    for (const auto& condition : conditions_) condition->prepare(source, prepared);
    return prepared;
  }

  /// "context" [N,77,D], all encoders side by side; "pooled" [N,P] of the last, if the denoiser takes it.
  TensorMap encode(const DiffusionNetworks& networks, std::span<const std::string> captions) const {
    const bool pools = parts_.unet.config.addition == UNetAddition::TextTime;
    TensorMap result;
    std::vector<Tensor> hidden;
    for (size_t i = 0; i < networks.texts.size(); ++i) {
      const CaptionEncoder encoder(networks.texts[i], parts_.text_encoders[i].padding_id);
      const bool last = i + 1 == networks.texts.size();
      const ClipTextOutput text = encoder.encode(encoder.tokens(captions), pools && last);
      hidden.push_back(text.hidden);
      if (pools && last) result["pooled"] = text.pooled;
    }
    result["context"] = concat(hidden, -1);
    return result;
  }

  /// The same from the disk, caption by caption.
  TensorMap kept_texts(const DiffusionNetworks& networks, std::span<const std::string> captions) const {
    std::map<std::string, std::vector<Tensor>> rows;
    for (const std::string& caption : captions) {
      const TensorMap kept = text_cache_->get(sha256_hex_of_text(caption), [&] {
        return encode(networks, {&caption, 1});
      });
      for (const auto& [name, tensor] : kept) rows[name].push_back(tensor);
    }
    TensorMap result;
    for (const auto& [name, tensors] : rows) result[name] = concat(tensors, 0);
    return result;
  }

  Recipe recipe_;
  uint64_t seed_;
  Placement placement_;
  CheckpointParts parts_;
  TrainingSet data_;
  LatentSource latents_;
  std::vector<std::unique_ptr<Condition>> conditions_;
  bool needs_pixels_ = false;
  SchedulerConfig scheduler_;
  std::optional<DiffusionObjective> objective_;
  std::vector<std::unique_ptr<TrainedNetwork>> trained_;  // the denoiser first
  DiffusionNetworks networks_;
  mutable std::optional<TensorCache> text_cache_;
  StepGuard guard_;
  int64_t step_ = 0;
  std::optional<Prefetch<DiffusionBatch>> prefetch_;  // last: it uses the rest
};

}  // namespace

std::unique_ptr<Trainer> make_diffusion_trainer(const Recipe& recipe) {
  return std::make_unique<DiffusionTrainer>(recipe);
}

}  // namespace sinopia
