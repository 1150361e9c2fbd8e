#include "sinopia/train/trainers/training_run.h"

#include <cmath>
#include <csignal>
#include <fstream>

#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "sinopia/models/checkpoint/folder.h"
#include "sinopia/models/checkpoint/variants.h"
#include "sinopia/models/stable_diffusion.h"
#include "sinopia/nn/parameters.h"
#include "sinopia/pipelines/stable_diffusion_pipeline.h"
#include "sinopia/text/layout.h"
#include "sinopia/train/data/picture_preparation.h"
#include "tests/kind_of.h"
#include "tests/reference.h"
#include "tests/train/small_run.h"

namespace sinopia {
namespace {

using namespace testing;

double value_of(const Scalars& scalars, const std::string& name) {
  for (const auto& [key, value] : scalars)
    if (key == name) return value;
  ADD_FAILURE() << "no " << name;
  return std::nan("");
}

/// Which of the colours the middle of a picture is.
const SmallRun::Named& nearest_color(const Image& image) {
  double distances[std::size(SmallRun::kColors)] = {};
  for (int y = 5; y < 11; ++y) {
    for (int x = 5; x < 11; ++x) {
      const uint8_t* const pixel = image.pixel(y, x);
      for (size_t c = 0; c < std::size(SmallRun::kColors); ++c) {
        const SmallRun::Named& other = SmallRun::kColors[c];
        distances[c] += std::abs(pixel[0] - other.red) + std::abs(pixel[1] - other.green) +
                        std::abs(pixel[2] - other.blue);
      }
    }
  }
  return SmallRun::kColors[std::min_element(std::begin(distances), std::end(distances)) -
                           std::begin(distances)];
}

TrainingResult run_until(const Recipe& recipe, int64_t stop_at) {
  TrainingRunOptions options;
  options.stop_at = stop_at;
  return run_training(recipe, options);
}

/// Stopped twice, the run ends with the same bytes as the one that never stopped.
void expect_same_when_resumed(const SmallRun& small, const std::string& yaml, const std::string& data,
                              int64_t first, int64_t second, const std::string& suffix = "") {
  const Recipe whole = small.recipe("whole" + suffix, yaml, data),
               parts = small.recipe("parts" + suffix, yaml, data);
  const TrainingResult expected = run_training(whole);
  EXPECT_TRUE(expected.finished);
  for (const int64_t stop : {first, second}) {
    const TrainingResult stopped = run_until(parts, stop);
    EXPECT_EQ(stopped.step, stop);
    EXPECT_FALSE(stopped.finished);
    EXPECT_FALSE(std::filesystem::exists(small / ("parts" + suffix) / "model"));
  }
  const TrainingResult last = run_training(parts);
  EXPECT_TRUE(last.finished);
  EXPECT_EQ(last.validation, expected.validation);
  auto want = SmallRun::sums(small / ("whole" + suffix)), got = SmallRun::sums(small / ("parts" + suffix));
  // The chart's title is the folder's name; checkpoints of where it stopped stay for a while.
  want.erase("loss.png");
  got.erase("loss.png");
  const auto is_other_checkpoint = [&](const auto& item) {
    return item.first.starts_with("checkpoints/") && !want.contains(item.first);
  };
  std::erase_if(got, is_other_checkpoint);
  for (const auto& [name, sum] : want) EXPECT_EQ(got[name], sum) << name;
  EXPECT_EQ(got.size(), want.size());
  EXPECT_GT(want.size(), 8u);
}

TEST(AutoencoderRun, LearnsAndWritesAModelWithLatentsOfUnitDeviation) {
  const SmallRun small;
  Recipe recipe = small.recipe("autoencoder", kSmallAutoencoder);
  recipe.report.validation_every = 100;
  recipe.report.samples_every = 400;
  std::vector<std::string> notes;
  TrainingRunOptions options;
  options.note = [&](const std::string& note) { notes.push_back(note); };
  int64_t last_step = 0;
  options.progress = [&](const TrainingProgress& p) { last_step = p.step; };
  const TrainingResult result = run_training(recipe, options);
  EXPECT_EQ(last_step, 400);
  EXPECT_THAT(notes, ::testing::Contains(::testing::HasSubstr("step 400: validation loss")));
  EXPECT_GT(value_of(result.validation, "validation/psnr"), 22);
  EXPECT_GT(value_of(result.validation, "validation/ssim"), 0.8);
  EXPECT_LT(value_of(result.validation, "validation/ssim"), 1);

  const Image grid = read_image(small / "autoencoder" / "samples" / "step-00000400.png");
  EXPECT_EQ(grid.height, 2 * SmallRun::kSide + 2) << "pictures above, reconstructions below";

  AutoencoderPart part = read_autoencoder_part(small / "autoencoder" / "model");
  EXPECT_EQ(part.config.sample_size, 16);
  EXPECT_NE(part.config.scaling_factor, 1);
  CheckpointParameters parameters(part.tensors, "autoencoder");
  const Autoencoder network(Scope(parameters), part.config);
  double sum = 0, squares = 0, count = 0;
  for (const SmallRun::Named& color : SmallRun::kColors) {
    const Image image = read_image(small / "pictures" / fmt::format("{}-3.png", color.name));
    const Tensor x = prepare_picture(image, {16, 16}, {}, false, 0, 0).x.reshape({1, 16, 16, 3});
    for (const double z : doubles(network.to_diffusion(network.encode(x).mean))) {
      sum += z;
      squares += z * z;
      ++count;
    }
  }
  const double deviation = std::sqrt(squares / count - sum * sum / count / count);
  EXPECT_NEAR(deviation, 1, 0.25) << "of other pictures than those of the first batch";
}

// The latents and their scale stay as they were, to the last bit, with less memory too; the pictures get
// better.
TEST(AutoencoderRun, OfADecoderLeavesTheLatentsAsTheyAre) {
  const SmallRun small;
  constexpr const char* kLess = R"(
model: autoencoder
steps: 60
autoencoder: {config: vae.json, loss: {perceptual: 0, adversarial: 0}}
optimizer: {rate: {peak: 2.0e-3}}
ema: {decay: 0.95}
report: {validation_every: 60, samples_every: 0}
)";
  const TrainingResult before = run_training(small.recipe("before", kLess));
  const auto train_decoder = [&](const std::string& name, const char* more) {
    return run_training(small.recipe(name, std::string(R"(
model: autoencoder
steps: 60
autoencoder: {start: before/model, part: decoder, loss: {perceptual: 0, adversarial: 0}}
optimizer: {rate: {peak: 2.0e-3}}
ema: {decay: 0.95}
report: {validation_every: 60, samples_every: 0}
)") + more));
  };
  const TrainingResult after = train_decoder("after", "");
  EXPECT_GT(value_of(after.validation, "validation/psnr"),
            value_of(before.validation, "validation/psnr") + 1);

  const AutoencoderPart first = read_autoencoder_part(small / "before" / "model"),
                        second = read_autoencoder_part(small / "after" / "model");
  EXPECT_EQ(second.config.scaling_factor, first.config.scaling_factor);
  int same = 0, changed = 0;
  ASSERT_EQ(first.tensors.size(), second.tensors.size());
  for (const auto& [name, tensor] : first.tensors) {
    const bool decodes = name.starts_with("decoder.") || name.starts_with("post_quant_conv.");
    const bool equal = same_bits(tensor, second.tensors.at(name));
    EXPECT_NE(equal, decodes) << name;
    ++(equal ? same : changed);
  }
  EXPECT_GT(same, 10);
  EXPECT_GT(changed, 10);

  train_decoder("checkpointed", "checkpoint_activations: true\n");
  for (const auto& [name, tensor] : read_autoencoder_part(small / "checkpointed" / "model").tensors)
    EXPECT_TRUE(same_bits(tensor, second.tensors.at(name))) << name;
}

TEST(AutoencoderRun, WithADiscriminatorIsTheSameWhenResumed) {
  const SmallRun small;
  expect_same_when_resumed(small, R"(
model: autoencoder
steps: 9
accumulate: 2
autoencoder:
  config: vae.json
  loss: {perceptual: 0, feature_matching: 0.5, adversarial: 0.5, adversarial_from: 4}
  discriminator_width: 4
  discriminator_layers: 1
optimizer: {name: lion, rate: {peak: 1.0e-4}}
report: {validation_every: 4, samples_every: 3, log_every: 2}
checkpoints: {every: 4, keep: 9}
)",
                           ", crop: random, random_background: true", 3, 5);
}

TEST(AutoencoderRun, WithACodebookLearnsAndFeedsADenoiser) {
  const SmallRun small;
  std::ofstream(small / "vq.json") << R"({"_class_name": "VQModel", "act_fn": "silu",
      "block_out_channels": [8, 16, 16], "in_channels": 3, "out_channels": 3, "latent_channels": 3,
      "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 16, "scaling_factor": 1.0,
      "num_vq_embeddings": 32, "vq_embed_dim": 4,
      "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
      "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]})";
  const TrainingResult result = run_training(small.recipe("autoencoder", R"(
model: autoencoder
steps: 400
autoencoder: {config: vq.json, loss: {perceptual: 0, adversarial: 0}}
optimizer: {rate: {peak: 5.0e-4}}  # faster, latents leave the entries behind
ema: {decay: 0.95}
report: {validation_every: 400, samples_every: 0}
)"));
  EXPECT_GT(value_of(result.validation, "validation/psnr"), 18);
  EXPECT_GT(value_of(result.validation, "validation/perplexity"), 3);
  EXPECT_GT(value_of(result.validation, "validation/codes_used"), 3.0 / 32);
  run_training(small.recipe(
      "a", std::string(kSmallDiffusion) + "steps: 2\nreport: {samples_every: 2, sample_steps: 2}\n",
      ", cache: latents"));
  StableDiffusionPipeline pipeline(small / "a" / "model");
  GenerationRequest request;
  request.prompt = "red";
  request.steps = 2;
  EXPECT_EQ(pipeline.generate(request).images.front().width, SmallRun::kSide);
}

class DiffusionRun : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    small_ = new SmallRun;
    run_training(small_->recipe("autoencoder", kSmallAutoencoder));
  }
  static void TearDownTestSuite() {
    delete small_;
    small_ = nullptr;
  }
  static const SmallRun* small_;
};
const SmallRun* DiffusionRun::small_ = nullptr;

TEST_F(DiffusionRun, IsTheSameWhenResumed) {
  const std::string yaml = std::string(kSmallDiffusion) + R"(
steps: 8
accumulate: 2
ema: {decay: 0.99}
report: {validation_every: 3, samples_every: 8, sample_steps: 2, log_every: 1, prompts: [red, blue]}
checkpoints: {every: 3, keep: 9}
)";
  expect_same_when_resumed(*small_, yaml, ", flip: 0.5", 2, 7);
  expect_same_when_resumed(*small_, yaml, ", flip: 0.5, cache: latents", 5, 6, "-cached");
  EXPECT_FALSE(SmallRun::sums(*small_ / "latents").empty());
  const auto a = SmallRun::sums(*small_ / "whole"), b = SmallRun::sums(*small_ / "whole-cached");
  EXPECT_EQ(a.at("metrics.jsonl"), b.at("metrics.jsonl")) << "a cache changes nothing";
}

TEST_F(DiffusionRun, WithoutPicturesForValidationThereIsNone) {
  Recipe recipe = small_->recipe("unvalidated", std::string(kSmallDiffusion) +
                                                    "steps: 2\nreport: {validation_every: 1, "
                                                    "samples_every: 0, log_every: 1}\n");
  recipe.data.validation_examples = 0;
  const TrainingResult result = run_training(recipe);
  EXPECT_TRUE(result.finished);
  EXPECT_TRUE(result.validation.empty());
  EXPECT_EQ(read_json_lines_metrics(*small_ / "unvalidated" / "metrics.jsonl").size(), 2u);
}

TEST_F(DiffusionRun, SavesMemoryOrTimeWithTheSameResult) {
  const auto metrics = [&](const std::string& name, const auto& change) {
    Recipe recipe = small_->recipe(name, std::string(kSmallDiffusion) +
                                             "steps: 5\nreport: {validation_every: 5, "
                                             "samples_every: 0, log_every: 1}\n");
    change(recipe);
    run_training(recipe);
    return SmallRun::sums(*small_ / name).at("metrics.jsonl");
  };
  const std::string plain = metrics("plain", [](Recipe&) {});
  // Gradients are added up in another order there.
  metrics("checkpointed", [](Recipe& r) { r.checkpoint_activations = true; });
  const auto want = read_json_lines_metrics(*small_ / "plain" / "metrics.jsonl"),
             got = read_json_lines_metrics(*small_ / "checkpointed" / "metrics.jsonl");
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i)
    EXPECT_NEAR(got[i].values[0].second, want[i].values[0].second, 1e-4 * want[i].values[0].second) << i;
  const auto frozen = [&](Recipe& r) {
    r.diffusion.start = (*small_ / "plain" / "model").string();
    r.diffusion.text = TextTraining::Frozen;
  };
  const std::string without_cache = metrics("frozen", frozen);
  EXPECT_NE(without_cache, plain);
  for (int pass = 0; pass < 2; ++pass) {
    EXPECT_EQ(metrics("frozen-cached-" + std::to_string(pass),
                      [&](Recipe& r) {
                        frozen(r);
                        r.data.cache = (*small_ / "kept").string();
                      }),
              without_cache);
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(*small_ / "kept"), {}), 2)
      << "latents and texts";
}

// What the latents are follows from the caption alone, so that at the noisiest quarter of the levels a model
// that reads captions has next to no error, while one that does not can but guess the mean.
TEST_F(DiffusionRun, LearnsWhatCaptionsSayAndPaintsIt) {
  const std::string yaml = std::string(kSmallDiffusion) + R"(
steps: 700
ema: {decay: 0.98}
report: {validation_every: 1000, samples_every: 0}
)";
  Recipe learned = small_->recipe("learned", yaml), blind = small_->recipe("blind", yaml),
         untrained = small_->recipe("untrained", yaml);
  learned.diffusion.caption_dropout = 0.1;
  blind.diffusion.caption_dropout = 1;
  untrained.optimizer.rate.peak = 1e-9;
  untrained.steps = 2;
  const char* const noisiest = "validation/loss_noise_4of4";
  const double with_captions = value_of(run_training(learned).validation, noisiest);
  const double without = value_of(run_training(blind).validation, noisiest);
  const double at_first = value_of(run_training(untrained).validation, noisiest);
  RecordProperty("losses", fmt::format("{} {} {}", with_captions, without, at_first));
  constexpr double kBound = 0.15;
  EXPECT_LT(with_captions, kBound);
  EXPECT_GT(without, 2 * kBound);
  EXPECT_GT(at_first, 2 * kBound);

  StableDiffusionPipeline pipeline(*small_ / "learned" / "model");
  for (const SmallRun::Named& color : SmallRun::kColors) {
    GenerationRequest request;
    request.prompt = color.name;
    request.seed = 3;
    request.steps = 10;
    request.cfg_scale = 1;
    const Image image = pipeline.generate(request).images.front();
    ASSERT_EQ(image.width, SmallRun::kSide) << "the model's own size";
    EXPECT_STREQ(nearest_color(image).name, color.name);
  }
}

// As a full disk does, a limit on the size of files makes writing fail.
TEST_F(DiffusionRun, AFullDiskIsAnErrorAndTheOldCheckpointStays) {
  const std::string yaml =
      std::string(kSmallDiffusion) + "steps: 6\nreport: {validation_every: 0, samples_every: 0}\n";
  const Recipe whole = small_->recipe("unbroken", yaml), recipe = small_->recipe("full", yaml);
  run_until(recipe, 2);
  const auto before = SmallRun::sums(*small_ / "full" / "checkpoints");
  rlimit limits{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limits), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit low{1 << 20, limits.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
  std::string message;
  try {
    run_until(recipe, 4);
  } catch (const Error& error) {
    message = error.what();
  }
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limits), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, ::testing::HasSubstr(".safetensors"));
  EXPECT_EQ(SmallRun::sums(*small_ / "full" / "checkpoints"), before);
  run_training(whole);
  run_training(recipe);
  EXPECT_EQ(SmallRun::sums(*small_ / "full" / "model"), SmallRun::sums(*small_ / "unbroken" / "model"));
}

TEST_F(DiffusionRun, RefusesWhatDoesNotFit) {
  const auto message = [&](const std::string& name, const auto& change) -> std::string {
    Recipe recipe = small_->recipe(name, std::string(kSmallDiffusion) + "steps: 1\n");
    change(recipe);
    try {
      run_training(recipe);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(message("size", [](Recipe& r) { r.data.width = 18; }), HasSubstr("multiples of 4"));
  EXPECT_THAT(message("batch", [](Recipe& r) { r.batch = 100; }), HasSubstr("do not fill a batch"));
  EXPECT_THAT(message("cache",
                      [](Recipe& r) {
                        r.data.cache = "x";
                        r.data.crop = Cropping::Random;
                      }),
              HasSubstr("data.cache needs"));
  EXPECT_THAT(message("optimizer", [](Recipe& r) { r.optimizer.name = "sgd"; }), HasSubstr("sgd"));
  EXPECT_THAT(message("rate",
                      [](Recipe& r) {
                        r.optimizer.rate.peak = 1e30;
                        r.optimizer.rate.warmup_steps = 0;
                        r.optimizer.clip = 0;
                        r.optimizer.skipped_in_a_row = 2;
                        r.steps = 9;
                      }),
              HasSubstr("2 steps in a row"));
  EXPECT_THROW(export_trained_model(small_->recipe("never", std::string(kSmallDiffusion)), *small_ / "m"),
               Error);
}

TEST_F(DiffusionRun, AFlowIsWrittenAsOneAndPainted) {
  Recipe recipe = small_->recipe("flow", std::string(kSmallDiffusion) +
                                             "steps: 3\nreport: {samples_every: 3, "
                                             "sample_steps: 2, prompts: [red]}\n");
  recipe.diffusion.prediction = PredictionChoice::Flow;
  recipe.diffusion.timesteps = {.density = TimestepDensity::LogitNormal, .shift = 1.5};
  run_training(recipe);
  const ScheduleInfo schedule = read_checkpoint(*small_ / "flow" / "model").schedule;
  EXPECT_EQ(schedule.prediction, "flow_prediction");
  EXPECT_EQ(schedule.flow_shift, 1.5);
  EXPECT_EQ(schedule.scheduler, "FlowMatchEulerDiscreteScheduler");
  StableDiffusionPipeline pipeline(*small_ / "flow" / "model");
  GenerationRequest request;
  request.prompt = "red";
  request.steps = 2;
  EXPECT_EQ(pipeline.generate(request).images.front().width, SmallRun::kSide);
}

// At the noisiest levels only what a condition says helps; here there are no captions.
class ConditionRun : public DiffusionRun {
 protected:
  Recipe recipe(const std::string& name, const std::string& unet_changes, int64_t steps) const {
    auto unet = nlohmann::json::parse(std::ifstream(*small_ / "unet.json"));
    unet.merge_patch(nlohmann::json::parse(unet_changes));
    std::ofstream(*small_ / (name + "-unet.json")) << unet;
    Recipe recipe = small_->recipe(
        name, std::string(kSmallDiffusion) + "steps: " + std::to_string(steps) +
                  "\nema: {decay: 0.98}\nreport: {validation_every: 1000, samples_every: 0}\n");
    recipe.diffusion.unet_config = (*small_ / (name + "-unet.json")).string();
    recipe.diffusion.caption_dropout = 1;
    return recipe;
  }
  static double noisiest(const Recipe& recipe) {
    return value_of(run_training(recipe).validation, "validation/loss_noise_4of4");
  }
};

TEST_F(ConditionRun, AKnownPartOfThePictureHelpsToInpaint) {
  Recipe recipe_with = recipe("inpainting", R"({"in_channels": 9})", 300);
  const double with = noisiest(recipe_with), without = noisiest(recipe("nothing", "{}", 300));
  EXPECT_LT(with, 0.8 * without);
  EXPECT_EQ(read_checkpoint(*small_ / "inpainting" / "model").variant, "sd1-inpaint");
  // In the order in which the program hands mask and picture to such a model.
  StableDiffusionPipeline pipeline(*small_ / "inpainting" / "model");
  GenerationRequest request;
  request.steps = 10;
  request.cfg_scale = 1;
  for (const SmallRun::Named& color : SmallRun::kColors) {
    request.init_image = read_image(*small_ / "pictures" / fmt::format("{}-0.png", color.name));
    request.mask = make_image(SmallRun::kSide, SmallRun::kSide, 1);
    for (int y = 0; y < SmallRun::kSide; ++y)
      for (int x = 0; x < SmallRun::kSide / 2; ++x) request.mask->pixel(y, x)[0] = 255;
    const Image image = pipeline.generate(request).images.front();
    EXPECT_STREQ(nearest_color(image).name, color.name) << "the left half after the right one";
  }
}

/// The pictures without captions, but with classes, semantic maps and boxes.
std::string write_conditions(const SmallRun& small) {
  constexpr int kSide = SmallRun::kSide;
  std::ofstream list(small / "conditions.jsonl");
  for (const auto& entry : std::filesystem::directory_iterator(small / "pictures")) {
    if (entry.path().extension() != ".png") continue;
    const std::string name = entry.path().stem().string(), color = name.substr(0, name.find('-'));
    const auto* const row = std::ranges::find(SmallRun::kColors, color, &SmallRun::Named::name);
    const Image picture = read_image(entry.path());
    Image map = make_image(picture.width, picture.height, 1);
    for (int y = 0; y < map.height; ++y)
      for (int x = 0; x < map.width; ++x)
        if (SmallRun::is_inside(x - (map.width - kSide) / 2, y))
          *map.pixel(y, x) = static_cast<uint8_t>(1 + (row - SmallRun::kColors));
    write_image(small / (name + "-map.png"), map);
    list << nlohmann::json{{"file", "pictures/" + name + ".png"},
                           {"caption", ""},
                           {"class", color},
                           {"semantic_map", name + "-map.png"},
                           {"boxes", {{color, 0.2, 0.2, 0.8, 0.8}}}}
         << "\n";
  }
  return (small / "conditions.jsonl").string();
}

class ToldRun : public ConditionRun {
 protected:
  Recipe told(const std::string& name, const std::string& unet_changes) const {
    Recipe recipe = ConditionRun::recipe(name, unet_changes, 200);
    recipe.data.paths = {write_conditions(*small_)};
    recipe.diffusion.caption_dropout = 0.1;
    return recipe;
  }
  double untold() const {
    static const double loss = noisiest(told("untold", "{}"));
    return loss;
  }
  /// Trains, and paints what `tell` says of each color.
  template <class Tell>
  void expect_colors(const Recipe& recipe, const Tell& tell) const {
    EXPECT_LT(noisiest(recipe), 0.3 * untold());
    StableDiffusionPipeline pipeline(std::filesystem::path(recipe.output) / "model");
    for (size_t i = 0; i < std::size(SmallRun::kColors); ++i) {
      GenerationRequest request;
      request.steps = 10;
      request.cfg_scale = 1.5;
      request.seed = i;
      tell(i, request);
      EXPECT_STREQ(nearest_color(pipeline.generate(request).images.front()).name, SmallRun::kColors[i].name);
    }
  }
};

TEST_F(ToldRun, AClassDecidesWhatIsPainted) {
  const Recipe recipe = told("labels", R"({"num_class_embeds": 5})");
  expect_colors(recipe, [](size_t i, GenerationRequest& r) { r.class_label = SmallRun::kColors[i].name; });
  const auto model = std::filesystem::path(recipe.output) / "model";
  EXPECT_EQ(read_checkpoint(model).class_names, (std::vector<std::string>{"blue", "green", "red", "yellow"}));
  StableDiffusionPipeline pipeline(model);
  const auto kind = [&](const std::string& label) {
    GenerationRequest request;
    request.steps = 1;
    request.class_label = label;
    return kind_of([&] { pipeline.generate(request); });
  };
  EXPECT_EQ(kind("purple"), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind("5"), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind("4"), std::nullopt);
  EXPECT_EQ(kind(""), std::nullopt);

  Recipe small_table = told("small-table", R"({"num_class_embeds": 4})");
  EXPECT_EQ(kind_of([&] { run_training(small_table); }), ErrorKind::InvalidArgument);
  small_table.diffusion.caption_dropout = 0;  // no row for none
  small_table.steps = 1;
  EXPECT_EQ(kind_of([&] { run_training(small_table); }), std::nullopt);
  StableDiffusionPipeline full_table(std::filesystem::path(small_table.output) / "model");
  GenerationRequest unsaid;
  unsaid.steps = 1;
  EXPECT_EQ(kind_of([&] { full_table.generate(unsaid); }), ErrorKind::InvalidArgument);
}

TEST_F(ToldRun, ASemanticMapDecidesWhatIsPainted) {
  const Recipe recipe = told("maps", R"({"in_channels": 9, "semantic_classes": 5})");
  expect_colors(recipe, [&](size_t i, GenerationRequest& r) {
    r.semantic_map = read_image(*small_ / fmt::format("{}-0-map.png", SmallRun::kColors[i].name));
  });
  StableDiffusionPipeline pipeline(std::filesystem::path(recipe.output) / "model");
  GenerationRequest request;
  request.steps = 1;
  EXPECT_EQ(kind_of([&] { pipeline.generate(request); }), ErrorKind::InvalidArgument);
  request.semantic_map = make_image(16, 16, 1);
  request.semantic_map->pixels.assign(16 * 16, 5);
  EXPECT_EQ(kind_of([&] { pipeline.generate(request); }), ErrorKind::InvalidArgument);
}

TEST_F(ToldRun, BoxesFollowTheCaption) {
  Recipe recipe = told("boxes", "{}");
  recipe.diffusion.boxes = true;
  expect_colors(recipe, [](size_t i, GenerationRequest& r) {
    const LayoutBox box{SmallRun::kColors[i].name, 0.2, 0.2, 0.8, 0.8};
    r.prompt = layout_prompt("", {&box, 1});
  });
}

TEST_F(ConditionRun, ADenoiserWithOtherChannelsIsRefused) {
  Recipe odd = recipe("odd", R"({"in_channels": 8})", 1);  // edits by instruction: no condition of ours
  try {
    run_training(odd);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Unsupported);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("8 input channels for latents of 4"));
  }
}

TEST_F(ConditionRun, ASmallPictureHelpsToRaiseTheResolution) {
  const double without = noisiest(recipe("no-small-picture", "{}", 200));
  const Recipe upscaler = recipe("upscaler", R"({"in_channels": 7, "num_class_embeds": 20,
      "use_linear_projection": true, "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
      "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"]})",
                                 200);
  EXPECT_LT(noisiest(upscaler), 0.3 * without);
  const CheckpointParts written = read_checkpoint(*small_ / "upscaler" / "model");
  EXPECT_EQ(written.variant, "x4-upscaler");
  EXPECT_EQ(written.unet.config.num_class_embeds, 20);
}

/// Narrow networks with random weights in the layout of Stable Diffusion XL.
void write_small_sdxl(const std::filesystem::path& folder, const std::filesystem::path& autoencoder) {
  constexpr int64_t kPooled = 24, kNumber = 4;
  constexpr uint64_t kSeed = 7;
  const Variant& variant = variant_named("sdxl");
  CheckpointParts parts;
  parts.family = variant.family;
  parts.variant = variant.name;
  parts.schedule = variant.schedule;
  parts.vae = read_autoencoder_part(autoencoder);
  parts.unet.config = unet_config("sdxl");
  UNetConfig& unet = parts.unet.config;
  unet.channels = {16, 32};
  unet.attention = {UNetAttention::None, UNetAttention::Cross};
  unet.layers = {1, 1};
  unet.heads = {2, 2};
  unet.transformer_layers = {1, 1};
  unet.only_cross_attention = {false, false};
  unet.norm_num_groups = 8;
  unet.cross_attention_dim = 16 + 32;
  unet.addition_time_embed_dim = kNumber;
  unet.projection_input_dim = kPooled + 6 * kNumber;
  parts.unet.tensors = fresh_tensors<UNet>(unet, kSeed);
  for (const TextVariant& text : variant.text_encoders) {
    const bool second = !parts.text_encoders.empty();
    TextEncoderPart part;
    part.config = {.hidden_size = second ? 32 : 16,
                   .intermediate_size = 32,
                   .layers = 2,
                   .heads = 2,
                   .activation = text.activation,
                   .projection_dim = second ? kPooled : 0,
                   .skip_layers = text.skip_layers,
                   .final_norm = text.final_norm};
    part.padding_id = text.padding_id;
    part.tensors = fresh_tensors<ClipTextModel>(part.config, kSeed);
    parts.text_encoders.push_back(std::move(part));
  }
  save_diffusers_folder(folder, parts);
}

TEST_F(DiffusionRun, SdxlIsTrainedInBucketsAndToldSizes) {
  write_small_sdxl(*small_ / "sdxl", *small_ / "autoencoder" / "model");
  const std::string yaml = R"(
model: diffusion
diffusion: {start: sdxl, text: trained, offset_noise: 0.05, timesteps: {shift: 1.5}}
steps: 4

export_type: f32
optimizer: {name: adafactor, rate: {peak: 1.0e-3}}
report: {samples_every: 2, validation_every: 2, log_every: 1}
checkpoints: {keep: 9}
)";
  const std::string buckets = ", buckets: true, bucket_multiple: 4, last_batch: keep, crop: random";
  expect_same_when_resumed(*small_, yaml, buckets, 1, 3, "-sdxl");
  const CheckpointParts before = read_checkpoint(*small_ / "sdxl"),
                        after = read_checkpoint(*small_ / "whole-sdxl" / "model");
  EXPECT_EQ(after.variant, "sdxl");
  for (const char* name : {"add_embedding.linear_1.weight", "conv_in.weight"}) {
    const Tensor &a = before.unet.tensors.at(name), &b = after.unet.tensors.at(name);
    EXPECT_NE(doubles(a), doubles(b)) << name;
  }
  ASSERT_EQ(after.text_encoders.size(), 2u);
  const char* const table = "text_model.embeddings.position_embedding.weight";
  for (size_t i = 0; i < 2; ++i)
    EXPECT_NE(doubles(before.text_encoders[i].tensors.at(table)),
              doubles(after.text_encoders[i].tensors.at(table)));
}

TEST_F(DiffusionRun, TrainsFurtherFromACheckpoint) {
  const Recipe first = small_->recipe("first", std::string(kSmallDiffusion) + "steps: 3\nexport_type: f32\n");
  run_training(first);
  const Recipe second = small_->recipe("second", R"(
model: diffusion
steps: 2
export_type: f32
diffusion: {start: first/model, text: frozen}
optimizer: {rate: {peak: 1.0e-3}}
)");
  run_training(second);
  const CheckpointParts a = read_checkpoint(*small_ / "first" / "model"),
                        b = read_checkpoint(*small_ / "second" / "model");
  EXPECT_EQ(b.schedule, a.schedule) << "its own prediction";
  EXPECT_EQ(a.schedule.prediction, "sample");
  const auto same = [](const TensorMap& x, const TensorMap& y) {
    int different = 0;
    for (const auto& [name, tensor] : x)
      different += std::memcmp(tensor.raw(), y.at(name).raw(), tensor.bytes()) != 0;
    return different == 0;
  };
  EXPECT_TRUE(same(a.vae.tensors, b.vae.tensors));
  EXPECT_TRUE(same(a.text_encoders[0].tensors, b.text_encoders[0].tensors)) << "frozen";
  EXPECT_FALSE(same(a.unet.tensors, b.unet.tensors));
}

}  // namespace
}  // namespace sinopia
