#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "sinopia/io/image.h"
#include "sinopia/pipelines/savings.h"
#include "sinopia/tensor/random.h"
#include "sinopia/tensor/tensor.h"
#include "sinopia/text/prompt.h"

namespace sinopia {

/// "original", "no-norm", "comfy", "ignore".
const char* to_string(EmphasisMode mode);
/// Throws InvalidArgument naming the known ones.
EmphasisMode parse_emphasis_mode(std::string_view name);

/// How a model is told which part of a picture to paint anew.
enum class MaskForm {
  Auto,      ///< by the model's input channels
  Blend,     ///< the known part is put back after each step; any model of 4 input channels
  Channels,  ///< mask and masked picture are inputs of the UNet: models of 9 input channels
};

/// Whether the autoencoder works on the whole picture or on overlapping tiles.
enum class VaeTiling { Off, On, Auto };

enum class Stage { Text, Encode, Sample, Decode, Done };
const char* to_string(Stage stage);

/// Where a generation is. Sent when a stage begins and after every step; Stage::Done once a picture is done.
struct Progress {
  Stage stage = Stage::Text;
  int image = 0;  ///< 0-based, of `images`
  int images = 1;
  int step = 0;  ///< steps done of this picture, of `steps`
  int steps = 0;
  double seconds_per_step = 0;  ///< mean of this picture's steps so far; 0 before the first
  double seconds_left = 0;      ///< of the steps of all pictures
  size_t memory = 0;            ///< the most bytes that tensors held so far, mapped weights left out
};

struct Preview {
  int image = 0;
  int step = 0;
  Image picture;  ///< at latent resolution; at the picture's own with a tiny decoder
};

/// What to paint and how. Defaults are those of a new picture at the model's own size.
struct GenerationRequest {
  std::string prompt;           ///< UTF-8, in AUTOMATIC1111's grammar
  std::string negative_prompt;  ///< likewise, without AND
  int width = 0;  ///< pixels, a multiple of 8, 8 to 8192; 0: the input picture's, or the model's
  int height = 0;
  int steps = 20;               ///< 1 to 1000
  double cfg_scale = 7.0;       ///< 0 to 100; at 1 and below the negative prompt is not used
  double guidance_rescale = 0;  ///< 0 to 1, Lin et al. 2023, section 3.4
  uint64_t seed = 0;            ///< image i of a batch uses seed + i
  int batch_count = 1;          ///< 1 to 10000
  std::string sampler;          ///< a name of the registry; empty: the model's own
  std::string scheduler;        ///< sigma schedule, a name of the registry; empty: the sampler's own
  RngKind rng = RngKind::TorchCpu;
  int clip_skip = 0;  ///< 1 the last layer, 2 the one before, ..; 0: the model's own
  EmphasisMode emphasis = EmphasisMode::Original;
  bool plain_prompt = false;  ///< the prompt is text without grammar
  bool truncate = false;      ///< cut a prompt after the first 75 tokens, as diffusers does

  std::optional<Image> init_image;  ///< resized to width x height by Lanczos, alpha left out
  double strength = 0.75;           ///< 0 to 1: the last int(steps * strength) steps are run
  std::optional<Image> mask;        ///< needs init_image; white is painted anew
  MaskForm mask_form = MaskForm::Auto;

  std::string class_label;            ///< of a model with classes: a name or a number of them; empty: none
  std::optional<Image> semantic_map;  ///< of a model that takes one: gray values are the numbers of classes

  std::optional<double>
      eta;             ///< 0 to 10: noise of ancestral samplers and DDIM; the sampler's own unless given
  double s_churn = 0;  ///< 0 and up, Karras et al. 2022, Algorithm 2
  double s_noise = 1;  ///< 0 to 10, of all noise that a sampler adds

  uint64_t variation_seed = 0;
  double variation_strength = 0;  ///< 0 to 1: the first noise turns from seed to variation_seed by slerp

  Savings savings;

  VaeTiling vae_tiling = VaeTiling::Auto;
  /// Bytes that the process may hold at once, on a GPU those of its own memory; 0 for no limit. Before the
  /// first step it is decided what is needed to stay below: weights read anew in each step, decoding in
  /// tiles, smaller tiles.
  size_t max_memory = 0;
  int preview_interval = 0;  ///< a preview every so many steps; 0 none

  /// Looked at between network evaluations; the generation then ends with an Error of kind Cancelled.
  std::stop_token stop;
  std::function<void(const Progress&)> on_progress;
  std::function<void(const Preview&)> on_preview;
  /// Each picture as soon as it is done, with its "parameters" text.
  std::function<void(int image, uint64_t seed, const Image& picture)> on_image;
  bool keep_latents = false;  ///< also return what was decoded
};

/// Throws InvalidArgument naming the field, its range or the known values, and what came.
void validate(const GenerationRequest& request);

/// Seconds that the stages of one generation took.
struct StageTimings {
  double text = 0;
  double encode = 0;          ///< the autoencoder on the input picture
  std::vector<double> steps;  ///< every step of every picture, in order
  double decode = 0;
  double total = 0;
  double first_step = 0;  ///< from the start until the first step was done
};

/// How a generation keeps its memory, decided before the first step.
struct MemoryPlan {
  size_t sampling = 0, decoding = 0;  ///< bytes that the process is expected to hold at most
  bool stream_sampling = false;       ///< the UNet's weights are read from the file in each step
  bool stream_decoding = false;       ///< likewise the autoencoder's
  int tile = 0;                       ///< side of the autoencoder's tiles in latent cells; 0: whole
};

/// How often the denoising network ran, of all pictures. A guided evaluation is one with the prompt and one
/// without it.
struct Evaluations {
  int64_t texts = 0;   ///< networks evaluated, one for each text
  int64_t cached = 0;  ///< of these, how many took their deep features from an earlier one
};

struct GenerationResult {
  std::vector<Image> images;       ///< with their "parameters" text
  std::vector<uint64_t> seeds;     ///< of each image
  std::vector<Tensor> latents;     ///< [1,h,w,C] of each image, if asked for
  std::string sampler, scheduler;  ///< what was used, by its registry name
  int width = 0, height = 0;
  int steps_run = 0;  ///< of each picture; fewer than asked for with an input picture
  Evaluations evaluations;
  StageTimings timings;
  MemoryPlan memory;
  size_t peak_tensor_bytes = 0;  ///< most bytes that tensors held at once, mapped weights left out
  size_t peak_device_bytes = 0;  ///< the same in a GPU's memory, weights included; 0 on the CPU
};

}  // namespace sinopia
