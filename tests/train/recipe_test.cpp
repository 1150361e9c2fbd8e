#include "sinopia/train/recipe/recipe.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/base/error.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

constexpr const char* kAutoencoder = R"(
model: autoencoder
steps: 300
data:
  paths: [pictures, more.jsonl]
  crop: random
  flip: 0.5
autoencoder:
  config: vae.json
  loss: {perceptual: 0, feature_matching: 1, adversarial_from: 100}
optimizer:
  rate: {peak: 2e-4, shape: cosine, warmup_steps: 10}
)";

std::string message_of(std::string_view text) {
  try {
    parse_recipe(text, "r.yaml");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Recipe, ReadsYaml) {
  const Recipe r = parse_recipe(kAutoencoder, "r.yaml");
  EXPECT_EQ(r.model, TrainedModel::Autoencoder);
  EXPECT_EQ(r.steps, 300);
  EXPECT_THAT(r.data.paths, ElementsAre("pictures", "more.jsonl"));
  EXPECT_EQ(r.data.crop, Cropping::Random);
  EXPECT_EQ(r.data.flip, 0.5);
  EXPECT_EQ(r.autoencoder.loss.feature_matching, 1);
  EXPECT_EQ(r.autoencoder.loss.adversarial_from, 100);
  EXPECT_EQ(r.autoencoder.loss.l1, 1) << "the default";
  EXPECT_EQ(r.optimizer.rate.shape, RateShape::Cosine);
  EXPECT_EQ(r.optimizer.rate.peak, 2e-4);
  EXPECT_FALSE(r.optimizer.beta1);
}

TEST(Recipe, ReadsJson) {
  const Recipe r = parse_recipe(
      R"({"model": "diffusion", "data": {"paths": "pictures"}, "diffusion": {"start": "m.safetensors",
          "prediction": "v_prediction", "objective": {"weighting": {"kind": "min_snr"}}}})",
      "r.json");
  EXPECT_THAT(r.data.paths, ElementsAre("pictures"));
  EXPECT_EQ(r.diffusion.prediction, PredictionChoice::V);
  EXPECT_EQ(r.diffusion.objective.weighting.kind, LossWeighting::MinSnr);
}

TEST(Recipe, SurvivesBeingWritten) {
  Recipe r = parse_recipe(kAutoencoder, "r.yaml");
  r.optimizer.rate.peak = 0.1 + 0.2;
  r.report.prompts = {"a \"red\" apple: big", "# no comment", "红苹果"};
  r.output = "a folder\nwith everything";
  const std::string text = recipe_to_yaml(r);
  const Recipe again = parse_recipe(text, "again");
  EXPECT_EQ(recipe_to_yaml(again), text);
  EXPECT_EQ(again.optimizer.rate.peak, 0.1 + 0.2);
  EXPECT_EQ(again.report.prompts, r.report.prompts);
  EXPECT_EQ(again.output, r.output);
}

TEST(Recipe, DocumentedOneHasEveryFieldAndReads) {
  const std::string text = documented_recipe();
  EXPECT_THAT(text, HasSubstr("# The learning rate after the warm-up."));
  EXPECT_THAT(message_of(text), HasSubstr("data.paths is needed"));
  const std::string usable = recipe_to_yaml(parse_recipe(kAutoencoder, "r"));
  size_t fields = 0, plain = 0;
  for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; ++at) {
    const size_t first = text.find_first_not_of(" ", at + 1);
    fields += first != std::string::npos && text[first] != '#' && text[first] != '\n';
  }
  for (const char c : recipe_to_yaml({})) plain += c == '\n';
  EXPECT_EQ(fields, plain);
}

TEST(Recipe, OddTextIsRefusedNotFollowed) {
  for (const std::string& text :
       {std::string(200000, '['), std::string(200000, '{'), std::string("\xff\xfe\x00x", 4),
        std::string(1, '\0'), std::string("&a [*a]"), std::string("{? {a: b} : c}"),
        std::string("data: &d {paths: *d}"), std::string("!!python/object:os.system x"),
        std::string("--- a\n--- b"), std::string("<<: {steps: 3}"),
        std::string("steps: !!str 3\ndata: {paths: [[a]]}"), std::string("\t\t- :")})
    EXPECT_THROW(parse_recipe(text, "odd"), Error) << text.substr(0, 40);
}

struct Refusal {
  const char* text;
  const char* message;
};

TEST(Recipe, RefusesWithLineAndField) {
  const Refusal cases[] = {
      {"model: autoencoder\nstep: 3", "r.yaml:2: unknown field step; there are model, output"},
      {"data:\n  paths: [a]\n  widht: 3", "r.yaml:3: unknown field data.widht; there are paths, split"},
      {"model: unet", "r.yaml:1: model: no 'unet'; one of autoencoder, diffusion"},
      {"steps: 0", "r.yaml:1: steps: expected 1 to"},
      {"steps: 1.5", "r.yaml:1: steps: expected a whole number, got '1.5'"},
      {"steps: [1]", "r.yaml:1: steps: expected a whole number, got a list"},
      {"steps: 99999999999999999999", "r.yaml:1: steps: expected a whole number"},
      {"data: 3", "r.yaml:1: expected fields of data, got '3'"},
      {"- 3", "r.yaml:1: expected fields, got a list"},
      {"data: {flip: .nan}", "r.yaml:1: data.flip: expected 0 to 1, got nan"},
      {"data: {buckets: perhaps}", "r.yaml:1: data.buckets: expected true or false, got 'perhaps'"},
      {"steps: 3\nsteps: 4", "r.yaml:2: steps is there twice"},
      {"steps: [1", "r.yaml:"},
      {"", "r.yaml: data.paths is needed"},
      {"data: {paths: a}", "either diffusion.start or diffusion.unet_config is needed"},
      {"model: autoencoder\ndata: {paths: a}", "either autoencoder.start or autoencoder.config is needed"},
      {"model: autoencoder\ndata: {paths: a}\nautoencoder: {config: c}",
       "perceptual needs autoencoder.vgg16"},
      {"data: {paths: a}\ndiffusion: {unet_config: u}", "fresh weights need"},
  };
  for (const Refusal& c : cases) EXPECT_THAT(message_of(c.text), HasSubstr(c.message)) << c.text;
}

TEST(Recipe, PathsAreTakenFromItsFolder) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "r.yaml";
  std::ofstream(file) << "data: {paths: [../a, /b]}\ndiffusion: {start: m.safetensors}\noutput: run\n";
  const Recipe r = read_recipe(file);
  EXPECT_THAT(r.data.paths, ElementsAre((folder.path() / "../a").lexically_normal().string(), "/b"));
  EXPECT_EQ(r.diffusion.start, (folder.path() / "m.safetensors").string());
  EXPECT_EQ(r.output, (folder.path() / "run").string());
  EXPECT_EQ(r.autoencoder.vgg16, "");
  EXPECT_THROW(read_recipe(folder.path() / "none.yaml"), Error);
}

}  // namespace
}  // namespace sinopia
