#include "sinopia/text/prompt.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/base/error.h"

namespace sinopia {

bool operator==(const ScheduledText& a, const ScheduledText& b) {
  return a.last_step == b.last_step && a.text == b.text;
}
bool operator==(const PromptPiece& a, const PromptPiece& b) {
  return a.text == b.text && a.weight == b.weight && a.chunk_break == b.chunk_break;
}
bool operator==(const SubPrompt& a, const SubPrompt& b) { return a.weight == b.weight && a.text == b.text; }
void PrintTo(const ScheduledText& text, std::ostream* os) {
  *os << text.last_step << ":'" << text.text << "'";
}
void PrintTo(const PromptPiece& piece, std::ostream* os) {
  *os << (piece.chunk_break ? "BREAK" : "'" + piece.text + "'") << "*" << piece.weight;
}
void PrintTo(const SubPrompt& part, std::ostream* os) { *os << part.weight << "*'" << part.text << "'"; }

namespace {

using ::testing::ElementsAre;

template <class F>
void expect_invalid(F f) {
  try {
    f();
    ADD_FAILURE() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::InvalidArgument) << error.what();
  }
}

std::string repeated(std::string_view text, size_t count) {
  std::string result;
  for (size_t i = 0; i < count; ++i) result += text;
  return result;
}

std::string power_of_ten(size_t exponent) {
  std::string digits(exponent + 1, '0');
  digits[0] = '1';
  return digits;
}

TEST(Comments, RunToTheEndOfTheLine) {
  EXPECT_EQ(strip_comments("a cat"), "a cat");
  EXPECT_EQ(strip_comments("a cat # tabby\non a mat"), "a cat \non a mat");
  EXPECT_EQ(strip_comments("a\n# whole line\nb"), "a\nb");
  EXPECT_EQ(strip_comments("# first\nb"), "\nb");
  EXPECT_EQ(strip_comments("a\n#x\n#y\nb"), "a\n\nb");
  EXPECT_EQ(strip_comments("a #"), "a \n");
  EXPECT_EQ(strip_comments("\\# is no escape"), "\\\n");
  EXPECT_EQ(strip_comments(""), "");
}

TEST(ExtraNetworks, AreTakenOut) {
  const Prompt prompt =
      parse_prompt("a <lora:Ink:0.5:te=0.25>cat<hypernet:h:1> on <b:>a <mat> <: x> <lora:open");
  ASSERT_EQ(prompt.extra_networks.size(), 2u);
  EXPECT_EQ(prompt.extra_networks[0].kind, "lora");
  EXPECT_THAT(prompt.extra_networks[0].positional, ElementsAre("Ink", "0.5"));
  EXPECT_EQ(prompt.extra_networks[0].named, (std::map<std::string, std::string>{{"te", "0.25"}}));
  EXPECT_EQ(prompt.extra_networks[1].kind, "hypernet");
  EXPECT_THAT(prompt.subprompts, ElementsAre(SubPrompt{1.0, "a cat on <b:>a <mat> <: x> <lora:open"}));
}

TEST(ExtraNetworks, OnlyOneEqualsSignNames) {
  const Prompt prompt = parse_prompt("<lora:a=b=c:=:x=>");
  EXPECT_THAT(prompt.extra_networks[0].positional, ElementsAre("a=b=c"));
  EXPECT_EQ(prompt.extra_networks[0].named, (std::map<std::string, std::string>{{"", ""}, {"x", ""}}));
}

LoraReference lora(const std::string& text) {
  return lora_reference(parse_prompt(text).extra_networks.at(0));
}

TEST(Lora, WeightsDefaultToEachOther) {
  const auto weights = [](const std::string& text) {
    return std::pair(lora(text).text_encoder, lora(text).unet);
  };
  EXPECT_EQ(lora("<lora:my style>").name, "my style");
  EXPECT_EQ(weights("<lora:a>"), std::pair(1.0, 1.0));
  EXPECT_EQ(weights("<lora:a:0.5>"), std::pair(0.5, 0.5));
  EXPECT_EQ(weights("<lora:a:.5:-2>"), std::pair(0.5, -2.0));
  EXPECT_EQ(weights("<lora:a:unet=0>"), std::pair(1.0, 0.0));
  EXPECT_EQ(weights("<lora:a:te=0>"), std::pair(0.0, 0.0));
  EXPECT_EQ(weights("<lora:a:1:2:unet=3:te= +4 >"), std::pair(4.0, 3.0));
}

TEST(Lora, RefusesBadNamesAndWeights) {
  for (const char* text :
       {"<lora:../../x:1>", "<lora:/etc/passwd>", "<lora:a\\b>", "<lora:..>", "<lora:.>", "<lora::1>",
        "<lora:te=1>", "<lora:a:b>", "<lora:a:nan>", "<lora:a:inf>", "<lora:a:1e999>", "<lora:a:>",
        "<lora:a:1:2x>", "<lora:a:te=>", "<lora:a\nb:1>", "<lora:a:+-1>"}) {
    SCOPED_TRACE(text);
    expect_invalid([&] { lora(text); });
  }
  expect_invalid([] { lora_reference({"lora", {std::string("a\0b", 3)}, {}}); });
}

TEST(And, SplitsAtTheWordAndReadsWeights) {
  const auto parts = [](const std::string& text) { return parse_prompt(text).subprompts; };
  EXPECT_THAT(parts("a cat AND a dog"), ElementsAre(SubPrompt{1, "a cat"}, SubPrompt{1, " a dog"}));
  EXPECT_THAT(parts("a cat :1.2 AND a dog:-.5AND x AND y : +2. \n"),
              ElementsAre(SubPrompt{1.2, "a cat"}, SubPrompt{1, " a dog:-.5AND x"}, SubPrompt{2, " y"}));
  EXPECT_THAT(parts("sand AND_b BAND AND1 \xC3\xA9"
                    "AND"),
              ElementsAre(SubPrompt{1,
                                    "sand AND_b BAND AND1 \xC3\xA9"
                                    "AND"}));
  EXPECT_THAT(parts("(AND)"), ElementsAre(SubPrompt{1, "("}, SubPrompt{1, ")"}));
  EXPECT_THAT(parts("AND"), ElementsAre(SubPrompt{1, ""}, SubPrompt{1, ""}));
  EXPECT_THAT(parts("a :1 :2"), ElementsAre(SubPrompt{2, "a :1"}));
  EXPECT_THAT(parts(""), ElementsAre(SubPrompt{1, ""}));
  EXPECT_THAT(parts("   "), ElementsAre(SubPrompt{1, ""}));
  EXPECT_THAT(parts(":3"), ElementsAre(SubPrompt{3, ""}));
}

TEST(And, LeavesWhatIsNoFiniteNumber) {
  const std::string large = power_of_ten(39), too_large = power_of_ten(400);
  for (const std::string& text : {std::string("a:nan"), std::string("a:inf"), std::string("a:1e39"),
                                  std::string("a:"), std::string("a:--1"), std::string("a:1.2.3"),
                                  std::string("a:."), "a:" + too_large, std::string("a:1 2")}) {
    EXPECT_THAT(parse_prompt(text).subprompts, ElementsAre(SubPrompt{1, text}));
  }
  EXPECT_EQ(parse_prompt("a:" + large).subprompts[0].weight, 1e39);
}

std::vector<ScheduledText> schedule(std::string_view text) { return resolve_schedule(text, 10); }

TEST(Schedule, SwitchesAtAStep) {
  EXPECT_THAT(schedule("oil"), ElementsAre(ScheduledText{10, "oil"}));
  EXPECT_THAT(schedule(""), ElementsAre(ScheduledText{10, ""}));
  EXPECT_THAT(schedule("a [b:c:0.5] d"), ElementsAre(ScheduledText{5, "a b d"}, ScheduledText{10, "a c d"}));
  EXPECT_THAT(schedule("a [fox:owl:3] d"),
              ElementsAre(ScheduledText{3, "a fox d"}, ScheduledText{10, "a owl d"}));
  EXPECT_THAT(schedule("a [owl: 4 ]"), ElementsAre(ScheduledText{4, "a "}, ScheduledText{10, "a owl"}));
  EXPECT_THAT(schedule("[fox::.29]"), ElementsAre(ScheduledText{2, "fox"}, ScheduledText{10, ""}));
  EXPECT_THAT(schedule("[ a : b :2]"), ElementsAre(ScheduledText{2, " a "}, ScheduledText{10, " b "}));
  EXPECT_THAT(schedule("[::3]"), ElementsAre(ScheduledText{3, ""}, ScheduledText{10, ""}));
  EXPECT_THAT(schedule("[1:2:3]"), ElementsAre(ScheduledText{3, "1"}, ScheduledText{10, "2"}));
}

TEST(Schedule, ReadsTheNumberAsAStepOrAFraction) {
  EXPECT_THAT(schedule("[a:b:1]"), ElementsAre(ScheduledText{1, "a"}, ScheduledText{10, "b"}));
  EXPECT_THAT(schedule("[a:b:1.]"), ElementsAre(ScheduledText{10, "a"}));
  EXPECT_THAT(schedule("[a:b:1e1]"), ElementsAre(ScheduledText{10, "a"}));
  EXPECT_THAT(schedule("[a:b:0.05]"), ElementsAre(ScheduledText{10, "b"}));
  EXPECT_THAT(schedule("[a:b:0]"), ElementsAre(ScheduledText{10, "b"}));
  EXPECT_THAT(schedule("[a:b:-3]"), ElementsAre(ScheduledText{10, "b"}));
  EXPECT_THAT(schedule("[a:b:+3]"), ElementsAre(ScheduledText{3, "a"}, ScheduledText{10, "b"}));
  EXPECT_THAT(schedule("[a:b:99]"), ElementsAre(ScheduledText{10, "a"}));
  EXPECT_THAT(schedule("[a:b:1e300]"), ElementsAre(ScheduledText{10, "a"}));
  for (const char* text :
       {"[a:b:1e999]", "[a:b:nan]", "[a:b:inf]", "[a:b:]", "[a:b:- 3]", "[a:b:3 4]", "[a:b:0x3]", "[a:b:c:3]",
        "[a:3:b]", "[a:(3)]", "[a:b:3", "(a:b:3]", "[a:b:3)", "[a:b:3\\]"}) {
    EXPECT_THAT(schedule(text), ElementsAre(ScheduledText{10, text}));
  }
}

TEST(Schedule, CountsOnInTheSecondPass) {
  const auto second = [](std::string_view text) { return resolve_schedule(text, 10, 20); };
  EXPECT_THAT(second("[a:b:.5]"), ElementsAre(ScheduledText{10, "b"}));
  EXPECT_THAT(second("[a:b:1.5]"), ElementsAre(ScheduledText{5, "a"}, ScheduledText{10, "b"}));
  EXPECT_THAT(second("[a:b:15]"), ElementsAre(ScheduledText{10, "b"}));
  EXPECT_THAT(second("[a:b:23]"), ElementsAre(ScheduledText{3, "a"}, ScheduledText{10, "b"}));
}

TEST(Schedule, Nests) {
  EXPECT_THAT(schedule("x[a:[b:c:6]:2]y"),
              ElementsAre(ScheduledText{2, "xay"}, ScheduledText{6, "xby"}, ScheduledText{10, "xcy"}));
  EXPECT_THAT(schedule("[(warm:1.3) light:[[cold]]:4]"),
              ElementsAre(ScheduledText{4, "(warm:1.3) light"}, ScheduledText{10, "[[cold]]"}));
  EXPECT_THAT(schedule("([a:b:4]:1.2)"),
              ElementsAre(ScheduledText{4, "(a:1.2)"}, ScheduledText{10, "(b:1.2)"}));
  // A switch within the text that is not shown still cuts the steps.
  EXPECT_THAT(schedule("[[a:b:2]::1]"),
              ElementsAre(ScheduledText{1, "a"}, ScheduledText{2, ""}, ScheduledText{10, ""}));
  EXPECT_THAT(schedule("[a\\:b:c\\]:2]"), ElementsAre(ScheduledText{2, "a\\:b"}, ScheduledText{10, "c\\]"}));
}

TEST(Schedule, Alternates) {
  EXPECT_THAT(resolve_schedule("[a|b]", 5),
              ElementsAre(ScheduledText{1, "a"}, ScheduledText{2, "b"}, ScheduledText{3, "a"},
                          ScheduledText{4, "b"}, ScheduledText{5, "a"}));
  EXPECT_THAT(resolve_schedule("[wo||]man", 4),
              ElementsAre(ScheduledText{1, "woman"}, ScheduledText{2, "man"}, ScheduledText{3, "man"},
                          ScheduledText{4, "woman"}));
  EXPECT_THAT(resolve_schedule("[[a|b]:c:2]", 3),
              ElementsAre(ScheduledText{1, "a"}, ScheduledText{2, "b"}, ScheduledText{3, "c"}));
  EXPECT_THAT(resolve_schedule("[a|[b:c:2]|(d:1.2)]", 3),
              ElementsAre(ScheduledText{1, "a"}, ScheduledText{2, "b"}, ScheduledText{3, "(d:1.2)"}));
}

TEST(Schedule, LeavesUnbalancedBracketsAndKeepsWhatIsInside) {
  EXPECT_THAT(schedule("a [loose"), ElementsAre(ScheduledText{10, "a [loose"}));
  EXPECT_THAT(schedule("((x][:y:z [d:3]"),
              ElementsAre(ScheduledText{3, "((x][:y:z "}, ScheduledText{10, "((x][:y:z d"}));
  EXPECT_THAT(schedule("[u (v] [a:b:3] w)"),
              ElementsAre(ScheduledText{3, "[u (v] a w)"}, ScheduledText{10, "[u (v] b w)"}));
  EXPECT_THAT(schedule("[a:b:c:[d:e:3]:4]"),
              ElementsAre(ScheduledText{3, "[a:b:c:d:4]"}, ScheduledText{10, "[a:b:c:e:4]"}));
}

TEST(Schedule, OneStrayBarOrBackslashMakesAllOfItLiteral) {
  for (const char* text : {"a | b [c:d:3]", "[c:d:3] (a|b)", "[a|b:c:3] [d:e:3]", "[c:d:3] [a|b", "[c:d:3]\\",
                           "[c:d:3]\\\nx", "[a|b:3]"}) {
    EXPECT_THAT(schedule(text), ElementsAre(ScheduledText{10, text}));
  }
  EXPECT_THAT(schedule("a \\| b [c:d:3]"),
              ElementsAre(ScheduledText{3, "a \\| b c"}, ScheduledText{10, "a \\| b d"}));
}

TEST(Schedule, RefusesNoStepsAndTooMuchText) {
  expect_invalid([] { resolve_schedule("a", 0); });
  expect_invalid([] { resolve_schedule("a", -1); });
  expect_invalid([] { resolve_schedule("[a|b]", std::numeric_limits<int>::max()); });
  expect_invalid([] { resolve_schedule(repeated("[a|b] ", 200000), 1000); });
  EXPECT_EQ(resolve_schedule("[a:b:.5]", std::numeric_limits<int>::max()).size(), 2u);
}

const float kUp = 1.1f, kDown = static_cast<float>(1 / 1.1);

TEST(Attention, WeighsBrackets) {
  EXPECT_THAT(parse_attention("plain"), ElementsAre(PromptPiece{"plain", 1}));
  EXPECT_THAT(parse_attention("a (b) [c]"), ElementsAre(PromptPiece{"a ", 1}, PromptPiece{"b", kUp},
                                                        PromptPiece{" ", 1}, PromptPiece{"c", kDown}));
  EXPECT_THAT(parse_attention("(b:1.5)(c: -.5 )"),
              ElementsAre(PromptPiece{"b", 1.5f}, PromptPiece{"c", -0.5f}));
  EXPECT_THAT(parse_attention("((a:2) b:3)"), ElementsAre(PromptPiece{"a", 6}, PromptPiece{" b", 3}));
  EXPECT_THAT(parse_attention("((x))"), ElementsAre(PromptPiece{"x", static_cast<float>(1.1 * 1.1)}));
  EXPECT_THAT(parse_attention("([x])"), ElementsAre(PromptPiece{"x", static_cast<float>((1 / 1.1) * 1.1)}));
  EXPECT_THAT(parse_attention("[a:1.5]"), ElementsAre(PromptPiece{"a:1.5", kDown}));
}

TEST(Attention, MergesEqualWeights) {
  EXPECT_THAT(parse_attention("a(b:1)c"), ElementsAre(PromptPiece{"abc", 1}));
  EXPECT_THAT(parse_attention("(a)(b)"), ElementsAre(PromptPiece{"ab", kUp}));
  EXPECT_THAT(parse_attention(""), ElementsAre(PromptPiece{"", 1}));
  EXPECT_THAT(parse_attention("()"), ElementsAre(PromptPiece{"", 1}));
}

TEST(Attention, Escapes) {
  EXPECT_THAT(parse_attention("\\(a\\) \\[b\\] \\\\ c\\d\\"), ElementsAre(PromptPiece{"(a) [b] \\ cd", 1}));
  EXPECT_THAT(parse_attention("(a\\):1.5)"), ElementsAre(PromptPiece{"a)", 1.5f}));
  EXPECT_THAT(parse_attention("\\\\(a)"), ElementsAre(PromptPiece{"\\", 1}, PromptPiece{"a", kUp}));
}

TEST(Attention, BracketsThatDoNotMatch) {
  EXPECT_THAT(parse_attention("a (b c"), ElementsAre(PromptPiece{"a ", 1}, PromptPiece{"b c", kUp}));
  EXPECT_THAT(parse_attention("a [b c"), ElementsAre(PromptPiece{"a ", 1}, PromptPiece{"b c", kDown}));
  EXPECT_THAT(parse_attention("a) b] c:1.2) d"), ElementsAre(PromptPiece{"a) b] c:1.2) d", 1}));
  EXPECT_THAT(parse_attention("(a[b)c]"),
              ElementsAre(PromptPiece{"a", kUp}, PromptPiece{"b", static_cast<float>(1.1 * (1 / 1.1))},
                          PromptPiece{"c", kDown}));
}

TEST(Attention, WhatIsNoFiniteNumberIsText) {
  for (const std::string number : {"nan", "inf", "1e39", "1.2.3", ".", "", "+", "--1", "1,5", "1 2"}) {
    EXPECT_THAT(parse_attention("(a:" + number + ")"), ElementsAre(PromptPiece{"a:" + number, kUp}));
  }
  const std::string too_large = power_of_ten(400), large = power_of_ten(39);
  EXPECT_THAT(parse_attention("(a:" + too_large + ")"), ElementsAre(PromptPiece{"a:" + too_large, kUp}));
  EXPECT_THAT(parse_attention("(a:-1)"), ElementsAre(PromptPiece{"a", -1}));
  EXPECT_THAT(parse_attention("(a:0)"), ElementsAre(PromptPiece{"a", 0}));
  const float most = std::numeric_limits<float>::max();
  EXPECT_THAT(parse_attention("(a:" + large + ")"), ElementsAre(PromptPiece{"a", most}));
  EXPECT_THAT(parse_attention("((a:-" + large + "):" + large + ")"), ElementsAre(PromptPiece{"a", -most}));
}

TEST(Attention, BreakEndsAChunk) {
  const PromptPiece cut{"", 1, true};
  EXPECT_THAT(parse_attention("a BREAK b"), ElementsAre(PromptPiece{"a", 1}, cut, PromptPiece{"b", 1}));
  EXPECT_THAT(parse_attention("BREAK"), ElementsAre(PromptPiece{"", 1}, cut, PromptPiece{"", 1}));
  EXPECT_THAT(parse_attention("a\n BREAK  BREAK\tb"),
              ElementsAre(PromptPiece{"a", 1}, cut, PromptPiece{"", 1}, cut, PromptPiece{"b", 1}));
  EXPECT_THAT(parse_attention("(a BREAK b:2)"), ElementsAre(PromptPiece{"a", 2}, cut, PromptPiece{"b", 2}));
  EXPECT_THAT(parse_attention("BREAKS break xBREAK BREAK_"),
              ElementsAre(PromptPiece{"BREAKS break xBREAK BREAK_", 1}));
  EXPECT_THAT(parse_attention("(BREAK:-1)"), ElementsAre(PromptPiece{"", -1}, cut, PromptPiece{"", -1}));
}

TEST(Attention, BracketsBeyondTheDepthLimitAreText) {
  const size_t depth = kMaxAttentionDepth;
  const auto at = parse_attention(repeated("(", depth) + "x" + repeated(")", depth));
  ASSERT_EQ(at.size(), 1u);
  EXPECT_EQ(at[0].text, "x");
  EXPECT_NEAR(at[0].weight / std::pow(1.1, static_cast<double>(depth)), 1, 1e-6);
  const auto beyond = parse_attention(repeated("(", depth + 2) + "x" + repeated(")", depth + 2) + "y");
  ASSERT_EQ(beyond.size(), 2u);
  EXPECT_EQ(beyond[0].text, "((x))");
  EXPECT_EQ(beyond[0].weight, at[0].weight);
  EXPECT_EQ(beyond[1], (PromptPiece{"y", 1}));
}

// Each of these is hours of work, or the end of the stack, for a careless parser.
TEST(HostilePrompts, AreReadInLinearTime) {
  constexpr size_t kMany = 100000;
  std::vector<std::string> texts;
  for (const char* open :
       {"(",      "[",        "([",    "<", "<a:", "[a:",     "(a:",   "[a|", "\\",       "#\n",
        "BREAK ", "AND ",     " ",     ":", ": ",  "[a:b:3]", "[a|b:", "(a",  "\xCC\x81", "\xF0\x9F\x98\x80",
        "\xFF",   "\xD7\x90", "[a:b:3"}) {
    texts.push_back(repeated(open, kMany));
  }
  texts.push_back(repeated("(", kMany) + "x" + repeated(")", kMany));
  texts.push_back(repeated("(a", kMany) + repeated(":1.1)", kMany));
  texts.push_back(repeated("[", kMany) + "x" + repeated("]", kMany));
  texts.push_back(repeated("[a:", kMany) + repeated(":3]", kMany));
  texts.push_back(repeated("[", kMany) + repeated("|a]", kMany));
  texts.push_back(repeated("(", 256) + repeated("\\(", 500000));
  texts.push_back(repeated("a ", 500000));
  texts.push_back(std::string(1 << 20, '\0'));
  for (const std::string& text : texts) {
    SCOPED_TRACE(text.substr(0, 8));
    const Prompt prompt = parse_prompt(text);
    EXPECT_FALSE(prompt.subprompts.empty());
    const auto schedules = resolve_schedule(text, 10);
    EXPECT_EQ(schedules.back().last_step, 10);
    for (const PromptPiece& piece : parse_attention(text)) EXPECT_TRUE(std::isfinite(piece.weight));
  }
}

TEST(HostilePrompts, KeepTheirMeaning) {
  constexpr size_t kMany = 100000;
  EXPECT_EQ(schedule(repeated("[", kMany) + "a:b:3]")[0].text, repeated("[", kMany - 1) + "a");
  EXPECT_EQ(schedule(repeated("[", kMany) + "x" + repeated(":0]", kMany))[0].text, "x");
  EXPECT_EQ(schedule(repeated("[", kMany) + "x" + repeated("|y]", kMany))[1].text, "y");
  EXPECT_EQ(parse_attention(repeated("(", kMany))[0].text, repeated("(", kMany - kMaxAttentionDepth));
  EXPECT_EQ(parse_prompt(std::string("a\0b AND \xFF :2", 12)).subprompts[1], (SubPrompt{2, " \xFF"}));
}

}  // namespace
}  // namespace sinopia
