#include "sinopia/text/clip_tokenizer.h"

#include <chrono>
#include <random>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <zlib.h>

#include "sinopia/base/error.h"
#include "sinopia/text/chunks.h"

namespace sinopia {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;
using ::testing::ElementsAre;

// transformers' ids, written by tools/golden/text_tokens.py.
const json& golden() {
  static const json values = [] {
    gzFile file = gzopen(SINOPIA_TEST_DATA "/text/clip_tokens.json.gz", "rb");
    std::string text;
    char buffer[65536];
    for (int count; file && (count = gzread(file, buffer, sizeof buffer)) > 0;) {
      text.append(buffer, static_cast<size_t>(count));
    }
    gzclose(file);
    return json::parse(text);
  }();
  return values;
}

void expect_golden(const char* name, ClipSpecialTokens special, size_t count) {
  const ClipTokenizer tokenizer(special);
  ASSERT_EQ(golden()[name].size(), count);
  for (const json& row : golden()[name]) {
    const std::string text = row[0];
    ASSERT_EQ(tokenizer.encode(text), row[1].get<Ids>()) << text;
  }
}

TEST(ClipTokenizer, EqualsTransformersOnRandomTexts) { expect_golden("plain", kPlainClipTokens, 10000); }

TEST(ClipTokenizer, EqualsTransformersOnSpecialTokensOfSd1) { expect_golden("sd1", kSd1ClipTokens, 450); }

TEST(ClipTokenizer, EqualsTransformersOnSpecialTokensOfSd2) { expect_golden("sd2", kSd2ClipTokens, 450); }

std::string utf8(char32_t c) {
  std::string text;
  if (c < 0x80) return {static_cast<char>(c)};
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | ((c >> shift) & 63)); };
  if (c < 0x800) {
    text += static_cast<char>(0xc0 | c >> 6);
  } else if (c < 0x10000) {
    text += static_cast<char>(0xe0 | c >> 12);
    tail(6);
  } else {
    text += static_cast<char>(0xf0 | c >> 18);
    tail(12);
    tail(6);
  }
  tail(0);
  return text;
}

TEST(ClipTokenizer, EqualsTransformersOnEveryCodePoint) {
  const ClipTokenizer tokenizer;
  for (char32_t first = 0; first < 0x110000; first += 4096) {
    uLong sum = crc32(0, nullptr, 0);
    for (char32_t c = first; c < first + 4096; ++c) {
      if (c >= 0xd800 && c < 0xe000) continue;
      const std::string s = utf8(c);
      for (const std::string& text :
           {s, "A" + s + "s " + s + s, "e\xCC\x81" + s + "\xCC\xA3'" + s + "\xCC\x81"}) {  // U+0301, U+0323
        Ids ids = tokenizer.encode(text);
        ids.insert(ids.begin(), static_cast<int32_t>(ids.size()));
        sum = crc32(sum, reinterpret_cast<const Bytef*>(ids.data()),
                    static_cast<uInt>(ids.size() * sizeof ids[0]));
      }
    }
    EXPECT_EQ(sum, golden()["code_points"][first / 4096].get<uLong>()) << "block " << first / 4096;
  }
}

TEST(ClipTokenizer, DecodesAsTransformers) {
  const ClipTokenizer tokenizer;
  ASSERT_EQ(golden()["decode"].size(), 700u);
  for (const json& row : golden()["decode"]) {
    EXPECT_EQ(tokenizer.decode(row[0].get<Ids>()), row[1].get<std::string>()) << row[0];
  }
}

TEST(ClipTokenizer, TruncatesAndPadsAsDiffusers) {
  for (const json& row : golden()["truncated"]) {
    const std::string text = row[0];
    const TokenChunk sd1 = make_truncated_chunk(ClipTokenizer(kSd1ClipTokens), text);
    const TokenChunk sd2 = make_truncated_chunk(ClipTokenizer(kSd2ClipTokens), text, 0);
    EXPECT_EQ(sd1.ids, row[1].get<Ids>()) << text;
    EXPECT_EQ(sd2.ids, row[2].get<Ids>()) << text;
    EXPECT_EQ(sd1.weights, std::vector<float>(kChunkTokens, 1.0f));
  }
}

TEST(ClipTokenizer, RefusesIdsOutsideTheVocabulary) {
  for (const int32_t id : {-1, 49408, INT32_MIN, INT32_MAX}) {
    try {
      ClipTokenizer().decode(Ids{320, id});
      ADD_FAILURE() << id;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::InvalidArgument);
    }
  }
}

TEST(ClipTokenizer, TakesIllFormedUtf8AsReplacementCharacters) {
  const ClipTokenizer tokenizer;
  const std::string r = "\xEF\xBF\xBD";  // U+FFFD
  EXPECT_EQ(tokenizer.encode("a\xFFz"), tokenizer.encode("a" + r + "z"));
  EXPECT_EQ(tokenizer.encode("\xE2\x82"), tokenizer.encode(r));
  EXPECT_EQ(tokenizer.encode("\xED\xA0\x80"), tokenizer.encode(r + r + r));  // a surrogate
  EXPECT_EQ(tokenizer.encode("\xC0\xAF"), tokenizer.encode(r + r));          // an overlong slash
  EXPECT_EQ(tokenizer.encode("x\xF0\x9F\x98 y"), tokenizer.encode("x" + r + " y"));
  EXPECT_NE(tokenizer.encode("a\xFFz"), tokenizer.encode("az"));
}

TEST(ClipTokenizer, TakesNulAsACharacter) {
  const ClipTokenizer tokenizer;
  const Ids ids = tokenizer.encode(std::string_view("a\0b", 3));
  EXPECT_THAT(ids, ElementsAre(320, 444, 321));
  EXPECT_EQ(tokenizer.decode(ids), std::string("a \0 b", 5));
}

TEST(ClipTokenizer, EmptyAndBlankTextsHaveNoTokens) {
  const ClipTokenizer tokenizer;
  EXPECT_TRUE(tokenizer.encode("").empty());
  EXPECT_TRUE(tokenizer.encode(" \t\r\n\xC2\xA0\xE3\x80\x80").empty());
  EXPECT_EQ(tokenizer.decode(Ids{}), "");
}

TEST(ClipTokenizer, IsTheSameFromManyThreads) {
  const ClipTokenizer tokenizer;
  std::vector<Ids> results(8);
  std::vector<std::thread> threads;
  for (Ids& result : results) {
    threads.emplace_back(
        [&result, &tokenizer] { result = tokenizer.encode("Caf\xC3\xA9 by the sea, 1920s photograph"); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Ids& result : results) EXPECT_EQ(result, results[0]);
  EXPECT_EQ(results[0].size(), 11u);
}

// Long texts of one kind, where a careless merge or normaliser takes quadratic time (hours rather than
// seconds).
class LongTexts : public ::testing::TestWithParam<int> {};

TEST_P(LongTexts, TakeLinearTime) {
  constexpr size_t kBytes = 1 << 20;
  std::mt19937 random(3);
  std::string text;
  while (text.size() < kBytes) {
    switch (GetParam()) {
      case 0:
        text += 'a';
        break;
      case 1:
        text += static_cast<char>('a' + random() % 26);
        break;
      case 2:
        text += "\xCC\x81\xCC\xA3";  // marks of the classes 230 and 220: every second one moves to the front
        break;
      case 3:
        text += "\xF0\x9F\x98\x80";
        break;
      case 4:
        text += "\xE0\xBD\xB3";  // U+0F73, a starter that decomposes into two marks
        break;
      case 5:
        text += "<|startoftext|";
        break;
      default:
        text += static_cast<char>(random());
    }
  }
  const auto start = std::chrono::steady_clock::now();
  const ClipTokenizer tokenizer;
  const Ids ids = tokenizer.encode(text);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  EXPECT_LT(time.count(), 20);
  EXPECT_FALSE(ids.empty());
  EXPECT_EQ(tokenizer.encode(tokenizer.decode(ids)).empty(), false);
}

INSTANTIATE_TEST_SUITE_P(Kinds, LongTexts, ::testing::Range(0, 7));

}  // namespace
}  // namespace sinopia
