#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "process.h"

namespace sinopia::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string kModel = std::string(SINOPIA_TEST_DATA) + "/models/tiny-sd1.safetensors";

void expect_usage_error(const std::vector<std::string>& arguments, const std::string& named) {
  const Outcome outcome = run(arguments, 20);
  EXPECT_EQ(outcome.code, 2) << ::testing::PrintToString(arguments) << outcome.err;
  EXPECT_THAT(outcome.err, StartsWith("sinopia: "));
  EXPECT_THAT(outcome.err, HasSubstr(named));
  EXPECT_EQ(outcome.out, "");
}

void expect_failure(const std::vector<std::string>& arguments, const std::string& named) {
  const Outcome outcome = run(arguments, 20);
  EXPECT_EQ(outcome.code, 1) << ::testing::PrintToString(arguments) << outcome.err;
  EXPECT_THAT(outcome.err, StartsWith("sinopia: "));
  EXPECT_THAT(outcome.err, HasSubstr(named));
}

class NumericFlag : public ::testing::TestWithParam<const char*> {};

TEST_P(NumericFlag, RefusesWhatIsNoNumberOrOutOfRange) {
  const std::string flag = GetParam();
  expect_usage_error({"generate", "-m", kModel, flag}, flag);
  // -1 is a random seed, and nothing else.
  const bool seed = flag.ends_with("seed");
  for (const char* value : {"", "abc", "-1", "-2", "NaN", "nan", "inf", "99999999999999999999", "1e999",
                            "0x10", " 1", "1 ", "1,5", "+1"}) {
    if (seed && std::string(value) == "-1") continue;
    expect_usage_error({"generate", "-m", kModel, flag, value}, flag);
  }
}

INSTANTIATE_TEST_SUITE_P(All, NumericFlag,
                         ::testing::Values("--width", "--height", "--steps", "--cfg-scale",
                                           "--guidance-rescale", "--seed", "--batch-count", "--clip-skip",
                                           "--strength", "--eta", "--s-churn", "--s-noise",
                                           "--variation-seed", "--variation-strength", "--preview",
                                           "--threads", "--adaptive-guidance", "--token-merging"));

TEST(Usage, SizesHaveAUnit) {
  for (const char* value : {"", "G", "1", "1.6g", "-1G", "0M", "1.6GB", "1e9G", "nanG", "2000000G"})
    expect_usage_error({"generate", "-m", kModel, "--max-memory", value}, "--max-memory");
}

TEST(Usage, ShortNumericFlagsAreJustAsStrict) {
  for (const char* flag : {"-W", "-H", "-s", "-b", "-t"})
    for (const char* value : {"", "abc", "-2", "NaN", "1e999"})
      EXPECT_EQ(run({"generate", "-m", kModel, flag, value}).code, 2) << flag << " " << value;
}

TEST(Usage, NamesWhatIsUnknown) {
  expect_usage_error({}, "subcommand");
  expect_usage_error({"paint"}, "paint");
  expect_usage_error({"generate", "-m", kModel, "--stepz", "3"}, "--stepz");
  expect_usage_error({"generate", "-p", "x"}, "--model");
  expect_usage_error({"generate", "-m", kModel, "--sampling-method", "eular"}, "dpm++2m");
  expect_usage_error({"generate", "-m", kModel, "--scheduler", "karas"}, "karras");
  expect_usage_error({"generate", "-m", kModel, "--rng", "dice"}, "cuda");
  expect_usage_error({"generate", "-m", kModel, "--emphasis", "loud"}, "no-norm");
  expect_usage_error({"generate", "-m", kModel, "--vae-tiling", "maybe"}, "auto");
  expect_usage_error({"generate", "-m", kModel, "--matmul-precision", "fp8"}, "bf16");
  expect_usage_error({"generate", "-m", kModel, "-W", "100"}, "multiple of 8");
  expect_usage_error({"generate", "-m", kModel, "--mask", "m.png"}, "--init-img");
  expect_usage_error({"generate", "-m", kModel, "--box", "apple:0,0,2,1"}, "--box");
  expect_usage_error({"generate", "-m", kModel, "--box", "a:0,0,1,1", "--box", "b"}, "--box");
  expect_usage_error({"generate", "-m", kModel, "--guidance-interval", "0.8:0.2"}, "from <= to");
  expect_usage_error({"generate", "-m", kModel, "--guidance-interval", "0.8"}, "FROM:TO");
  expect_usage_error({"generate", "-m", kModel, "--deepcache", "0"}, "1 to 1000");
  expect_usage_error({"generate", "-m", kModel, "--deepcache", "3:x"}, "INTERVAL:DEPTH");
  expect_usage_error({"generate", "-m", kModel, "--taesd-decode"}, "--taesd");
  expect_usage_error({"generate", "-m", kModel, "-o", "picture.bmp"}, ".webp");
  expect_usage_error({"generate", "-m", kModel, "-o", "%s.png"}, "%d");
  expect_usage_error({"convert", kModel}, "out");
  expect_usage_error({"convert", kModel, "/tmp/x.bin"}, ".safetensors or .gguf");
  expect_usage_error({"convert", kModel, "/tmp/x.safetensors", "--type", "q8_0"}, ".gguf");
  expect_usage_error({"convert", kModel, "/tmp/x/", "--type", "q4_K"}, ".gguf");
  expect_usage_error({"init", "/tmp/x.gguf", "--type", "q8_0"}, "bf16");
  expect_usage_error({"convert", kModel, "/tmp/x.safetensors", "--type", "q4"}, "bf16");
  expect_usage_error({"init", "/tmp/x.safetensors", "--preset", "sd9"}, "tiny-sd1");
  expect_usage_error({"inspect"}, "file");
}

TEST(Usage, HelpAndVersionGoToTheStandardOutput) {
  for (const char* command : {"generate", "replay", "inspect", "convert", "init", "samplers"}) {
    const Outcome outcome = run({command, "--help"});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_THAT(outcome.out, HasSubstr(command));
    EXPECT_EQ(outcome.err, "");
  }
  EXPECT_THAT(run({"--help"}).out, HasSubstr("generate"));
  const std::string generate = run({"generate", "--help"}).out;
  for (const char* flag : {"--guidance-interval", "--adaptive-guidance", "--deepcache", "--token-merging",
                           "--taesd ", "--taesd-decode"})
    EXPECT_THAT(generate, HasSubstr(flag));
  const Outcome version = run({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_THAT(version.out, StartsWith("sinopia "));
}

TEST(Usage, SamplersListsTheRegistries) {
  const Outcome outcome = run({"samplers"});
  EXPECT_EQ(outcome.code, 0);
  for (const char* name : {"euler_a", "dpm++2m", "pndm", "karras", "align_your_steps"})
    EXPECT_THAT(outcome.out, HasSubstr(name));
}

TEST(Paths, OfModelsAreCheckedBeforeAnythingIsWritten) {
  const TemporaryFolder folder;
  const std::string output = folder / "out.png";
  expect_failure({"generate", "-m", folder / "missing.safetensors", "-o", output}, "missing.safetensors");
  expect_failure({"generate", "-m", folder.path(), "-o", output}, "model_index.json");
  ASSERT_EQ(mkfifo((folder / "fifo").c_str(), 0600), 0);
  expect_failure({"generate", "-m", folder / "fifo", "-o", output}, "fifo");
  expect_failure({"generate", "-m", kModel, "--taesd", folder / "missing.safetensors", "-o", output},
                 "missing.safetensors");
  expect_failure({"generate", "-m", kModel, "--taesd", kModel, "-o", output}, "tiny decoder");
  expect_failure({"generate", "-m", kModel, "--deepcache", "2:4", "-o", output}, "depth from 0 to 3");
  std::ofstream(folder / "empty.safetensors").flush();
  expect_failure({"generate", "-m", folder / "empty.safetensors", "-o", output}, "empty.safetensors");
  std::ofstream(folder / "text.ckpt") << "this is no checkpoint";
  expect_failure({"generate", "-m", folder / "text.ckpt", "-o", output}, "text.ckpt");
  for (const char* command : {"inspect", "replay"}) expect_failure({command, folder / "fifo"}, "fifo");
  expect_failure({"convert", folder / "fifo", folder / "x.safetensors"}, "fifo");
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"empty.safetensors", "fifo", "text.ckpt"}));
}

TEST(Paths, OfInputPicturesAreChecked) {
  const TemporaryFolder folder;
  const auto paint = [&](const std::filesystem::path& picture, const std::string& named) {
    expect_failure({"generate", "-m", kModel, "-i", picture, "-o", folder / "out.png"}, named);
  };
  paint(folder / "missing.png", "missing.png");
  paint(folder.path(), folder.path().filename());
  ASSERT_EQ(mkfifo((folder / "fifo.png").c_str(), 0600), 0);
  paint(folder / "fifo.png", "fifo.png");
  std::ofstream(folder / "cut.png") << "\x89PNG\r\n\x1a\n";
  paint(folder / "cut.png", "");
}

TEST(Paths, OfOutputsAreCheckedBeforeTheWork) {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& output, const std::string& named) {
    expect_failure({"generate", "-m", folder / "never-read.safetensors", "-o", output}, named);
  };
  write(folder / "no/such/folder/out.png", "folder");
  ASSERT_EQ(mkfifo((folder / "fifo.png").c_str(), 0600), 0);
  write(folder / "fifo.png", "fifo.png");
  ASSERT_EQ(mkdir((folder / "folder.png").c_str(), 0700), 0);
  write(folder / "folder.png", "folder.png");
  write("/proc/out.png", "/proc");
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"fifo.png", "folder.png"}));
}

TEST(Inspect, SaysWhatAFileIs) {
  const Outcome text = run({"inspect", kModel});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("Stable Diffusion 1"));
  EXPECT_THAT(text.out, HasSubstr("unet: "));
  EXPECT_THAT(text.out, HasSubstr("f16"));
  const Outcome json = run({"inspect", "--json", kModel});
  EXPECT_EQ(json.code, 0);
  const auto report = nlohmann::json::parse(json.out);
  EXPECT_EQ(report["family"], "sd1");
  EXPECT_EQ(report["parts"].size(), 3u);
  EXPECT_GT(report["parts"][0]["types"]["f16"], 0);
  EXPECT_EQ(report["metadata"]["format"], "pt");
  const Outcome folder = run({"inspect", std::string(SINOPIA_TEST_DATA) + "/models/tiny-sd2"});
  EXPECT_EQ(folder.code, 0) << folder.err;
  EXPECT_THAT(folder.out, HasSubstr("v_prediction"));
}

}  // namespace
}  // namespace sinopia::testing
