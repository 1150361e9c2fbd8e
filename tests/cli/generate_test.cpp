#include <chrono>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <unistd.h>

#include "process.h"
#include "sinopia/io/image.h"

namespace sinopia::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

const std::string kModels = std::string(SINOPIA_TEST_DATA) + "/models/";
const std::string kModel = kModels + "tiny-sd1.safetensors";
const std::string kPicture = std::string(SINOPIA_TEST_DATA) + "/pipelines/picture.png";
const std::string kMask = std::string(SINOPIA_TEST_DATA) + "/pipelines/mask.png";

std::vector<std::string> generate(const std::filesystem::path& output,
                                  const std::vector<std::string>& more = {},
                                  const std::string& model = kModel) {
  std::vector<std::string> arguments = {"generate", "-m", model, "-p", "a red fox", "--steps", "3",
                                        "-W",       "64", "-H",  "64", "-o",        output};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

void expect_success(const Outcome& outcome) { EXPECT_EQ(outcome.code, 0) << outcome.err; }

TEST(Generate, ComputesWhereItIsTold) {
  const TemporaryFolder folder;
  const Outcome here = run(generate(folder / "a.png", {"--device", "cpu", "--json", "-"}));
  expect_success(here);
  const auto report = nlohmann::json::parse(here.out);
  EXPECT_EQ(report["device"], "cpu");
  EXPECT_EQ(report["precision"], "f32");
  EXPECT_EQ(report["peak_bytes"]["device"], 0);
  expect_success(run(generate(folder / "b.png", {"--device", "cpu", "--precision", "f32"})));
  EXPECT_EQ(slurp(folder / "a.png"), slurp(folder / "b.png"));
  for (const auto& [flags, message] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--device", "gpu"}, "cpu, cuda, cuda:N or auto"},
           {{"--device", "cpu", "--precision", "f16"}, "--precision f32 on the CPU"},
           {{"--precision", "f8"}, "f8"},
           {{"--device", "cuda:15"}, "cuda:15"}}) {
    const Outcome refused = run(generate(folder / "c.png", flags));
    EXPECT_NE(refused.code, 0) << flags.back();
    EXPECT_THAT(refused.err, HasSubstr(message));
    EXPECT_FALSE(std::filesystem::exists(folder / "c.png"));
  }
}

TEST(Generate, WritesAPictureThatReplayRepeats) {
  const TemporaryFolder folder;
  // Everything that changes a picture and is kept in its text.
  expect_success(run(generate(folder / "a.png", {"-n",
                                                 "blurry, [low:high:2]",
                                                 "-W",
                                                 "72",
                                                 "-H",
                                                 "64",
                                                 "-s",
                                                 "4000000000",
                                                 "--cfg-scale",
                                                 "5.25",
                                                 "--guidance-rescale",
                                                 "0.3",
                                                 "--sampling-method",
                                                 "euler_a",
                                                 "--scheduler",
                                                 "karras",
                                                 "--rng",
                                                 "cuda",
                                                 "--clip-skip",
                                                 "2",
                                                 "--emphasis",
                                                 "comfy",
                                                 "--eta",
                                                 "0.8",
                                                 "--s-noise",
                                                 "0.9",
                                                 "--variation-seed",
                                                 "5",
                                                 "--variation-strength",
                                                 "0.25"})));
  expect_success(run({"replay", folder / "a.png", "-m", kModel, "-o", folder / "b.png"}));
  const Image a = read_image(folder / "a.png"), b = read_image(folder / "b.png");
  EXPECT_EQ(a.width, 72);
  EXPECT_EQ(a.height, 64);
  EXPECT_EQ(a.pixels, b.pixels);
  EXPECT_EQ(a.text, b.text);
  // Nothing of it is without effect.
  expect_success(run(generate(folder / "c.png", {"-W", "72", "-H", "64", "-s", "4000000000"})));
  EXPECT_NE(a.pixels, read_image(folder / "c.png").pixels);
}

TEST(Generate, BoxesFollowThePrompt) {
  const TemporaryFolder folder;
  expect_success(
      run(generate(folder / "a.png", {"--box", "a fox:0.1,0.2,0.5,1", "--box", "log:0,0,.25,.5"})));
  std::vector<std::string> by_hand = generate(folder / "b.png");
  *std::ranges::find(by_hand, "a red fox") = "a red fox, a fox 10 20 50 99, log 00 00 25 50";
  expect_success(run(by_hand));
  const Image a = read_image(folder / "a.png"), b = read_image(folder / "b.png");
  EXPECT_EQ(a.pixels, b.pixels);
  EXPECT_EQ(a.text, b.text);
}

TEST(Generate, RefusesWhatAModelDoesNotTake) {
  const TemporaryFolder folder;
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{"--class", "fox"}, {"--semantic-map", kMask}}) {
    const Outcome outcome = run(generate(folder / "a.png", more));
    EXPECT_EQ(outcome.code, 1);
    EXPECT_THAT(outcome.err, HasSubstr(more[0] == "--class" ? "takes no class" : "takes no semantic map"));
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "a.png"));
}

TEST(Generate, ReplayRepeatsWhatSavedTime) {
  const TemporaryFolder folder;
  const std::string tiny = kModels + "tiny-taesd.safetensors";
  const std::vector<std::string> savings = {
      "--guidance-interval", "0.1:0.9", "--adaptive-guidance", ".9",      "--deepcache", "2:1",
      "--token-merging",     "0.4",     "--taesd-decode",      "--taesd", tiny,          "--json",
      folder / "a.json"};
  expect_success(run(generate(folder / "a.png", savings)));
  const auto report = nlohmann::json::parse(slurp(folder / "a.json"));
  EXPECT_EQ(report["savings"]["token_merging"], 0.4);
  // The model's own PNDM evaluates twice in its first step, which alone is guided.
  EXPECT_EQ(report["evaluations"]["texts"], 2 * 2 + 2);
  EXPECT_EQ(report["evaluations"]["cached"], 2 + 1);
  const Outcome lost = run({"replay", folder / "a.png", "-m", kModel, "-o", folder / "b.png"});
  EXPECT_EQ(lost.code, 2);
  EXPECT_THAT(lost.err, HasSubstr("--taesd"));
  expect_success(run({"replay", folder / "a.png", "-m", kModel, "--taesd", tiny, "-o", folder / "b.png"}));
  EXPECT_EQ(slurp(folder / "a.png"), slurp(folder / "b.png"));
  // Each of them alone changes the picture, and says so in its text.
  expect_success(run(generate(folder / "whole.png")));
  const Image whole = read_image(folder / "whole.png");
  for (const auto& [flags, text] :
       {std::pair(std::vector<std::string>{"--guidance-interval", "0.4:1"}, "Guidance interval: \"0.4:1\""),
        {{"--adaptive-guidance", "0"}, "Adaptive guidance: 0"},
        {{"--deepcache", "3"}, "DeepCache: \"3:0\""},
        {{"--token-merging", "0.5"}, "Token merging ratio: 0.5"},
        {{"--taesd-decode", "--taesd", tiny}, "VAE Decoder: TAESD"}}) {
    expect_success(run(generate(folder / "one.png", flags)));
    const Image one = read_image(folder / "one.png");
    EXPECT_NE(one.pixels, whole.pixels) << text;
    EXPECT_THAT(one.text.at("parameters"), HasSubstr(text));
    EXPECT_THAT(whole.text.at("parameters"), ::testing::Not(HasSubstr(text)));
  }
  expect_success(run(generate(folder / "same.png", {"--taesd", tiny, "--preview", "3"})));
  EXPECT_EQ(slurp(folder / "same.png"), slurp(folder / "whole.png"));
  EXPECT_EQ(read_image(folder / "same_preview.png").width, 64);
}

TEST(Generate, ReplayKeepsPromptsAsTheyWere) {
  const TemporaryFolder folder;
  const std::string prompt =
      "  a (fox:1.2), \"quoted\" \\(x\\)\nNegative prompt: no\nSteps: 1, a b: 2, c d: 3  ";
  expect_success(run(generate(folder / "a.jpg", {"-p", prompt})));
  expect_success(run({"replay", folder / "a.jpg", "-m", kModel, "-o", folder / "b.jpg"}));
  EXPECT_EQ(slurp(folder / "a.jpg"), slurp(folder / "b.jpg"));
}

TEST(Generate, ReplayFindsTheModelBesideThePicture) {
  const TemporaryFolder folder;
  std::filesystem::copy(kModel, folder / "here.safetensors");
  expect_success(run(generate(folder / "a.png", {}, folder / "here.safetensors")));
  expect_success(run({"replay", folder / "a.png", "-o", folder / "b.png"}));
  EXPECT_EQ(read_image(folder / "a.png").pixels, read_image(folder / "b.png").pixels);
  std::filesystem::remove(folder / "here.safetensors");
  const Outcome lost = run({"replay", folder / "a.png", "-o", folder / "c.png"});
  EXPECT_EQ(lost.code, 2);
  EXPECT_THAT(lost.err, HasSubstr("here"));
}

TEST(Generate, ReplayOfAnInpaintingAsksForItsPictures) {
  const TemporaryFolder folder;
  expect_success(run(generate(folder / "a.webp", {"-i", kPicture, "--mask", kMask, "--strength", "0.7"})));
  EXPECT_EQ(run({"replay", folder / "a.webp", "-m", kModel}).code, 2);
  EXPECT_EQ(run({"replay", folder / "a.webp", "-m", kModel, "-i", kPicture}).code, 2);
  expect_success(run(
      {"replay", folder / "a.webp", "-m", kModel, "-i", kPicture, "--mask", kMask, "-o", folder / "b.webp"}));
  EXPECT_EQ(slurp(folder / "a.webp"), slurp(folder / "b.webp"));
}

TEST(Generate, ABatchIsItsSinglePictures) {
  const TemporaryFolder folder;
  expect_success(run(generate(folder / "x-%02d-{seed}.png", {"-b", "2", "-s", "7", "-t", "1"})));
  expect_success(run(generate(folder / "y.png", {"-b", "2", "-s", "8", "-t", "2"})));
  EXPECT_THAT(folder.names(), UnorderedElementsAre("x-01-7.png", "x-02-8.png", "y.png", "y_2.png"));
  EXPECT_EQ(slurp(folder / "x-02-8.png"), slurp(folder / "y.png"));
  EXPECT_NE(slurp(folder / "y_2.png"), slurp(folder / "y.png"));
}

TEST(Generate, ReportsAsJson) {
  const TemporaryFolder folder;
  const Outcome outcome =
      run(generate(folder / "a.png", {"--json", "-", "-b", "2", "--scheduler", "karras"}));
  expect_success(outcome);
  const auto report = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(report["images"].size(), 2u);
  EXPECT_EQ(report["images"][1]["file"], (folder / "a_2.png").string());
  EXPECT_EQ(report["seconds"]["steps"].size(), 6u);
  EXPECT_GT(report["seconds"]["first_step"], 0);
  EXPECT_GT(report["peak_bytes"]["resident"], report["peak_bytes"]["tensors"]);
  EXPECT_EQ(report["sampler"], "pndm");
  EXPECT_EQ(report["scheduler"], "karras");
  expect_success(run(generate(folder / "b.png", {"--json", folder / "b.json"})));
  EXPECT_EQ(nlohmann::json::parse(slurp(folder / "b.json"))["width"], 64);
}

TEST(Generate, ComputesConvolutionsAsAsked) {
  const TemporaryFolder folder;
  const auto counts = [&](const std::string& method) {
    const Outcome outcome =
        run(generate(folder / (method + ".png"), {"--json", "-", "--conv-method", method, "--latent",
                                                  folder / (method + ".safetensors")}));
    expect_success(outcome);
    const auto convolutions = nlohmann::json::parse(outcome.out)["convolutions"];
    EXPECT_EQ(convolutions["method"], method);
    return std::array<int, 3>{convolutions["direct"], convolutions["winograd2"], convolutions["winograd4"]};
  };
  const auto direct = counts("direct"), two = counts("winograd2"), four = counts("winograd4"),
             automatic = counts("auto");
  EXPECT_GT(direct[0], 0);
  EXPECT_EQ(direct[1] + direct[2], 0);
  // What strides over pixels stays direct.
  EXPECT_GT(two[1], two[0]);
  EXPECT_EQ(two[0] + two[1], direct[0]);
  EXPECT_EQ(two[2], 0);
  EXPECT_EQ(four, (std::array{two[0], 0, two[1]}));
  EXPECT_EQ(automatic[0] + automatic[1] + automatic[2], direct[0]);
  EXPECT_NE(slurp(folder / "direct.safetensors"), slurp(folder / "winograd4.safetensors"));
}

TEST(Generate, RoundsProductsOrSaysWhatThatNeeds) {
  const TemporaryFolder folder;
  const Outcome plain = run(generate(folder / "f32.png", {"--json", "-", "--matmul-precision", "f32"}));
  expect_success(plain);
  EXPECT_EQ(nlohmann::json::parse(plain.out)["matmuls"],
            (nlohmann::json{{"precision", "f32"}, {"rounded", 0}}));
  for (const std::string precision : {"bf16", "int8"}) {
    const Outcome outcome =
        run(generate(folder / (precision + ".png"), {"--json", "-", "--matmul-precision", precision}));
    if (outcome.code == 0) {
      const auto report = nlohmann::json::parse(outcome.out)["matmuls"];
      EXPECT_EQ(report["precision"], precision);
      EXPECT_GT(report["rounded"], 0);
      continue;
    }
    EXPECT_EQ(outcome.code, 1);
    EXPECT_THAT(outcome.err, HasSubstr(precision + " needs "));
    EXPECT_THAT(outcome.err, HasSubstr("use f32"));
    // Before anything is read.
    const Outcome no_model =
        run({"generate", "-m", folder / "none.safetensors", "--matmul-precision", precision});
    EXPECT_EQ(no_model.err, outcome.err);
  }
}

TEST(Generate, ShowsProgressAndPreviews) {
  const TemporaryFolder folder;
  const Outcome outcome = run(generate(folder / "a.png", {"--preview", "2"}));
  expect_success(outcome);
  EXPECT_THAT(outcome.err, HasSubstr("step 1/3"));
  EXPECT_THAT(outcome.err, HasSubstr("s/step"));
  EXPECT_THAT(outcome.err, HasSubstr(" left, "));
  EXPECT_EQ(read_image(folder / "a_preview.png").width, 32);
}

TEST(Generate, AnInterruptLeavesNoFile) {
  const TemporaryFolder folder, streams;
  Process process(generate(folder / "a.png", {"--steps", "1000", "-W", "32", "-H", "32"}), streams.path());
  for (int i = 0; i < 12000 && process.errors().find("step 1/") == std::string::npos; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  process.send(SIGINT);
  const Outcome outcome = process.wait(60);
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("sinopia: cancelled"));
  EXPECT_TRUE(folder.names().empty()) << ::testing::PrintToString(folder.names());
}

TEST(Generate, ReadsPromptsThatAreHardToRead) {
  const TemporaryFolder folder;
  const std::vector<std::string> prompts = {"",
                                            "   ",
                                            "\xff\xfe broken",
                                            std::string(10000, '('),
                                            std::string(5000, '(') + std::string(5000, ')'),
                                            "\xf0\x9f\xa6\x8a fox",
                                            "\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d",
                                            "(x:nan) (y:inf) (z:-1) (w:1e39)",
                                            "<lora:../../x:1>",
                                            "-p",
                                            "[a|b]",
                                            "[cat]"};
  for (const std::string& prompt : prompts) {
    const Outcome outcome = run(generate(folder / "a.png", {"-p", prompt, "-W", "16", "-H", "16"}));
    EXPECT_TRUE(outcome.code == 0 || outcome.code == 1)
        << prompt.substr(0, 40) << outcome.signal << outcome.err;
    if (outcome.code == 1) {
      EXPECT_THAT(outcome.err, HasSubstr("sinopia: "));
    }
  }
}

TEST(Convert, GoesRoundThroughEveryLayoutWithoutLoss) {
  const TemporaryFolder folder;
  const std::string once = folder / "once.safetensors", twice = folder / "twice.safetensors";
  expect_success(run({"convert", kModels + "tiny-sd1", once}));
  expect_success(run({"convert", once, folder.path().string() + "/f/"}));
  expect_success(run({"convert", folder / "f", twice, "--layout", "single"}));
  EXPECT_EQ(slurp(once), slurp(twice));
  expect_success(run({"convert", once, folder / "wide.safetensors", "--type", "f32"}));
  expect_success(
      run({"convert", folder / "wide.safetensors", folder / "narrow.safetensors", "--type", "f16"}));
  EXPECT_EQ(slurp(once), slurp(folder / "narrow.safetensors"));
  expect_success(run(generate(folder / "a.png", {}, once)));
  expect_success(run(generate(folder / "b.png", {}, kModels + "tiny-sd1")));
  EXPECT_EQ(read_image(folder / "a.png").pixels, read_image(folder / "b.png").pixels);
}

TEST(Convert, QuantisedFilesPaintNearlyTheSame) {
  const TemporaryFolder folder;
  const Image reference = [&] {
    expect_success(run(generate(folder / "reference.png")));
    return read_image(folder / "reference.png");
  }();
  // The tiny model's rows are whole blocks of 32 but none of 256, so that q4_K leaves it as it was.
  for (const auto& [type, levels] : {std::pair<std::string, int>{"q8_0", 8}, {"q4_0", 80}, {"q4_K", 0}}) {
    SCOPED_TRACE(type);
    const std::string model = folder / (type + ".gguf");
    const std::filesystem::path picture = folder / (type + ".png");
    expect_success(run({"convert", kModel, model, "--type", type}));
    const Outcome inspected = run({"inspect", model});
    EXPECT_THAT(inspected.out, HasSubstr("family: sd1"));
    EXPECT_EQ(inspected.out.find(type + " ") != std::string::npos, type != "q4_K") << inspected.out;
    expect_success(run(generate(picture, {}, model)));
    const Image got = read_image(picture);
    ASSERT_EQ(got.pixels.size(), reference.pixels.size());
    int furthest = 0;
    for (size_t i = 0; i < got.pixels.size(); ++i)
      furthest = std::max(furthest, std::abs(int{got.pixels[i]} - int{reference.pixels[i]}));
    EXPECT_LE(furthest, levels);
    EXPECT_EQ(furthest == 0, levels == 0);
  }
  // Back out of blocks, and again into them, in one step or two.
  expect_success(run({"convert", folder / "q8_0.gguf", folder / "back.safetensors", "--type", "f32"}));
  expect_success(run({"convert", folder / "back.safetensors", folder / "again.gguf", "--type", "q8_0"}));
  expect_success(run({"convert", folder / "q8_0.gguf", folder / "copy.gguf"}));
  EXPECT_EQ(slurp(folder / "copy.gguf"), slurp(folder / "q8_0.gguf"));
  const Outcome refused = run({"convert", folder / "q8_0.gguf", folder / "x.safetensors"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("q8_0"));
  EXPECT_FALSE(std::filesystem::exists(folder / "x.safetensors"));
  expect_success(run({"convert", folder / "q8_0.gguf", folder.path().string() + "/f/", "--type", "f16"}));
  expect_success(run(generate(folder / "folder.png", {}, folder / "f")));
}

TEST(Init, WritesAModelThatPaints) {
  const TemporaryFolder folder;
  expect_success(run({"init", folder / "a.safetensors", "--seed", "3"}));
  expect_success(run({"init", folder / "b.safetensors", "--seed", "3"}));
  expect_success(run({"init", folder / "c.safetensors", "--seed", "4"}));
  EXPECT_EQ(slurp(folder / "a.safetensors"), slurp(folder / "b.safetensors"));
  EXPECT_NE(slurp(folder / "a.safetensors"), slurp(folder / "c.safetensors"));
  expect_success(run(generate(folder / "a.png", {"-W", "128", "-H", "128"}, folder / "a.safetensors")));
  EXPECT_EQ(read_image(folder / "a.png").height, 128);
}

}  // namespace
}  // namespace sinopia::testing
