#include <fstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sinopia/io/image.h"
#include "tests/cli/process.h"

namespace sinopia::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

/// Scenes of one disc or one square on white, with their descriptions, and two prompts that ask for them.
class Evaluate : public ::testing::Test {
 protected:
  Evaluate() {
    std::ofstream scenes(folder / "metadata.jsonl"), prompts(folder / "prompts.jsonl");
    for (int i = 0; i < 4; ++i) {
      const bool disc = i % 2 == 0;
      const int radius = 30 + 3 * i, center = 60 + 2 * i;
      Image image = make_image(128, 128, 3);
      for (int y = 0; y < 128; ++y) {
        for (int x = 0; x < 128; ++x) {
          const int dy = y - center, dx = x - center;
          const bool inside =
              disc ? dx * dx + dy * dy < radius * radius : std::max(std::abs(dx), std::abs(dy)) < radius;
          uint8_t* const pixel = image.pixel(y, x);
          pixel[0] = inside ? 220 : 255;
          pixel[1] = pixel[2] = inside ? 30 : 255;
        }
      }
      const std::string name = fmt::format("{}.png", i);
      write_image(folder / name, image);
      const json object{{"name", disc ? "circle" : "square"},
                        {"colour", "red"},
                        {"natural", false},
                        {"count", 1},
                        {"boxes", {{center - radius, center - radius, center + radius, center + radius}}},
                        {"pictures", {disc ? "circle" : "square"}}};
      const json scene{
          {"kind", "single"}, {"background", "white"}, {"objects", {object}}, {"relations", json::array()}};
      scenes << json{{"file", name}, {"split", i < 2 ? "train" : "validation"}, {"scene", scene}}.dump()
             << "\n";
      if (i > 1) continue;
      json expected = scene;
      expected["objects"][0].erase("boxes");
      expected["objects"][0].erase("pictures");
      prompts << json{{"id", fmt::format("p{}", i)},
                      {"prompt", "a red thing"},
                      {"seen", "train"},
                      {"expect", expected}}
                     .dump()
              << "\n";
    }
  }
  TemporaryFolder folder;
};

TEST_F(Evaluate, ReadsKnownScenes) {
  const Outcome outcome = run({"evaluate", "--sets", folder.path(), "--check-matcher", "validation"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("Noun ranked first: 2 of 2"));
}

// What random weights paint is noise: nothing that was asked for.
TEST_F(Evaluate, ScoresAModelAndWritesWhatItPainted) {
  const std::string model = folder / "model.safetensors", out = folder / "out";
  ASSERT_EQ(run({"init", model}).code, 0);
  const Outcome outcome = run({"evaluate", "-m", model, "--prompts", folder / "prompts.jsonl", "--sets",
                               folder.path(), "-o", out, "-W", "64", "-H", "64", "--steps", "1", "-s", "3"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("2 prompts, seeds from 3"));
  const json report = json::parse(slurp(std::filesystem::path(out) / "report.json"));
  EXPECT_EQ(report["scores"]["total"], 2);
  EXPECT_EQ(report["scores"]["all"]["right"], 0);
  ASSERT_EQ(report["pictures"].size(), 2u);
  EXPECT_EQ(report["pictures"][1]["id"], "p1");
  const Image one = read_image(std::filesystem::path(out) / "p1.png"),
              grid = read_image(std::filesystem::path(out) / "grid.png");
  EXPECT_EQ(grid.width, 2 * one.width + 2);
}

TEST_F(Evaluate, SaysWhatIsWrong) {
  EXPECT_THAT(run({"evaluate", "--sets", folder.path()}).err, HasSubstr("--model is needed"));
  EXPECT_THAT(run({"evaluate", "-m", "x", "--prompts", folder / "none"}).err, HasSubstr("none"));
  EXPECT_THAT(run({"evaluate", "--sets", folder / "none", "--check-matcher", "validation"}).err,
              HasSubstr("none"));
}

}  // namespace
}  // namespace sinopia::testing
