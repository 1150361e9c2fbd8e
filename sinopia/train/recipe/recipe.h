#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sinopia/tensor/dtype.h"
#include "sinopia/train/autoencoder_objective.h"
#include "sinopia/train/data/aspect_buckets.h"
#include "sinopia/train/data/picture_preparation.h"
#include "sinopia/train/diffusion_objective.h"
#include "sinopia/train/learning_rate.h"
#include "sinopia/train/timestep_sampling.h"

namespace sinopia {

enum class TrainedModel { Autoencoder, Diffusion };
/// Whether an autoencoder is trained as a whole, or so that its latents stay what they are.
enum class AutoencoderTraining { Whole, Decoder };
enum class TextTraining { Frozen, Trained };
/// How pictures are spoilt to train super-resolution: as BSRGAN does, or as latent diffusion does.
enum class DegradationKind { Full, Light };
/// What the denoiser answers; Own: what the checkpoint says, the noise for fresh weights.
enum class PredictionChoice { Own, Epsilon, V, Sample, Flow };

struct DataRecipe {
  std::vector<std::string> paths;
  std::string split, validation_split = "validation", language = "en";
  int64_t validation_examples = 64;
  int64_t width = 128, height = 128;
  bool buckets = false;
  int64_t bucket_multiple = 16;
  double bucket_max_aspect = 2;
  LastBatch last_batch = LastBatch::Drop;
  int64_t shorter_side = 0;
  Cropping crop = Cropping::Center;
  double flip = 0;
  bool random_background = false;
  bool allow_missing_captions = false;
  int64_t ahead = 2;
  std::string cache;
};

struct AutoencoderRecipe {
  std::string start, config, vgg16;
  AutoencoderTraining part = AutoencoderTraining::Whole;
  AutoencoderLossConfig loss;
  int64_t discriminator_width = 64, discriminator_layers = 3;
  double discriminator_rate = 0;
};

struct DiffusionRecipe {
  std::string start, autoencoder, unet_config, text_config;
  TextTraining text = TextTraining::Frozen;
  double text_rate = 0;
  PredictionChoice prediction = PredictionChoice::Own;
  bool zero_terminal_snr = false;        ///< or if the checkpoint says so
  DiffusionObjective::Config objective;  ///< but for its schedule
  TimestepSampling timesteps;
  double offset_noise = 0, caption_dropout = 0.1;
  DegradationKind degradation = DegradationKind::Light;
  bool boxes = false;
};

struct OptimizerRecipe {
  std::string name = "adamw";
  LearningRate rate;
  std::optional<double> beta1 = {}, beta2 = {}, weight_decay = {}, eps = {},
                        momentum = {};  ///< absent: its own
  bool decay_biases_and_norms = true;
  double clip = 1;
  int64_t skipped_in_a_row = 20;
};

struct EmaRecipe {
  bool keep = true;
  double decay = 0.9999;
  bool warmup = true;
};

struct ReportRecipe {
  int64_t validation_every = 500, samples_every = 1000, log_every = 10;
  std::vector<std::string> prompts;
  int64_t sample_steps = 30;
  double sample_guidance = 5;
  std::string sample_sampler = "dpmpp_2m";
};

struct CheckpointRecipe {
  int64_t every = 500, keep = 2, keep_every = 0;
};

/// Everything that decides what a training run does.
struct Recipe {
  TrainedModel model = TrainedModel::Diffusion;
  std::string output = "training";
  int64_t seed = 0, steps = 10000, batch = 16, accumulate = 1;
  bool checkpoint_activations = false;
  std::string device = "auto";     ///< as open_device takes it
  DType precision = DType::F32;    ///< of what a GPU computes with: f32, f16 or bf16
  DType export_type = DType::F16;  ///< f32, f16 or bf16
  DataRecipe data;
  AutoencoderRecipe autoencoder;
  DiffusionRecipe diffusion;
  OptimizerRecipe optimizer;
  EmaRecipe ema;
  ReportRecipe report;
  CheckpointRecipe checkpoints;
};

/// Reads YAML, of which JSON is a part. Relative paths in it are taken from the file's folder. Throws
/// NotFound for a missing file, Corrupt for what is no YAML, InvalidArgument naming line and field for an
/// unknown field, a wrong type, a number out of range, and what a run of its model cannot do without.
Recipe read_recipe(const std::filesystem::path& file);
/// The same from text; `name` stands for the file in errors.
Recipe parse_recipe(std::string_view text, const std::string& name);

/// The recipe as YAML that reads back as the same.
std::string recipe_to_yaml(const Recipe& recipe);
/// All fields with their defaults, each under a comment that says what it is: a recipe to begin with.
std::string documented_recipe();

}  // namespace sinopia
