#include <chrono>
#include <csignal>
#include <random>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/process.h"
#include "tests/train/small_run.h"

namespace sinopia::testing {
namespace {

using ::testing::HasSubstr;

constexpr const char* kQuickAutoencoder = R"(
model: autoencoder
steps: 20
autoencoder: {config: vae.json, loss: {perceptual: 0, adversarial: 0}}
optimizer: {rate: {peak: 2.0e-3}}
)";

class Train : public ::testing::Test {
 protected:
  void SetUp() override {
    const Outcome outcome = run({"train", small.recipe_file("autoencoder", kQuickAutoencoder)});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, (small / "autoencoder" / "model").string() + "\n");
  }
  std::string diffusion(const std::string& name, const std::string& more) const {
    return small.recipe_file(name, kSmallDiffusion + more);
  }
  SmallRun small;
};

TEST_F(Train, WritesAModelThatGenerates) {
  const Outcome trained =
      run({"train",
           diffusion("a", "steps: 4\nreport: {validation_every: 2, samples_every: 4, sample_steps: 2}\n")});
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_THAT(trained.err, HasSubstr("step 4/4 100%"));
  EXPECT_THAT(trained.err, HasSubstr("step 4: validation loss"));
  for (const char* file : {"loss.png", "recipe.yaml", "metrics.jsonl", "samples/step-00000004.png"})
    EXPECT_TRUE(std::filesystem::exists(small / "a" / file)) << file;
  const Outcome painted =
      run({"generate", "-m", small / "a" / "model", "-p", "red", "--steps", "2", "-o", small / "red.png"});
  ASSERT_EQ(painted.code, 0) << painted.err;
  EXPECT_EQ(read_image(small / "red.png").width, SmallRun::kSide);
  const Outcome exported = run({"train", small / "a.yaml", "--export", small / "again"});
  ASSERT_EQ(exported.code, 0) << exported.err;
  EXPECT_EQ(SmallRun::sums(small / "again"), SmallRun::sums(small / "a" / "model"));
}

TEST_F(Train, KilledAtAnyTimeItEndsWithTheSameBytes) {
  const std::string more =
      "steps: 40\nreport: {validation_every: 7, samples_every: 0, log_every: 1}\ncheckpoints: {every: 1, "
      "keep: 1}\n";
  ASSERT_EQ(run({"train", "-q", diffusion("whole", more)}).code, 0);
  const std::string recipe = diffusion("parts", more);
  std::mt19937 random(11);
  for (int kills = 0; kills < 5; ++kills) {
    const TemporaryFolder streams;
    Process process({"train", "-q", recipe}, streams.path());
    std::this_thread::sleep_for(std::chrono::milliseconds(300 + random() % 700));
    process.send(SIGKILL);
    process.wait();
  }
  const Outcome last = run({"train", "-q", recipe});
  ASSERT_EQ(last.code, 0) << last.err;
  auto want = SmallRun::sums(small / "whole"), got = SmallRun::sums(small / "parts");
  want.erase("loss.png");  // its title is the folder's name
  got.erase("loss.png");
  EXPECT_EQ(got, want);
  EXPECT_EQ(want.count("checkpoints/step-00000040/unet.safetensors"), 1u);
}

TEST_F(Train, AnInterruptSavesACheckpoint) {
  const std::string recipe = diffusion("a", "steps: 100000\n");
  const TemporaryFolder streams;
  Process process({"train", recipe}, streams.path());
  for (int i = 0; i < 12000 && process.errors().find("step 1/") == std::string::npos; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  process.send(SIGINT);
  const Outcome outcome = process.wait();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("sinopia: cancelled"));
  EXPECT_THAT(outcome.err, HasSubstr("the same command goes on from there"));
  EXPECT_FALSE(std::filesystem::is_empty(small / "a" / "checkpoints"));
  EXPECT_FALSE(std::filesystem::exists(small / "a" / "model"));
}

TEST_F(Train, SaysWhatIsWrong) {
  const auto complaint = [](const std::vector<std::string>& arguments, int code) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    return outcome.err;
  };
  EXPECT_THAT(complaint({"train"}, 2), HasSubstr("a recipe is needed"));
  EXPECT_THAT(complaint({"train", small / "none.yaml"}, 1), HasSubstr("none.yaml"));
  EXPECT_THAT(complaint({"train", diffusion("a", "stpes: 3\n")}, 1), HasSubstr("unknown field stpes"));
  EXPECT_THAT(complaint({"train", diffusion("a", ""), "--export", small / "m"}, 1),
              HasSubstr("no checkpoint"));
  EXPECT_THAT(complaint({"train", diffusion("a", ""), "--stop-at", "0"}, 2), HasSubstr("--stop-at"));
  const Outcome printed = run({"train", "--print-recipe"});
  EXPECT_EQ(printed.code, 0);
  EXPECT_THAT(printed.out, HasSubstr("# Optimizer steps in all."));
}

}  // namespace
}  // namespace sinopia::testing
