#include "sinopia/train/run_checkpoints.h"

#include <csignal>
#include <fstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sinopia/base/log.h"
#include "sinopia/io/file.h"
#include "tests/file_size_limit.h"
#include "tests/kind_of.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kind_of;
using testing::TemporaryFolder;

void write_two(const fs::path& folder, const std::string& text) {
  write_file(folder / "weights", text);
  fs::create_directory(folder / "unet");
  write_file(folder / "unet" / "empty", std::string_view());
}

auto writes(const std::string& text) {
  return [text](const fs::path& folder) { write_two(folder, text); };
}

std::vector<int64_t> steps_of(const RunCheckpoints& checkpoints) {
  std::vector<int64_t> steps;
  for (const auto& entry : checkpoints.entries()) steps.push_back(entry.step);
  return steps;
}

TEST(RunCheckpoints, KeepTheNewestAndThoseOfRoundSteps) {
  const TemporaryFolder folder;
  const RunCheckpoints checkpoints(folder / "run" / "checkpoints", 2, 100);
  EXPECT_FALSE(checkpoints.newest());
  for (const int64_t step : {50, 100, 150, 200, 250}) checkpoints.save(step, writes(std::to_string(step)));
  EXPECT_THAT(steps_of(checkpoints), ElementsAre(100, 200, 250));
  const auto newest = checkpoints.newest();
  ASSERT_TRUE(newest);
  EXPECT_EQ(newest->step, 250);
  EXPECT_EQ(newest->folder.filename(), "step-00000250");
  EXPECT_EQ(read_text_file(newest->folder / "weights", 100), "250");
  EXPECT_TRUE(fs::exists(newest->folder / "unet" / "empty"));
}

TEST(RunCheckpoints, ASaveThatFailsLeavesWhatWas) {
  const TemporaryFolder folder;
  const RunCheckpoints checkpoints(folder.path(), 1);
  checkpoints.save(1, writes("old"));
  EXPECT_EQ(kind_of([&] {
              checkpoints.save(2, [](const fs::path& to) {
                write_two(to, "new");
                fail(ErrorKind::Backend, "disk full");
              });
            }),
            ErrorKind::Backend);
  EXPECT_THAT(folder.names(), ElementsAre("step-00000001"));
  EXPECT_EQ(checkpoints.newest()->step, 1);
}

TEST(RunCheckpoints, ReplaceOneOfTheSameStep) {
  const TemporaryFolder folder;
  const RunCheckpoints checkpoints(folder.path(), 3);
  checkpoints.save(7, writes("old"));
  checkpoints.save(7, writes("new"));
  EXPECT_THAT(folder.names(), ElementsAre("step-00000007"));
  EXPECT_EQ(read_text_file(checkpoints.newest()->folder / "weights", 100), "new");
}

TEST(RunCheckpoints, PassOverBrokenOnes) {
  const TemporaryFolder folder;
  const RunCheckpoints checkpoints(folder.path(), 9);
  for (const int64_t step : {1, 2, 3, 4, 5})
    checkpoints.save(step, writes("weights of " + std::to_string(step)));
  fs::remove(folder / "step-00000005/files.json");
  fs::remove(folder / "step-00000004/unet/empty");
  write_file(folder / "step-00000003/weights", std::string_view("weights of 9"));
  std::ofstream(folder / "step-00000002/weights", std::ios::app) << "!";
  std::vector<std::string> warnings;
  const LogSink before = set_log_sink([&](LogLevel, std::string_view text) { warnings.emplace_back(text); });
  const auto newest = checkpoints.newest();
  set_log_sink(before);
  EXPECT_EQ(newest->step, 1);
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("files.json"), HasSubstr("is missing"), HasSubstr("check sum"),
                                    HasSubstr("has 13 bytes, expected 12")));
  for (const char* list : {"[]", "{}", "{\"files\": 3}", "{\"files\": {\"weights\": {}}}",
                           "{\"files\": {\"weights\": {\"bytes\": -1, \"crc32\": 0}}}",
                           "{\"files\": {\"weights\": {\"bytes\": \"1\", \"crc32\": 0}}}"}) {
    write_file(folder / "step-00000001/files.json", std::string_view(list));
    EXPECT_EQ(kind_of([&] { verify_checkpoint(folder / "step-00000001"); }), ErrorKind::Corrupt) << list;
  }
}

TEST(RunCheckpoints, OtherNamesAreNotCheckpoints) {
  const TemporaryFolder folder;
  for (const char* name : {"step-12", "step-00000001.bak", "step--0000001", "steps", "step-0000000x"})
    fs::create_directory(folder / name);
  EXPECT_TRUE(RunCheckpoints(folder.path(), 1).entries().empty());
  EXPECT_EQ(kind_of([&] { RunCheckpoints(folder.path(), 0); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { RunCheckpoints(folder.path(), 1).save(-1, writes("")); }),
            ErrorKind::InvalidArgument);
}

// A process that saves over and over, now a new step and now the same one, is killed at some time; whatever
// it was doing, no checkpoint is lost or broken.
TEST(RunCheckpoints, SurviveAKillAtAnyTime) {
  const TemporaryFolder folder;
  int64_t reached = -1;
  for (int round = 0; round < 12; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const RunCheckpoints checkpoints(folder.path(), 2);
      for (int64_t i = 2 * (reached + 1);; ++i) checkpoints.save(i / 2, writes(std::string(300000, 'x')));
    }
    const auto saved_another = [&] { return fs::exists(folder / fmt::format("step-{:08}", reached + 1)); };
    for (int i = 0; i < 2000 && !saved_another(); ++i) ::usleep(5000);
    ::usleep(1700 * round);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const RunCheckpoints checkpoints(folder.path(), 2);
    const auto newest = checkpoints.newest();
    ASSERT_TRUE(newest);
    EXPECT_GT(newest->step, reached);
    EXPECT_EQ(newest->step, checkpoints.entries().back().step);
    reached = newest->step;
  }
}

TEST(RunCheckpoints, AFullDiskIsAnErrorAndTheOldOneStays) {
  const TemporaryFolder folder;
  const RunCheckpoints checkpoints(folder.path(), 1);
  checkpoints.save(1, writes("old"));
  const auto kind = [&] {
    const testing::FileSizeLimit limit(4096);
    return kind_of([&] { checkpoints.save(2, writes(std::string(100000, 'x'))); });
  }();
  EXPECT_EQ(kind, ErrorKind::Backend);
  EXPECT_THAT(folder.names(), ElementsAre("step-00000001"));
  EXPECT_EQ(checkpoints.newest()->step, 1);
}

}  // namespace
}  // namespace sinopia
