#include "sinopia/pipelines/parameters_text.h"

#include <random>

#include <gtest/gtest.h>

#include "sinopia/base/clock.h"

namespace sinopia {
namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;

const Fields kSettings = {{"Steps", "20"}, {"Sampler", "Euler a"}, {"Seed", "1"}};

TEST(ParametersText, IsWrittenAsAutomatic1111Does) {
  EXPECT_EQ(format_parameters({"a fox", "blurry", kSettings}),
            "a fox\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Seed: 1");
  EXPECT_EQ(format_parameters({"a fox", "", kSettings}), "a fox\nSteps: 20, Sampler: Euler a, Seed: 1");
  EXPECT_EQ(
      format_parameters({"x", "", {{"A b", "1,2"}, {"Cc", "d:e"}, {"Ff", "g\nh \"i\""}, {"Jj", "k \"l\""}}}),
      "x\nA b: \"1,2\", Cc: \"d:e\", Ff: \"g\\nh \\\"i\\\"\", Jj: k \"l\"");
}

TEST(ParametersText, ReadsWhatAutomatic1111Writes) {
  const ParametersText read = parse_parameters(
      "line one,\n  line two\nNegative prompt: bad\nworse\n"
      "Steps: 25, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 3, Size: 512x768, Model hash: 6ce0161689, "
      "Lora hashes: \"a: 12, b: 34\", TI hashes: \"x \\\"y\\\": 1\", Version: v1.6.0");
  EXPECT_EQ(read.prompt, "line one,\nline two");
  EXPECT_EQ(read.negative_prompt, "bad\nworse");
  EXPECT_EQ(read.fields, (Fields{{"Steps", "25"},
                                 {"Sampler", "DPM++ 2M Karras"},
                                 {"CFG scale", "7.5"},
                                 {"Seed", "3"},
                                 {"Size", "512x768"},
                                 {"Model hash", "6ce0161689"},
                                 {"Lora hashes", "a: 12, b: 34"},
                                 {"TI hashes", "x \"y\": 1"},
                                 {"Version", "v1.6.0"}}));
}

TEST(ParametersText, TakesTheLastLineForSettingsFromThreeFieldsOn) {
  EXPECT_EQ(parse_parameters("a\nStyle: old, Light: warm").prompt, "a\nStyle: old, Light: warm");
  EXPECT_EQ(parse_parameters("a\nStyle: old, Light: warm, Mood: calm").prompt, "a");
  EXPECT_EQ(parse_parameters("Style: old, Light: warm, Mood: calm").fields.size(), 3u);
  EXPECT_EQ(parse_parameters("a: 1, b: 2, c: 3").fields.size(), 0u);  // names have two letters at least
  EXPECT_TRUE(parse_parameters("").prompt.empty());
}

TEST(ParametersText, QuotesCountOnlyUpToACommaOrTheEnd) {
  const ParametersText read = parse_parameters("Aa: \"x\" y, Bb: \"p, q\", Cc: \"open, Dd: 4, Ee: \"\", Ff:");
  EXPECT_EQ(
      read.fields,
      (Fields{{"Aa", "\"x\" y"}, {"Bb", "p, q"}, {"Cc", "\"open"}, {"Dd", "4"}, {"Ee", ""}, {"Ff", ""}}));
}

TEST(ParametersText, TheLastOfEqualNamesCounts) {
  EXPECT_EQ(parse_parameters("Aa: 1, Aa: 2, Aa: 3").find("Aa"), "3");
  EXPECT_EQ(parse_parameters("Aa: 1, Aa: 2, Aa: 3").find("Bb"), std::nullopt);
}

TEST(ParametersText, AnyPromptComesBackAsItWas) {
  const std::vector<std::string> pieces = {" ",
                                           "\n",
                                           "\r",
                                           "\t",
                                           ",",
                                           ":",
                                           "\"",
                                           "\\",
                                           "Negative prompt:",
                                           "fox",
                                           "Steps: 1, ",
                                           "Ab: 2, ",
                                           "Cd: 3",
                                           "\xc3\xa9",
                                           "\xf0\x9f\xa6\x8a",
                                           "\xc2\xa0",
                                           "Exact prompt: \"no,\"",
                                           "\x1c",
                                           "()"};
  std::mt19937 random(5);
  const auto text = [&] {
    std::string result;
    for (int n = static_cast<int>(random() % 7); n > 0; --n) result += pieces[random() % pieces.size()];
    return result;
  };
  for (int i = 0; i < 5000; ++i) {
    const ParametersText original{text(), text(), kSettings};
    const ParametersText read = parse_parameters(format_parameters(original));
    ASSERT_EQ(read.prompt, original.prompt) << format_parameters(original);
    ASSERT_EQ(read.negative_prompt, original.negative_prompt) << format_parameters(original);
    ASSERT_EQ(read.fields, original.fields) << format_parameters(original);
  }
}

TEST(ParametersText, LongLinesTakeLinearTime) {
  const Stopwatch clock;
  for (const char* unit : {"a", "a ", "ab: \"", "ab: \"\\\"", ": ", "\"", "ab:", "ab: \\,", "\n"}) {
    std::string text;
    while (text.size() < 1000000) text += unit;
    parse_parameters(text);
  }
  EXPECT_LT(clock.seconds(), 20);
}

}  // namespace
}  // namespace sinopia
