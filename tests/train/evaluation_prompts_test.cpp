#include "sinopia/train/evaluation/evaluation_prompts.h"

#include <fstream>
#include <map>

#include "tests/reference.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

constexpr const char* kPrompt =
    R"({"id": "01", "prompt": "a red circle", "seen": "train", "expect": {"kind": "single", "background": "white",
 "objects": [{"name": "circle", "colour": "red", "natural": false, "count": 1}], "relations": []}})";

std::string one_line(std::string text) {
  std::erase(text, '\n');
  return text;
}

TEST(EvaluationPrompts, AreReadInOrder) {
  const TemporaryFolder folder;
  std::string other = one_line(kPrompt);
  other.replace(other.find("01"), 2, "two");
  std::ofstream(folder / "p.jsonl") << one_line(kPrompt) << "\n\n" << other << "\n";
  const auto prompts = read_evaluation_prompts(folder / "p.jsonl");
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_EQ(prompts[0].prompt, "a red circle");
  EXPECT_EQ(prompts[0].seen, "train");
  EXPECT_EQ(prompts[1].id, "two");
  ASSERT_EQ(prompts[0].expected.objects.size(), 1u);
  EXPECT_EQ(prompts[0].expected.objects[0].colour, "red");
}

TEST(EvaluationPrompts, OfTheRepositoryAreSixtyFour) {
  const auto prompts = read_evaluation_prompts(std::filesystem::path(SINOPIA_TEST_DATA) /
                                               "../../tools/datasets" / "evaluation_prompts.jsonl");
  EXPECT_EQ(prompts.size(), 64u);
  std::map<std::string, int> kinds;
  for (const EvaluationPrompt& prompt : prompts) ++kinds[prompt.expected.kind];
  EXPECT_EQ(kinds["count"], 16);
  EXPECT_EQ(kinds["relation"], 16);
}

TEST(EvaluationPrompts, RefuseWhatIsBrokenByItsLine) {
  const TemporaryFolder folder;
  const auto message = [&](std::string second) -> std::string {
    std::ofstream(folder / "p.jsonl") << one_line(kPrompt) << "\n" << one_line(std::move(second)) << "\n";
    try {
      read_evaluation_prompts(folder / "p.jsonl");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const auto changed = [](const std::string& from, const std::string& to) {
    std::string text = kPrompt;
    return text.replace(text.find(from), from.size(), to);
  };
  EXPECT_THAT(message(kPrompt), HasSubstr("p.jsonl:2: the id 01 is there twice"));
  EXPECT_THAT(message("{"), HasSubstr("p.jsonl:2"));
  EXPECT_THAT(message("[1]"), HasSubstr("JSON object"));
  EXPECT_THAT(message(changed("\"01\"", "\"../01\"")), HasSubstr("id of letters"));
  EXPECT_THAT(message(changed("\"a red circle\"", "3")), HasSubstr("text under 'prompt'"));
  EXPECT_THAT(message(changed("\"expect\"", "\"expected\"")), HasSubstr("'expect'"));
  EXPECT_THAT(message(changed("\"colour\": \"red\"", "\"colour\": \"reddish\"")), HasSubstr("reddish"));
  EXPECT_THROW(read_evaluation_prompts(folder / "none.jsonl"), Error);
  std::ofstream(folder / "empty.jsonl") << "\n";
  EXPECT_THROW(read_evaluation_prompts(folder / "empty.jsonl"), Error);
}

}  // namespace
}  // namespace sinopia
