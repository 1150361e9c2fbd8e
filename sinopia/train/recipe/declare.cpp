// Which fields a recipe has: their names, ranges and what they mean.
#include "sinopia/train/recipe/declare.h"

#include <algorithm>

namespace sinopia {
namespace {

constexpr std::string_view kModels[] = {"autoencoder", "diffusion"};
constexpr std::string_view kPart[] = {"whole", "decoder"};
constexpr std::string_view kText[] = {"frozen", "trained"};
constexpr std::string_view kLastBatch[] = {"drop", "fill", "keep"};
constexpr std::string_view kCrop[] = {"center", "random"};
constexpr std::string_view kLoss[] = {"mse", "l1", "huber"};
constexpr std::string_view kWeighting[] = {"none", "min_snr", "p2", "cosmap"};
constexpr std::string_view kDensity[] = {"uniform", "logit_normal", "mode", "cosmap"};
constexpr std::string_view kPrediction[] = {"own", "epsilon", "v_prediction", "sample", "flow_prediction"};
constexpr std::string_view kDegradation[] = {"full", "light"};
constexpr std::string_view kRateShape[] = {"constant", "linear", "cosine", "restarts", "inverse_sqrt"};
constexpr Range kShare{0, 1};
constexpr double kMany = 1e12;

void choose_type(Fields& f, const char* name, DType& type, const char* description) {
  enum class Type { F32, F16, BF16 };
  constexpr std::string_view kNames[] = {"f32", "f16", "bf16"};
  constexpr DType kTypes[] = {DType::F32, DType::F16, DType::BF16};
  auto place = static_cast<Type>(std::ranges::find(kTypes, type) - std::begin(kTypes));
  f.choice(name, place, kNames, description);
  type = kTypes[static_cast<size_t>(place)];
}

}  // namespace

void visit_fields(Fields& f, DataRecipe& r) {
  f.field("paths", r.paths,
          "Folders of pictures with .txt captions, JSON Lines files, or tar shards; all of them together. "
          "What is listed twice is met twice as often.");
  f.field("split", r.split,
          "The split of a set that is trained on, where it names splits; empty: everything.");
  f.field(
      "validation_split", r.validation_split,
      "The split for validation. Where no set names it, pictures chosen by a hash of their names are lent.");
  f.field("validation_examples", r.validation_examples, {0, 100000},
          "Pictures that validation takes; none of them is trained on.");
  f.field("language", r.language, "Of captions listed by language; empty: all.");
  f.field("width", r.width, {8, 8192}, "Pixels of a training picture.");
  f.field("height", r.height, {8, 8192}, "Pixels of a training picture.");
  f.field("buckets", r.buckets, "Train at the aspect ratio nearest to each picture's, at the same area.");
  f.field("bucket_multiple", r.bucket_multiple, {1, 256}, "Both sides of a bucket are multiples of this.");
  f.field("bucket_max_aspect", r.bucket_max_aspect, {1, 10}, "The longer side by the shorter, at most.");
  f.choice("last_batch", r.last_batch, kLastBatch,
           "What becomes of examples that do not fill a batch at an epoch's end.");
  f.field(
      "shorter_side", r.shorter_side, {0, 8192},
      "Pixels of a picture's shorter side before it is cut to its size; 0, or less than that size needs: as "
      "few as cover it.");
  f.choice("crop", r.crop, kCrop, "Where a picture is cut to its size.");
  f.field("flip", r.flip, kShare, "How likely a picture is mirrored, if its captions permit it.");
  f.field("random_background", r.random_background,
          "A plain colour drawn for each transparent picture; otherwise white.");
  f.field("allow_missing_captions", r.allow_missing_captions,
          "A picture without a caption has the empty one.");
  f.field("ahead", r.ahead, {0, 64}, "Batches that are prepared while a step runs.");
  f.field(
      "cache", r.cache,
      "A folder for the latents of pictures and what a frozen text encoder makes of captions, which are then "
      "made once; empty: made each time.");
}

void visit_fields(Fields& f, AutoencoderLossConfig& r) {
  f.field("l1", r.l1, Range::from(0),
          "Weight of the absolute error, summed over a picture (with a codebook, its mean).");
  f.field("l2", r.l2, Range::from(0), "Weight of the squared error, likewise.");
  f.field("perceptual", r.perceptual, Range::from(0), "Weight of LPIPS, for each element; needs vgg16.");
  f.field("feature_matching", r.feature_matching, Range::from(0),
          "Weight of the discriminator's features, for each element: where no VGG16 is at hand.");
  f.field("logvar", r.logvar, {-30, 30}, "The error counts 1 / e^logvar.");
  f.field("kl", r.kl, Range::from(0),
          "Weight of the latent's divergence from a standard normal one, summed over it.");
  f.field("codebook", r.codebook, Range::from(0),
          "With a codebook, in the place of kl: weight of the distance between latents and entries.");
  f.field("commitment", r.commitment, Range::from(0),
          "What counts beside what moves the entries: what moves the latents.");
  f.field("legacy_commitment", r.legacy_commitment, "The other way round, as in latent diffusion.");
  f.field("adversarial", r.adversarial, Range::from(0),
          "Weight of the discriminator's opinion, times a balance of gradients.");
  f.field("adversarial_from", r.adversarial_from, {0, kMany}, "The step at which it begins.");
}

void visit_fields(Fields& f, AutoencoderRecipe& r) {
  f.field("start", r.start, "A checkpoint whose autoencoder is trained further; empty: fresh weights.");
  f.field("config", r.config, "diffusers' config.json of an AutoencoderKL or a VQModel, for fresh weights.");
  f.field("vgg16", r.vgg16,
          "torchvision's vgg16 weights (.pth or .safetensors), for the perceptual loss and LPIPS.");
  f.choice("part", r.part, kPart,
           "What is trained. decoder: latents stay as start makes them, so that denoisers made for it go on "
           "working.");
  f.section("loss", r.loss, "What is minimised.");
  f.field("discriminator_width", r.discriminator_width, {1, 1024}, "Channels of its first layer.");
  f.field("discriminator_layers", r.discriminator_layers, {1, 6}, "Layers that halve the picture.");
  f.field("discriminator_rate", r.discriminator_rate, Range::from(0),
          "Its learning rate; 0: the autoencoder's.");
}

void visit_fields(Fields& f, LossWeightingConfig& r) {
  f.choice("kind", r.kind, kWeighting,
           "What a sample's error counts by its noise. min_snr: of a small model that begins with fresh "
           "weights, it leaves the levels of much noise, where the caption decides, nearly untrained.");
  f.field("min_snr_gamma", r.min_snr_gamma, {1e-6, kMany}, "Of min_snr.");
  f.field("p2_gamma", r.p2_gamma, {0, 10}, "Of p2.");
  f.field("p2_k", r.p2_k, {1e-6, kMany}, "Of p2.");
}

void visit_fields(Fields& f, TimestepSampling& r) {
  f.choice("density", r.density, kDensity, "From which density noise levels are drawn.");
  f.field("logit_mean", r.logit_mean, {-10, 10}, "Of logit_normal.");
  f.field("logit_deviation", r.logit_deviation, {1e-3, 10}, "Of logit_normal.");
  f.field("mode_scale", r.mode_scale, {-1, 1.75}, "Of mode.");
  f.field("shift", r.shift, {0.01, 100}, "Towards noise above 1, for larger pictures.");
}

void visit_fields(Fields& f, DiffusionObjective::Config& r) {
  f.choice("loss", r.loss, kLoss, "Of an element's error.");
  f.field("huber_delta", r.huber_delta, {1e-9, kMany}, "Where the Huber loss becomes a straight line.");
  f.section("weighting", r.weighting, "Of the noise levels.");
}

void visit_fields(Fields& f, DiffusionRecipe& r) {
  f.field("start", r.start,
          "A checkpoint that is trained further; empty: fresh weights by unet_config and text_config.");
  f.field("autoencoder", r.autoencoder,
          "A checkpoint whose autoencoder makes the latents; empty: that of start.");
  f.field("unet_config", r.unet_config,
          "diffusers' config.json of a UNet2DConditionModel, for fresh weights.");
  f.field("text_config", r.text_config, "transformers' config.json of a CLIPTextModel, for fresh weights.");
  f.choice("text", r.text, kText, "Whether the text encoder is trained along.");
  f.field("text_rate", r.text_rate, Range::from(0), "Its learning rate; 0: the denoiser's.");
  f.choice("prediction", r.prediction, kPrediction,
           "What the network answers. own: as start does, epsilon for fresh weights. flow_prediction: "
           "rectified flow.");
  f.field("zero_terminal_snr", r.zero_terminal_snr,
          "Scale the schedule so that the last timestep is pure noise; also if start says so.");
  f.section("objective", r.objective, "What the denoiser is asked for.");
  f.section("timesteps", r.timesteps, "Which noise levels it sees.");
  f.field("offset_noise", r.offset_noise, {0, 1},
          "Noise that is the same for a whole channel, so that brightness is learned.");
  f.field("caption_dropout", r.caption_dropout, kShare, "How often the caption is left out, for guidance.");
  f.choice("degradation", r.degradation, kDegradation,
           "How pictures are spoilt for a denoiser that raises the resolution: as BSRGAN does or, light, as "
           "latent diffusion does.");
  f.field("boxes", r.boxes,
          "The boxes of a picture follow its caption, as generate's --box says them: what is seen where.");
}

void visit_fields(Fields& f, LearningRate& r) {
  f.field("peak", r.peak, {0, 10}, "The learning rate after the warm-up.");
  f.choice("shape", r.shape, kRateShape, "How it goes on.");
  f.field("warmup_steps", r.warmup_steps, {0, kMany}, "Steps over which it rises from 0.");
  f.field("last_share", r.last_share, kShare, "Of the peak: where linear, cosine and restarts end.");
  f.field("cycles", r.cycles, {1, 1000}, "Of restarts.");
}

void visit_fields(Fields& f, OptimizerRecipe& r) {
  f.field("name", r.name, "adamw, lion, adafactor or muon.");
  f.section("rate", r.rate, "The learning rate.");
  f.field("beta1", r.beta1, {0, 0.9999999},
          "Of the mean gradient; ~: the optimizer's own, as for the next four.");
  f.field("beta2", r.beta2, {0, 0.9999999},
          "Of its mean square (adamw) or of the momentum that is kept (lion).");
  f.field("eps", r.eps, {0, 1}, "Added to the root of the mean square (adamw).");
  f.field("momentum", r.momentum, {0, 0.9999999}, "Of the mean gradient of muon's matrices.");
  f.field("weight_decay", r.weight_decay, {0, 10}, "What weights lose a step, times the learning rate.");
  f.field("decay_biases_and_norms", r.decay_biases_and_norms, "Whether biases and norms lose it too.");
  f.field("clip", r.clip, Range::from(0), "The largest norm of all gradients together; 0: any.");
  f.field("skipped_in_a_row", r.skipped_in_a_row, {1, kMany},
          "After so many steps without a finite gradient the run ends.");
}

void visit_fields(Fields& f, EmaRecipe& r) {
  f.field("keep", r.keep,
          "Keep a moving average of the weights; it is what validation, samples and the exported model use.");
  f.field("decay", r.decay, {0, 0.9999999}, "How much of the average stays at each step, in the end.");
  f.field("warmup", r.warmup, "Less at the beginning.");
}

void visit_fields(Fields& f, ReportRecipe& r) {
  f.field("log_every", r.log_every, {1, kMany}, "Steps between entries of the metrics.");
  f.field("validation_every", r.validation_every, {0, kMany}, "Steps between validations; 0: none.");
  f.field("samples_every", r.samples_every, {0, kMany}, "Steps between grids of pictures; 0: none.");
  f.field("prompts", r.prompts, "What the grids show.");
  f.field("sample_steps", r.sample_steps, {1, 1000}, "Of each picture.");
  f.field("sample_guidance", r.sample_guidance, {0, 100}, "Of each picture.");
  f.field("sample_sampler", r.sample_sampler, "As `sinopia samplers` lists them.");
}

void visit_fields(Fields& f, CheckpointRecipe& r) {
  f.field("every", r.every, {1, kMany}, "Steps between checkpoints; the last step has one too.");
  f.field("keep", r.keep, {1, 1000}, "The newest ones that stay.");
  f.field("keep_every", r.keep_every, {0, kMany},
          "Those at multiples of so many steps stay as well; 0: none.");
}

void visit_fields(Fields& f, Recipe& r) {
  f.choice("model", r.model, kModels, "What is trained.");
  f.field("output", r.output, "The folder of the run: checkpoints, metrics, grids, the model.");
  f.field("seed", r.seed, {0, 9e15}, "Of everything that is drawn.");
  f.field("steps", r.steps, {1, kMany}, "Optimizer steps in all.");
  f.field("batch", r.batch, {1, 65536}, "Pictures in one pass.");
  f.field("accumulate", r.accumulate, {1, 65536}, "Passes whose gradients make one step.");
  f.field("checkpoint_activations", r.checkpoint_activations,
          "Less memory for a second forward pass of each layer.");
  f.field("device", r.device, "Where to train: cpu, cuda, cuda:N, or auto (a GPU if there is one).");
  choose_type(f, "precision", r.precision,
              "What a GPU computes with; weights, sums and the optimizer's state are f32 in any case. The "
              "CPU has f32.");
  choose_type(f, "export_type", r.export_type, "Of the weights of the model that a run writes.");
  f.section("data", r.data, "The pictures.");
  f.section("autoencoder", r.autoencoder, "Of `model: autoencoder`.");
  f.section("diffusion", r.diffusion, "Of `model: diffusion`.");
  f.section("optimizer", r.optimizer, "How weights are changed.");
  f.section("ema", r.ema, "The average of the weights.");
  f.section("report", r.report, "What a run tells of itself.");
  f.section("checkpoints", r.checkpoints, "What a run goes on from.");
}

}  // namespace sinopia
