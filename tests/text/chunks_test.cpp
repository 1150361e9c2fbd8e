#include "sinopia/text/chunks.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using Ids = std::vector<int32_t>;

constexpr int32_t kBos = ClipTokenizer::kBos, kEos = ClipTokenizer::kEos;
constexpr int32_t kA = 320, kB = 321, kComma = 267;  // "a", "b", ","

std::vector<TokenChunk> chunks(const std::string& prompt, const EmbeddingNames& names = {},
                               ChunkOptions options = {}) {
  const std::vector<TokenChunk> result =
      make_chunks(ClipTokenizer(), parse_attention(prompt), names, options);
  for (const TokenChunk& chunk : result) {
    EXPECT_EQ(chunk.ids.size(), 77u);
    EXPECT_EQ(chunk.weights.size(), 77u);
    EXPECT_EQ(chunk.ids.front(), kBos);
  }
  return result;
}

// The tokens of a chunk up to its padding with EOS.
Ids body(const TokenChunk& chunk) {
  return {chunk.ids.begin() + 1, std::find(chunk.ids.begin(), chunk.ids.end(), kEos)};
}

std::string words(const char* word, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += std::string(word) + " ";
  return text;
}

TEST(Chunks, AnEmptyPromptIsOneChunk) {
  for (const char* prompt : {"", "  ", "()"}) {
    const auto result = chunks(prompt);
    ASSERT_EQ(result.size(), 1u);
    Ids expected(77, kEos);
    expected[0] = kBos;
    EXPECT_EQ(result[0].ids, expected);
    EXPECT_THAT(result[0].weights, Each(1.0f));
  }
  EXPECT_EQ(make_chunks(ClipTokenizer(), {}).size(), 1u);
}

TEST(Chunks, CarryWeights) {
  const auto result = chunks("a (a b:1.5) b");
  ASSERT_EQ(result.size(), 1u);
  EXPECT_EQ(body(result[0]), (Ids{kA, kA, kB, kB}));
  EXPECT_THAT(std::vector<float>(result[0].weights.begin(), result[0].weights.begin() + 6),
              ElementsAre(1, 1, 1.5f, 1.5f, 1, 1));
}

TEST(Chunks, SplitAfter75Tokens) {
  for (const auto& [count, expected] : {std::pair(74, 1), {75, 1}, {76, 2}, {77, 2}, {150, 2}, {151, 3}}) {
    const auto result = chunks(words("a", count));
    ASSERT_EQ(result.size(), static_cast<size_t>(expected)) << count;
    size_t total = 0;
    for (const TokenChunk& chunk : result) total += body(chunk).size();
    EXPECT_EQ(total, static_cast<size_t>(count));
    EXPECT_EQ(result[0].ids[76], kEos);
  }
}

TEST(Chunks, PadWithTheGivenToken) {
  ChunkOptions options;
  options.padding = 0;
  const auto result = chunks("a b", {}, options);
  Ids expected(77, 0);
  expected[0] = kBos, expected[1] = kA, expected[2] = kB, expected[3] = kEos;
  EXPECT_EQ(result[0].ids, expected);
  const auto full = chunks(words("a", 75), {}, options);
  EXPECT_EQ(full[0].ids[76], kEos);
}

TEST(Chunks, PadAfterTheFirstEosOfThePromptItself) {
  const std::string prompt = "a <|endoftext|> b";
  EXPECT_EQ(chunks(prompt)[0].ids[3], kB);
  ChunkOptions options;
  options.padding = 0;
  const Ids ids = chunks(prompt, {}, options)[0].ids;
  EXPECT_THAT(Ids(ids.begin() + 1, ids.begin() + 5), ElementsAre(kA, kEos, 0, 0));
}

TEST(Chunks, CutAfterANearComma) {
  // 60 tokens, a comma, 20 tokens: the comma is the 61st, and 14 tokens follow it when the chunk is full.
  const auto result = chunks(words("a", 60) + "," + words("b", 20));
  ASSERT_EQ(result.size(), 2u);
  Ids first(60, kA);
  first.push_back(kComma);
  EXPECT_EQ(body(result[0]), first);
  EXPECT_EQ(body(result[1]), Ids(20, kB));
}

TEST(Chunks, TheCommaMayBeTwentyTokensBack) {
  // With 55 tokens before it, the comma and what follows it are 20 tokens of a full chunk; with 54 they
  // are 21.
  EXPECT_EQ(body(chunks(words("a", 55) + "," + words("b", 30))[0]).size(), 56u);
  EXPECT_EQ(body(chunks(words("a", 54) + "," + words("b", 30))[0]).size(), 75u);
  ChunkOptions never;
  never.comma_backtrack = 0;
  EXPECT_EQ(body(chunks(words("a", 60) + "," + words("b", 30), {}, never)[0]).size(), 75u);
}

TEST(Chunks, NoCutWithoutNeed) {
  EXPECT_EQ(chunks(words("a", 60) + "," + words("b", 14)).size(), 1u);
  // A comma as the 75th token leaves nothing to move; one as the 76th opens the next chunk.
  const auto last = chunks(words("a", 74) + "," + words("b", 3));
  EXPECT_EQ(body(last[0]).size(), 75u);
  EXPECT_EQ(body(last[1]), Ids(3, kB));
  const auto next = chunks(words("a", 75) + "," + words("b", 3));
  EXPECT_EQ(body(next[0]), Ids(75, kA));
  EXPECT_EQ(body(next[1]), (Ids{kComma, kB, kB, kB}));
}

TEST(Chunks, MovedTokensKeepTheirWeights) {
  const auto result = chunks(words("a", 70) + ", (" + words("b", 10) + ":1.5)");
  ASSERT_EQ(result.size(), 2u);
  EXPECT_THAT(result[0].weights, Each(1.0f));
  EXPECT_EQ(result[1].weights[0], 1.0f);
  EXPECT_THAT(std::vector<float>(result[1].weights.begin() + 1, result[1].weights.begin() + 11), Each(1.5f));
  EXPECT_EQ(result[1].weights[11], 1.0f);
}

TEST(Chunks, BreakEndsAChunk) {
  const auto result = chunks("a BREAK b");
  ASSERT_EQ(result.size(), 2u);
  EXPECT_EQ(body(result[0]), Ids{kA});
  EXPECT_EQ(body(result[1]), Ids{kB});
  EXPECT_EQ(chunks("a BREAK").size(), 1u);
  EXPECT_EQ(chunks("BREAK").size(), 1u);
  EXPECT_EQ(chunks("BREAK a").size(), 2u);
  EXPECT_EQ(chunks("a BREAK BREAK b").size(), 3u);
}

TEST(Chunks, NothingIsCut) {
  const std::string prompt = words("a, b", 2000);
  size_t total = 0;
  for (const TokenChunk& chunk : chunks(prompt)) total += body(chunk).size();
  EXPECT_EQ(total, 6000u);
}

TEST(Embeddings, TakeSeveralPositions) {
  EmbeddingNames names;
  EXPECT_EQ(names.add(ClipTokenizer(), "other", 1), 0);
  EXPECT_EQ(names.add(ClipTokenizer(), "My-Style_2", 3), 1);
  const auto result = chunks("a (MY-STYLE_2:1.5) b", names);
  ASSERT_EQ(result.size(), 1u);
  EXPECT_EQ(body(result[0]), (Ids{kA, 0, 0, 0, kB}));
  ASSERT_EQ(result[0].embeddings.size(), 1u);
  EXPECT_EQ(result[0].embeddings[0].position, 2);
  EXPECT_EQ(result[0].embeddings[0].embedding, 1);
  EXPECT_EQ(result[0].embeddings[0].length, 3);
  EXPECT_THAT(std::vector<float>(result[0].weights.begin() + 1, result[0].weights.begin() + 6),
              ElementsAre(1, 1.5f, 1.5f, 1.5f, 1));
}

TEST(Embeddings, TheNameOfMostTokensWins) {
  EmbeddingNames names;
  names.add(ClipTokenizer(), "bad", 1);
  names.add(ClipTokenizer(), "bad hands 5", 2);
  names.add(ClipTokenizer(), "bad hands", 1);
  const auto result = chunks("bad hands 5, bad hands, bad", names);
  std::vector<int> found;
  for (const EmbeddingPlacement& placement : result[0].embeddings) found.push_back(placement.embedding);
  EXPECT_THAT(found, ElementsAre(1, 2, 0));
  EXPECT_EQ(chunks("bad (hands 5)", names)[0].embeddings.size(), 1u);  // each weighted piece stands by itself
}

TEST(Embeddings, NeverStraddleChunks) {
  EmbeddingNames names;
  names.add(ClipTokenizer(), "style", 8);
  const auto result = chunks(words("a", 70) + "style b", names);
  ASSERT_EQ(result.size(), 2u);
  EXPECT_EQ(body(result[0]), Ids(70, kA));
  ASSERT_EQ(result[1].embeddings.size(), 1u);
  EXPECT_EQ(result[1].embeddings[0].position, 1);
  EXPECT_EQ(result[1].ids[9], kB);
  EXPECT_EQ(chunks(words("a", 67) + "style", names).size(), 1u);
}

TEST(Embeddings, MoveWithTheTextAfterAComma) {
  EmbeddingNames names;
  names.add(ClipTokenizer(), "style", 4);
  const auto result = chunks("style " + words("a", 60) + ", b style " + words("a", 20), names);
  ASSERT_EQ(result.size(), 2u);
  ASSERT_EQ(result[0].embeddings.size(), 1u);
  ASSERT_EQ(result[1].embeddings.size(), 1u);
  EXPECT_EQ(result[1].embeddings[0].position, 2);
  EXPECT_EQ(result[1].ids[1], kB);
}

TEST(Embeddings, RefuseBadNamesAndLengths) {
  EmbeddingNames names;
  const auto expect_refused = [&](const char* name, int vectors) {
    try {
      names.add(ClipTokenizer(), name, vectors);
      ADD_FAILURE() << name << vectors;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::InvalidArgument);
    }
  };
  expect_refused("x", 0);
  expect_refused("x", -1);
  expect_refused("x", 76);
  expect_refused("", 1);
  expect_refused("  ", 1);
  EXPECT_EQ(names.add(ClipTokenizer(), "x", 75), 0);
  EXPECT_EQ(chunks("x", names)[0].embeddings[0].length, 75);
}

}  // namespace
}  // namespace sinopia
