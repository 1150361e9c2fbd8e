#include "sinopia/pipelines/text_encoding.h"

#include <cmath>
#include <fstream>

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models.h"
#include "sinopia/base/log.h"
#include "sinopia/models/stable_diffusion.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/ops/shape.h"

namespace sinopia::testing {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::Pointwise;

const StableDiffusion& sd1() {
  static const StableDiffusion kModel = StableDiffusion::load(model("tiny-sd1"));
  return kModel;
}

class TextEncodingTest : public ::testing::Test {
 protected:
  // What the encoder makes of a single text, as numbers.
  std::vector<float> encode(const std::string& prompt, const TextOptions& options = {}) {
    return text_.encode_positive(prompt, 4, options).at(0).schedule.at(0).context.to_vector<float>();
  }
  static ErrorKind kind_of(const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.kind();
    }
    ADD_FAILURE() << "no error";
    return ErrorKind::Backend;
  }

  TextEncoding text_{sd1().text_encoders()[0].model, sd1().text_encoders()[0].padding_id};
  static constexpr int64_t kWidth = 8;
};

TEST_F(TextEncodingTest, AShortPromptIsTheModelsOwnOutput) {
  std::vector<int32_t> ids = ClipTokenizer().encode("a red fox");
  ids.insert(ids.begin(), ClipTokenizer::kBos);
  ids.resize(77, ClipTokenizer::kEos);
  const Tensor z = sd1().text_encoders()[0].model.forward(Tensor::from(Shape{1, 77}, ids)).hidden;
  EXPECT_EQ(encode("a red fox"), z.to_vector<float>());
  EXPECT_EQ(encode("a (red:1.0) fox"), z.to_vector<float>());
  TextOptions truncate;
  truncate.truncate = true;
  EXPECT_EQ(encode("a red fox", truncate), z.to_vector<float>());
  EXPECT_NE(encode("a (red) fox", truncate), encode("a (red) fox"));
}

TEST_F(TextEncodingTest, LongPromptsBecomeChunksSideBySide) {
  std::string words;
  for (int i = 0; i < 76; ++i) words += "fox ";
  const std::vector<float> two = encode(words);
  ASSERT_EQ(two.size(), static_cast<size_t>(2 * 77 * kWidth));
  const std::vector<float> rest = encode("fox");
  EXPECT_TRUE(std::equal(rest.begin(), rest.end(), two.begin() + 77 * kWidth));
  EXPECT_EQ(encode("cat BREAK dog").size(), two.size());
  TextOptions truncate;
  truncate.truncate = true;
  EXPECT_EQ(encode(words, truncate).size(), rest.size());
}

TEST_F(TextEncodingTest, EmphasisWeighsTheTokensInEveryMode) {
  const auto plain = encode("a red fox"), empty = encode("");
  const auto with = [&](EmphasisMode mode) {
    TextOptions options;
    options.emphasis = mode;
    return encode("a (red:1.5) fox", options);
  };
  const auto no_norm = with(EmphasisMode::NoNorm), original = with(EmphasisMode::Original),
             comfy = with(EmphasisMode::Comfy);
  EXPECT_EQ(with(EmphasisMode::Ignore), plain);
  double mean_before = 0, mean_weighted = 0;
  for (size_t i = 0; i < plain.size(); ++i) mean_before += plain[i], mean_weighted += no_norm[i];
  for (size_t i = 0; i < plain.size(); ++i) {
    const bool red = i / kWidth == 2;  // after BOS and "a"
    const double w = red ? 1.5 : 1.0;
    EXPECT_FLOAT_EQ(no_norm[i], static_cast<float>(plain[i] * w));
    EXPECT_NEAR(original[i], plain[i] * w * mean_before / mean_weighted, 1e-4 * (1 + std::abs(original[i])));
    EXPECT_NEAR(comfy[i], empty[i] + (plain[i] - empty[i]) * w, 1e-6 * (1 + std::abs(comfy[i])));
    if (!red) {
      EXPECT_EQ(comfy[i], plain[i]);
    }
  }
}

TEST_F(TextEncodingTest, SchedulesHoldUpToTheirStep) {
  const EncodedPrompt prompt = text_.encode_negative("a [cat:dog:2] # not this", 4, {});
  const auto at = [&](int step) { return prompt.schedule[prompt.at(step)].context.to_vector<float>(); };
  EXPECT_EQ(at(1), encode("a cat"));
  EXPECT_EQ(at(2), encode("a cat"));
  EXPECT_EQ(at(3), encode("a dog"));
  EXPECT_EQ(at(4), encode("a dog"));
  EXPECT_EQ(at(9), encode("a dog"));
}

TEST_F(TextEncodingTest, TextsOfOneScheduleAreFilledUpWithEmptyChunks) {
  const EncodedPrompt prompt = text_.encode_negative("[cat:cat BREAK dog:2]", 4, {});
  ASSERT_EQ(prompt.schedule.front().context.dim(1), 154);
  const auto first = prompt.schedule.front().context.to_vector<float>();
  const auto empty = encode("");
  EXPECT_TRUE(std::equal(empty.begin(), empty.end(), first.begin() + 77 * kWidth));
}

TEST_F(TextEncodingTest, PartsOfAnAndAreFilledUpWithTheirLastVector) {
  const auto parts = text_.encode_positive("cat AND dog BREAK fox :0.5", 4, {});
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].weight, 1);
  EXPECT_EQ(parts[1].weight, 0.5);
  const Tensor context = parts[0].schedule[0].context;
  ASSERT_EQ(context.shape(), (Shape{1, 154, kWidth}));
  const auto values = context.to_vector<float>(), cat = encode("cat");
  EXPECT_TRUE(std::equal(cat.begin(), cat.end(), values.begin()));
  for (size_t i = cat.size(); i < values.size(); ++i)
    ASSERT_EQ(values[i], cat[cat.size() - kWidth + i % kWidth]);
}

TEST_F(TextEncodingTest, AnEmbeddingStandsForItsVectors) {
  const Tensor table = to_dtype(sd1().text_encoders()[0].model.token_table(), DType::F32);
  std::vector<float> vectors;
  for (const int32_t id : ClipTokenizer().encode("red fox"))
    vectors.insert(vectors.end(), table.data<float>() + id * kWidth, table.data<float>() + (id + 1) * kWidth);
  text_.add_embedding("zorro", Tensor::from(Shape{2, kWidth}, vectors));
  EXPECT_EQ(encode("a Zorro at night"), encode("a red fox at night"));
  text_.add_embedding("zorro two", Tensor::from(Shape{kWidth}, std::vector<float>(kWidth, 0.5f)));
  EXPECT_NE(encode("a zorro two"), encode("a zorro, two"));
  EXPECT_EQ(kind_of([&] {
              text_.add_embedding("x", zeros(Shape{1, kWidth + 1}));
            }),
            ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { text_.add_embedding("x", zeros(Shape{76, kWidth})); }), ErrorKind::InvalidArgument);
}

TEST_F(TextEncodingTest, EmbeddingsAreReadFromEveryLayoutOfFiles) {
  const TemporaryFolder folder;
  for (const char* name : {"webui.pt", "webui.safetensors", "diffusers.bin"})
    std::filesystem::copy(golden("pipelines/embeddings") / name, folder / name);
  std::filesystem::rename(folder / "webui.pt", folder / "first.pt");
  std::filesystem::rename(folder / "webui.safetensors", folder / "second.safetensors");
  std::filesystem::rename(folder / "diffusers.bin", folder / "third.bin");
  std::ofstream(folder / "broken.pt") << "no embedding";
  std::ofstream(folder / "notes.txt") << "nothing";
  EXPECT_THAT(add_embeddings(text_, folder.path()), ElementsAre("first", "second", "third"));
  EXPECT_EQ(encode("by first"), encode("by second"));
  EXPECT_EQ(encode("by first"), encode("by third"));
  EXPECT_NE(encode("by first"), encode("by fourth"));
  EXPECT_EQ(kind_of([&] { add_embeddings(text_, folder / "missing"); }), ErrorKind::NotFound);
}

TEST_F(TextEncodingTest, TellsThatALoraHasNoEffect) {
  std::vector<std::string> messages;
  const LogSink before =
      set_log_sink([&](LogLevel, std::string_view message) { messages.emplace_back(message); });
  const std::vector<float> with = encode("a red fox<lora:Ink:0.5>");
  set_log_sink(before);
  EXPECT_EQ(with, encode("a red fox"));
  EXPECT_THAT(messages, ElementsAre(HasSubstr("<lora:Ink>")));
  EXPECT_EQ(kind_of([&] { encode("a fox<lora:../../x:1>"); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { encode("a fox<lora:Ink:much>"); }), ErrorKind::InvalidArgument);
}

TEST_F(TextEncodingTest, RefusesWhatItCannotEncode) {
  TextOptions options;
  options.clip_skip = 3;  // of 2 layers
  EXPECT_EQ(kind_of([&] { encode("fox", options); }), ErrorKind::InvalidArgument);
  std::string long_prompt;
  for (size_t i = 0; i <= TextEncoding::kMaxChunks; ++i) long_prompt += "fox BREAK ";
  EXPECT_EQ(kind_of([&] { encode(long_prompt); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { encode(fmt::format("(fox:{})", std::string(39, '9'))); }),
            ErrorKind::InvalidArgument);
  std::stop_source stop;
  stop.request_stop();
  TextOptions stopped;
  stopped.stop = stop.get_token();
  EXPECT_EQ(kind_of([&] { encode("never seen before", stopped); }), ErrorKind::Cancelled);
}

}  // namespace
}  // namespace sinopia::testing
