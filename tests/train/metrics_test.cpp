#include "sinopia/train/metrics/metrics.h"

#include <cmath>
#include <cstring>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/io/file.h"
#include "tests/kind_of.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using ::testing::ElementsAre;
using testing::kind_of;
using ::testing::Pair;
using testing::TemporaryFolder;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::string text_of(const std::filesystem::path& file) { return read_text_file(file, 1 << 20); }

TEST(JsonLinesMetrics, ReadBackWhatWasWritten) {
  const TemporaryFolder folder;
  const auto metrics = json_lines_metrics(folder / "m.jsonl", 0);
  metrics->scalars(1, {{"loss", 0.1}, {"rate", 1e-4}});
  metrics->scalars(2, {{"loss", kNaN}});
  EXPECT_EQ(text_of(folder / "m.jsonl"),
            "{\"step\":1,\"loss\":0.1,\"rate\":0.0001}\n{\"step\":2,\"loss\":null}\n");
  const auto read = read_json_lines_metrics(folder / "m.jsonl");
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[0].step, 1);
  EXPECT_THAT(read[0].values, ElementsAre(Pair("loss", 0.1), Pair("rate", 1e-4)));
  EXPECT_TRUE(std::isnan(read[1].values[0].second));
}

TEST(JsonLinesMetrics, AResumedRunTakesBackItsLastSteps) {
  const TemporaryFolder folder;
  const auto file = folder / "m.jsonl";
  {
    const auto metrics = json_lines_metrics(file, 0);
    for (int step = 1; step <= 5; ++step) metrics->scalars(step, {{"loss", 1.0 / step}});
  }
  const std::string whole = text_of(file);
  write_file(file, whole + "{\"step\":6,\"lo");  // killed while writing
  json_lines_metrics(file, 4)->scalars(4, {{"loss", 9}});
  EXPECT_EQ(text_of(file), whole.substr(0, whole.find("{\"step\":4")) + "{\"step\":4,\"loss\":9.0}\n");
}

TEST(JsonLinesMetrics, RefuseAFileThatIsNotTheirs) {
  const TemporaryFolder folder;
  for (const char* text : {"hello\n", "[1]\n", "{\"loss\":1}\n", "{\"step\":\"1\"}\n"}) {
    write_file(folder / "x", std::string_view(text));
    EXPECT_EQ(kind_of([&] { json_lines_metrics(folder / "x", 1); }), ErrorKind::Corrupt) << text;
    EXPECT_EQ(text_of(folder / "x"), text);
  }
  EXPECT_EQ(kind_of([&] { json_lines_metrics(folder.path(), 0); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { json_lines_metrics(folder / "no" / "m", 0); }), ErrorKind::NotFound);
}

uint32_t slow_masked_crc(const std::string& bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    for (int bit = 0; bit < 8; ++bit) {
      const bool odd = (crc ^ static_cast<uint32_t>(static_cast<uint8_t>(byte)) >> bit) & 1;
      crc = odd ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
    }
  }
  crc = ~crc;
  return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

/// The records of an event file, whose check sums are right.
std::vector<std::string> records_of(const std::string& file) {
  std::vector<std::string> records;
  for (size_t at = 0; at < file.size();) {
    uint64_t length = 0;
    uint32_t length_crc = 0, crc = 0;
    std::memcpy(&length, file.data() + at, 8);
    std::memcpy(&length_crc, file.data() + at + 8, 4);
    EXPECT_EQ(length_crc, slow_masked_crc(file.substr(at, 8)));
    records.push_back(file.substr(at + 12, length));
    std::memcpy(&crc, file.data() + at + 12 + length, 4);
    EXPECT_EQ(crc, slow_masked_crc(records.back()));
    at += length + 16;
  }
  return records;
}

std::string bytes_of(const std::filesystem::path& file) {
  const auto bytes = read_file(file, 1 << 20);
  return {bytes.begin(), bytes.end()};
}

TEST(TensorBoardMetrics, AreWhatTensorBoardWrites) {
  const TemporaryFolder folder;
  const std::string golden = SINOPIA_TEST_DATA "/train/";
  const auto metrics = tensorboard_metrics(folder / "events", 300);
  metrics->scalars(300, {{"loss", 0.125}, {"validation/loss", kNaN}});
  metrics->image(70000, "samples", read_image(golden + "two_pixels.png"));
  const auto files = std::filesystem::directory_iterator(folder / "events");
  const auto ours = records_of(bytes_of(files->path()));
  const auto theirs = records_of(bytes_of(golden + "events.tfevents"));
  EXPECT_THAT(files->path().filename().string(), ::testing::StartsWith("events.out.tfevents."));
  ASSERT_EQ(ours.size(), theirs.size());
  // Theirs has no wall time, which is field 1, a double.
  constexpr size_t kWallTime = 9;
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_EQ(ours[i][0], 9);
  for (size_t i = 0; i + 1 < ours.size(); ++i) EXPECT_EQ(ours[i].substr(kWallTime), theirs[i]);
  // The two encoders compress alike or not; what is around the picture, but for lengths, is the same.
  const std::string png = "\x89PNG", a = ours.back(), b = theirs.back();
  const size_t at = a.find(png);
  ASSERT_NE(at, std::string::npos);
  EXPECT_EQ(a.substr(kWallTime, 4), b.substr(0, 4));
  EXPECT_NE(a.find("\x0a\x07samples\""), std::string::npos);
  EXPECT_EQ(a.substr(at - 8, 6), b.substr(b.find(png) - 8, 6));
  const std::string picture = a.substr(at);
  EXPECT_EQ(static_cast<uint8_t>(a[at - 1]), picture.size());
  const Image image = decode_image({reinterpret_cast<const uint8_t*>(picture.data()), picture.size()});
  EXPECT_THAT(image.pixels, ElementsAre(255, 0, 0, 0, 0, 255));
}

TEST(TensorBoardMetrics, EachStartHasAFileOfItsOwn) {
  const TemporaryFolder folder;
  for (int i = 0; i < 3; ++i) tensorboard_metrics(folder.path(), 0)->scalars(i, {{"loss", 1}});
  EXPECT_EQ(folder.names().size(), 3u);
}

}  // namespace
}  // namespace sinopia
