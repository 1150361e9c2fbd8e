#include "sinopia/train/trainers/autoencoder_trainer.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "sinopia/autograd/tape.h"
#include "sinopia/base/error.h"
#include "sinopia/io/file.h"
#include "sinopia/io/image_tensor.h"
#include "sinopia/io/picture_grid.h"
#include "sinopia/models/checkpoint/folder.h"
#include "sinopia/models/checkpoint/single_file.h"
#include "sinopia/models/stable_diffusion.h"
#include "sinopia/nn/parameters.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/ops/shape.h"
#include "sinopia/train/autoencoder_objective.h"
#include "sinopia/train/codebook_use.h"
#include "sinopia/train/data/prefetch.h"
#include "sinopia/train/evaluation/picture_quality.h"
#include "sinopia/train/trainers/batches.h"
#include "sinopia/train/trainers/training_set.h"
#include "sinopia/train/training_state.h"

namespace sinopia {
namespace {

constexpr size_t kMaxConfigBytes = size_t{1} << 20;

struct PictureBatch {
  int64_t number;
  Tensor pictures;  // [N,H,W,3]
};

AutoencoderPart starting_part(const Recipe& recipe) {
  const AutoencoderRecipe& r = recipe.autoencoder;
  if (!r.start.empty()) return read_autoencoder_part(r.start);
  AutoencoderPart part;
  part.config = autoencoder_config_from_json(read_text_file(r.config, kMaxConfigBytes));
  part.config.sample_size = std::max({recipe.data.width, recipe.data.height, recipe.data.shorter_side});
  part.tensors = fresh_tensors<Autoencoder>(part.config, static_cast<uint64_t>(recipe.seed));
  return part;
}

bool is_of_decoder(std::string_view name) {
  return name.starts_with("decoder.") || name.starts_with("post_quant_conv.");
}

class AutoencoderTrainer final : public Trainer {
 public:
  explicit AutoencoderTrainer(const Recipe& recipe)
      : recipe_(recipe),
        placement_(placement_of(recipe)),
        data_(recipe.data, recipe.batch, static_cast<uint64_t>(recipe.seed)) {
    const AutoencoderRecipe& r = recipe.autoencoder;
    AutoencoderPart part = starting_part(recipe);
    config_ = part.config;
    check_picture_sizes(recipe.data, config_.factor());
    TensorMap leaves;
    if (r.part == AutoencoderTraining::Decoder) {
      frozen_ = part.tensors;
      std::erase_if(frozen_, [](const auto& one) { return is_of_decoder(one.first); });
    }
    autoencoder_.emplace(
        trainable_network<Autoencoder>(std::move(part.tensors), config_, "autoencoder", placement_, leaves,
                                       [this](std::string_view name) { return !frozen_.contains(name); }));
    generator_ = std::make_unique<TrainedNetwork>("autoencoder", leaves, recipe.optimizer, recipe.ema);
    const Placement judging{placement_.device, DType::F32};
    if (r.loss.adversarial > 0 || r.loss.feature_matching > 0) {
      const PatchDiscriminatorConfig config{
          .in_channels = 3, .width = r.discriminator_width, .layers = r.discriminator_layers};
      TensorMap fresh = fresh_tensors<PatchDiscriminator>(config, static_cast<uint64_t>(recipe.seed) + 1);
      discriminator_.emplace(
          trainable_network<PatchDiscriminator>(std::move(fresh), config, "discriminator", judging, leaves));
      judge_ = std::make_unique<TrainedNetwork>("discriminator", leaves, recipe.optimizer,
                                                EmaRecipe{.keep = false});
    }
    if (!r.vgg16.empty()) lpips_.emplace(load_lpips(r.vgg16, judging));
    objective_.emplace(r.loss, discriminator_ ? &*discriminator_ : nullptr, lpips_ ? &*lpips_ : nullptr);
    objective_->checkpoint_activations(recipe.checkpoint_activations);
    guard_ = StepGuard(recipe.optimizer.clip);
    if (placement_.dtype == DType::F16) guard_.scale_losses();
  }

  void start(int64_t step) override {
    step_ = step;
    prefetch_.emplace(step * recipe_.accumulate, recipe_.steps * recipe_.accumulate,
                      static_cast<int>(recipe_.data.ahead), [this](int64_t number) { return make(number); });
  }

  Scalars step() override {
    AutoencoderLosses losses;
    DiscriminatorLosses judged;
    const double share = 1.0 / static_cast<double>(recipe_.accumulate);
    const bool discriminates = objective_->discriminates(step_);
    objective_->scale_loss(guard_.loss_scale());
    for (int64_t i = 0; i < recipe_.accumulate; ++i) {
      const PictureBatch batch = *prefetch_->next();
      const AutoencoderLosses l = objective_->autoencoder_pass(
          *autoencoder_, to_device(batch.pictures, placement_.device),
          to_device(noise_for(batch.pictures, Purpose::Posterior, batch.number), placement_.device), step_);
      generator_->gather(share / guard_.loss_scale());
      losses.total += l.total * share;
      losses.reconstruction += l.reconstruction * share;
      losses.perceptual += l.perceptual * share;
      losses.kl += l.kl * share;
      losses.codebook += l.codebook * share;
      losses.perplexity += l.perplexity * share;
      losses.generator += l.generator * share;
      losses.balance += l.balance * share;
      if (!discriminates) continue;
      const DiscriminatorLosses d =
          objective_->discriminator_pass(to_device(batch.pictures, placement_.device));
      judge_->gather(share);
      judged.total += d.total * share;
      judged.real += d.real * share;
      judged.fake += d.fake * share;
    }
    const double rate = learning_rate(recipe_.optimizer.rate, step_, recipe_.steps);
    const StepGuard::Update update = generator_->update(rate);
    const StepGuard::Result result = guard_.step({&update, 1});
    generator_->finish_step(result.taken);
    if (discriminates) {
      // Its gradients are clipped by themselves; a step that is not finite is left out for both.
      const StepGuard::Update own_update = judge_->update(
          rate_with_peak(recipe_.optimizer.rate, rate, recipe_.autoencoder.discriminator_rate));
      judge_->finish_step(result.taken && StepGuard(recipe_.optimizer.clip).step({&own_update, 1}).taken);
    }
    ++step_;
    Scalars scalars{{"loss", losses.total},
                    {"reconstruction", losses.reconstruction},
                    {"learning_rate", rate},
                    {"gradient_norm", result.norm}};
    if (config_.codebook) {
      scalars.emplace_back("codebook", losses.codebook);
      scalars.emplace_back("perplexity", losses.perplexity);
    } else {
      scalars.emplace_back("kl", losses.kl);
    }
    if (recipe_.autoencoder.loss.perceptual > 0) scalars.emplace_back("perceptual", losses.perceptual);
    if (discriminates) {
      scalars.emplace_back("generator", losses.generator);
      scalars.emplace_back("balance", losses.balance);
      scalars.emplace_back("discriminator", judged.total);
      scalars.emplace_back("logits_real", judged.real);
      scalars.emplace_back("logits_fake", judged.fake);
    }
    return scalars;
  }

  Scalars validate() override {
    if (data_.validation().empty()) return {};
    const Autoencoder network = result_network();
    double l1 = 0, noise = 0, similarity = 0, kl = 0, lpips = 0;
    std::optional<CodebookUse> use;
    if (config_.codebook) use.emplace(config_.codebook->entries);
    const std::vector<int64_t>& examples = data_.validation();
    for (size_t begin = 0; begin < examples.size(); begin += static_cast<size_t>(recipe_.batch)) {
      const Tensor pictures = validation_pictures(begin, static_cast<size_t>(recipe_.batch));
      const DiagonalGaussian latents = network.encode(pictures);
      const Tensor got = clamp(network.decode(latents.mean), -1, 1);
      l1 += item(mean(abs(pictures - got))) * static_cast<double>(pictures.dim(0));
      const std::vector<Image> shown = tensor_to_images(pictures), made = tensor_to_images(got);
      for (size_t i = 0; i < shown.size(); ++i) {
        // Equal pictures, which have no end of it, count as what one step in 100 pixels would.
        constexpr double kMostDecibels = 68;
        noise += std::min(psnr(shown[i], made[i]), kMostDecibels);
        constexpr int kWindow = 11;
        if (std::min(shown[i].width, shown[i].height) >= kWindow) similarity += ssim(shown[i], made[i]);
      }
      if (use)
        use->add(network.codebook()->nearest(latents.mean));
      else
        kl += item(mean_divergence(latents)) * static_cast<double>(pictures.dim(0));
      if (lpips_) lpips += item(sum(lpips_->forward(pictures, got)));
    }
    const auto count = static_cast<double>(examples.size());
    Scalars scalars{{"validation/loss", l1 / count},
                    {"validation/psnr", noise / count},
                    {"validation/ssim", similarity / count}};
    if (use) {
      scalars.emplace_back("validation/perplexity", use->perplexity());
      scalars.emplace_back("validation/codes_used", use->share_used());
    } else {
      scalars.emplace_back("validation/kl", kl / count);
    }
    if (lpips_) scalars.emplace_back("validation/lpips", lpips / count);
    return scalars;
  }

  Image samples() override {
    constexpr size_t kShown = 8;
    if (data_.validation().empty()) return {};
    const Autoencoder network = result_network();
    const Tensor pictures = validation_pictures(0, kShown);
    std::vector<Image> shown = tensor_to_images(pictures);
    const int columns = static_cast<int>(shown.size());
    for (Image& image : tensor_to_images(network.decode(network.encode(pictures).mean)))
      shown.push_back(std::move(image));
    return picture_grid(shown, columns);
  }

  void export_model(const std::filesystem::path& folder) override {
    // Latents of deviation 1 are what a denoiser works on (latent-diffusion, ddpm.py, scale_by_std).
    AutoencoderPart part{on_cpu(weights()), config_};
    if (frozen_.empty()) {
      part.config.shift_factor = 0;
      part.config.scaling_factor = 1 / latent_deviation();
    }
    CheckpointParts parts;
    parts.vae = std::move(part);
    convert_dtype(parts, recipe_.export_type);
    save_autoencoder_folder(folder, parts.vae);
  }

  std::vector<TrainedNetwork*> networks() override {
    std::vector<TrainedNetwork*> all{generator_.get()};
    if (judge_) all.push_back(judge_.get());
    return all;
  }
  StepGuard& guard() override { return guard_; }

 private:
  /// Of the first batch's latents.
  double latent_deviation() const {
    const Tensor pictures = make(0).pictures;
    const Tensor latents =
        result_network().encode(pictures).sample(noise_for(pictures, Purpose::Posterior, 0));
    const auto count = static_cast<double>(latents.numel());
    const double mean_value = item(sum(latents)) / count;
    return std::sqrt(item(sum(square(latents - mean_value))) / (count - 1));
  }

  PictureBatch make(int64_t number) const {
    const TrainingSet::Batch batch = data_.batch(number);
    std::vector<Tensor> pictures;
    for (size_t i = 0; i < batch.examples.size(); ++i)
      pictures.push_back(data_.picture(batch.examples[i], batch.size, number, static_cast<int64_t>(i)).x);
    return {number, stacked(pictures)};
  }

  Tensor noise_for(const Tensor& pictures, Purpose purpose, int64_t number) const {
    const int64_t factor = config_.factor();
    return drawn_noise(
        {pictures.dim(0), pictures.dim(1) / factor, pictures.dim(2) / factor, config_.latent_channels},
        static_cast<uint64_t>(recipe_.seed), purpose, number);
  }

  Tensor validation_pictures(size_t begin, size_t count) const {
    const std::vector<int64_t>& examples = data_.validation();
    std::vector<Tensor> pictures;
    for (size_t i = begin; i < std::min(begin + count, examples.size()); ++i)
      pictures.push_back(data_.validation_picture(examples[i]).x);
    return stacked(pictures);
  }

  /// The whole autoencoder's.
  TensorMap weights() const {
    TensorMap all = generator_->result();
    all.insert(frozen_.begin(), frozen_.end());
    return all;
  }

  Autoencoder result_network() const {
    CheckpointParameters parameters(weights(), "autoencoder");
    PlacedParameters placed(parameters, placement_);
    return Autoencoder(Scope(placed), config_);
  }

  Recipe recipe_;
  Placement placement_;
  TrainingSet data_;
  AutoencoderConfig config_;
  TensorMap frozen_;  // what is not trained
  std::optional<Autoencoder> autoencoder_;
  std::optional<PatchDiscriminator> discriminator_;
  std::optional<Lpips> lpips_;
  std::optional<AutoencoderObjective> objective_;
  std::unique_ptr<TrainedNetwork> generator_, judge_;
  StepGuard guard_;
  int64_t step_ = 0;
  std::optional<Prefetch<PictureBatch>> prefetch_;  // last: it uses the rest
};

}  // namespace

std::unique_ptr<Trainer> make_autoencoder_trainer(const Recipe& recipe) {
  return std::make_unique<AutoencoderTrainer>(recipe);
}

}  // namespace sinopia
