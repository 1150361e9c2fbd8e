#include <cmath>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "models.h"
#include "sinopia/pipelines/stable_diffusion_pipeline.h"

namespace sinopia::testing {
namespace {

using Json = nlohmann::json;

// Of the largest value. Sums in another order make some 5e-6 of 8 steps, each through networks of some 1e-6.
constexpr double kLatentTolerance = 3e-5;
constexpr double kMaxPixelsOff = 0.001;

const Json& manifest() {
  static const Json kManifest = Json::parse(std::ifstream(golden("pipelines/pipelines.json")));
  return kManifest;
}

const TensorFile& pictures() {
  static const TensorFile kPictures = read_safetensors(golden("pipelines/pictures.safetensors"));
  return kPictures;
}

GenerationRequest request_of(const Json& c) {
  GenerationRequest r;
  r.prompt = c["prompt"];
  r.negative_prompt = c["negative"];
  r.truncate = true;
  r.steps = c["steps"];
  r.cfg_scale = c["cfg"];
  r.guidance_rescale = c["rescale"];
  r.seed = c["seed"];
  r.batch_count = c["batch"];
  r.sampler = c["sampler"];
  if (!c["eta"].is_null()) r.eta = c["eta"];
  if (!c["clip_skip"].is_null()) r.clip_skip = c["clip_skip"].get<int>() + 1;  // diffusers counts from 0
  if (c["mode"] == "image") {
    r.width = 96, r.height = 72;
  } else {
    r.width = c["width"], r.height = c["height"];
  }
  if (c["mode"] != "text") {
    r.init_image = read_image(golden("pipelines/picture.png"));
    r.strength = c["strength"];
  }
  if (c["mode"] == "paint") r.mask = read_image(golden("pipelines/mask.png"));
  r.keep_latents = true;
  return r;
}

void expect_latents(const GenerationResult& result, const Tensor& want) {
  double worst = 0, largest = 0;
  for (size_t i = 0; i < result.latents.size(); ++i) {
    const Tensor one = want.slice(static_cast<int64_t>(i), static_cast<int64_t>(i) + 1);
    ASSERT_EQ(result.latents[i].shape(), one.shape());
    for (int64_t k = 0; k < one.numel(); ++k) {
      worst = std::max(worst, std::abs(double{result.latents[i].data<float>()[k]} - one.data<float>()[k]));
      largest = std::max(largest, std::abs(double{one.data<float>()[k]}));
    }
  }
  ::testing::Test::RecordProperty("latent", std::to_string(worst / largest));
  EXPECT_LE(worst / largest, kLatentTolerance);
}

void expect_pictures(const GenerationResult& result, const Tensor& want) {
  ASSERT_EQ(static_cast<int64_t>(result.images.size()), want.dim(0));
  int64_t off = 0, changed = 0, count = 0;
  const uint8_t* expected = want.data<uint8_t>();
  for (const Image& image : result.images) {
    ASSERT_EQ(image.height, want.dim(1));
    ASSERT_EQ(image.width, want.dim(2));
    for (const uint8_t pixel : image.pixels) {
      const int difference = std::abs(int{pixel} - int{*expected++});
      off += difference > 1;
      changed += difference > 0;
      ++count;
    }
  }
  ::testing::Test::RecordProperty("changed",
                                  std::to_string(static_cast<double>(changed) / static_cast<double>(count)));
  EXPECT_LE(static_cast<double>(off), kMaxPixelsOff * static_cast<double>(count));
}

class GoldenPicture : public ::testing::TestWithParam<size_t> {
 protected:
  const Json& data() const { return manifest()["cases"][GetParam()]; }
  void check(const std::filesystem::path& path) const {
    const std::string name = data()["name"];
    StableDiffusionPipeline pipeline(path);
    const GenerationResult result = pipeline.generate(request_of(data()));
    expect_latents(result, pictures().tensors.at(name + ".latents"));
    expect_pictures(result, pictures().tensors.at(name + ".images"));
  }
};

class GoldenPictureOfAFolder : public GoldenPicture {};
class GoldenPictureOfASingleFile : public GoldenPicture {};

TEST_P(GoldenPictureOfAFolder, IsTheReferences) {
  const TemporaryFolder folder;
  std::filesystem::copy(model(data()["model"]), folder / "model", std::filesystem::copy_options::recursive);
  std::ofstream(folder / "model/tokenizer/tokenizer_config.json") << Json{{"pad_token", data()["pad_token"]}};
  if (data().contains("scheduler_config"))
    std::ofstream(folder / "model/scheduler/scheduler_config.json")
        << data()["scheduler_config"].get<std::string>();
  check(folder / "model");
}

TEST_P(GoldenPictureOfASingleFile, IsTheReferences) {
  const TemporaryFolder folder;
  check(single_file(data()["model"], folder));
}

std::vector<size_t> cases_where(const std::function<bool(const Json&)>& wanted) {
  std::vector<size_t> cases;
  for (size_t i = 0; i < manifest()["cases"].size(); ++i)
    if (wanted(manifest()["cases"][i])) cases.push_back(i);
  return cases;
}

std::string name_of(const ::testing::TestParamInfo<size_t>& info) {
  std::string name = manifest()["cases"][info.param]["name"];
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Diffusers, GoldenPictureOfAFolder,
                         ::testing::ValuesIn(cases_where([](const Json&) { return true; })), name_of);
// A single file has the scheduler of its family, not one of its own.
INSTANTIATE_TEST_SUITE_P(Diffusers, GoldenPictureOfASingleFile,
                         ::testing::ValuesIn(cases_where([](const Json& data) {
                           return !data.contains("scheduler_config");
                         })),
                         name_of);

}  // namespace
}  // namespace sinopia::testing
