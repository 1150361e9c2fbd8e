#include "sinopia/io/gguf.h"

#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sinopia/io/checkpoint_file.h"
#include "sinopia/io/file.h"
#include "sinopia/io/safetensors.h"
#include "sinopia/ops/shape.h"
#include "tests/io/golden_row.h"
#include "tests/io/memory_storage.h"
#include "tests/kind_of.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using testing::kind_of;
using testing::TemporaryFolder;
using testing_io::checksum;
using testing_io::expect_row;
using testing_io::memory_storage;

const std::string kGolden = SINOPIA_TEST_DATA "/quantised/";

template <class T>
std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
std::string text(const std::string& value) { return raw<uint64_t>(value.size()) + value; }

enum : uint32_t { kU8 = 0, kU32 = 4, kBool = 7, kString = 8, kArray = 9, kU64 = 10 };

std::string entry(const std::string& name, const std::vector<uint64_t>& dims, uint32_t type,
                  uint64_t offset) {
  std::string bytes = text(name) + raw(static_cast<uint32_t>(dims.size()));
  for (uint64_t dim : dims) bytes += raw(dim);
  return bytes + raw(type) + raw(offset);
}

/// A file with `metadata` and tensor `entries` as they are given, and `data_bytes` after the padding.
std::string file_of(const std::string& metadata, uint64_t metadata_count, const std::string& entries,
                    uint64_t count, size_t data_bytes, size_t alignment = 32) {
  std::string bytes = "GGUF" + raw<uint32_t>(3) + raw(count) + raw(metadata_count) + metadata + entries;
  if (data_bytes == 0) return bytes;
  bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
  return bytes + std::string(data_bytes, '\1');
}
std::string with_tensors(const std::string& entries, uint64_t count, size_t data_bytes) {
  return file_of("", 0, entries, count, data_bytes);
}
std::string with_metadata(const std::string& metadata, uint64_t count = 1) {
  return file_of(metadata, count, "", 0, 0);
}

std::optional<ErrorKind> refusal(const std::string& bytes) {
  return kind_of([&] { parse_gguf(memory_storage(bytes)); });
}

struct Malformed {
  const char* name;
  std::string bytes;
  ErrorKind kind = ErrorKind::Corrupt;
};

void PrintTo(const Malformed& malformed, std::ostream* out) { *out << malformed.name; }

std::vector<Malformed> malformed_files() {
  constexpr uint64_t kHuge = uint64_t{1} << 63;
  const std::string one = entry("a", {8}, 0, 0), good = with_tensors(one, 1, 32);
  const auto header = [](uint32_t version, uint64_t tensors, uint64_t metadata) {
    return "GGUF" + raw(version) + raw(tensors) + raw(metadata);
  };
  const auto alignment = [&](uint32_t value) {
    return file_of(text("general.alignment") + raw<uint32_t>(kU32) + raw(value), 1, one, 1, 32);
  };
  const auto array = [](uint32_t kind, uint64_t length, const std::string& values = "") {
    return with_metadata(text("k") + raw<uint32_t>(kArray) + raw(kind) + raw(length) + values);
  };
  std::string name_of_5_mb(5'000'000, 'n');
  return {
      {"Empty", ""},
      {"MagicAlone", "GGUF"},
      {"OtherMagic", "GGUG" + good.substr(4)},
      {"Version0", header(0, 0, 0), ErrorKind::Unsupported},
      {"Version1", header(1, 0, 0), ErrorKind::Unsupported},
      {"Version4", header(4, 0, 0), ErrorKind::Unsupported},
      {"BigEndian", header(0x03000000, 0, 0), ErrorKind::Unsupported},
      {"TensorsMinusOne", header(3, ~uint64_t{0}, 0)},
      {"MetadataMinusOne", header(3, 0, ~uint64_t{0})},
      {"CountsThatWrap", header(3, kHuge / 12, 0)},
      {"MoreTensorsThanBytes", header(3, 2, 0) + one},
      {"CountsCut", header(3, 0, 0).substr(0, 20)},
      {"KeyLengthHuge", with_metadata(raw(kHuge) + "key")},
      {"KeyPastTheEnd", with_metadata(raw<uint64_t>(100) + "key")},
      {"KeyOf5MB", with_metadata(text(name_of_5_mb) + raw<uint32_t>(kU8) + "\1")},
      {"KeyWithNul", with_metadata(text(std::string("a\0b", 3)) + raw<uint32_t>(kU8) + "\1")},
      {"KeyNotUtf8", with_metadata(text("a\xff") + raw<uint32_t>(kU8) + "\1")},
      {"KeyTwice",
       with_metadata(text("a") + raw<uint32_t>(kU8) + "\1" + text("a") + raw<uint32_t>(kU8) + "\2", 2)},
      {"LongArrayTwice",
       with_metadata(text("a") + raw<uint32_t>(kArray) + raw<uint32_t>(kU8) + raw<uint64_t>(2000) +
                         std::string(2000, '\1') + text("a") + raw<uint32_t>(kU8) + "\2",
                     2)},
      {"ValueType13", with_metadata(text("k") + raw<uint32_t>(13) + raw<uint64_t>(0))},
      {"ValueCut", with_metadata(text("k") + raw<uint32_t>(kU64) + "\1\2\3")},
      {"BoolOf2", with_metadata(text("k") + raw<uint32_t>(kBool) + "\2")},
      {"TextNotUtf8", with_metadata(text("k") + raw<uint32_t>(kString) + text("\xc0\xaf"))},
      {"ArrayLengthHuge", array(kU8, kHuge)},
      {"ArrayLengthWraps", array(kU64, (~uint64_t{0}) / 8 + 2, std::string(64, '\1'))},
      {"ArrayOfTexts", array(kString, 1'000'000, text("a"))},
      {"ArrayTextCut", array(kString, 2, text("abcdefgh") + raw<uint64_t>(9))},
      {"ArrayOfArrays", array(kArray, 1, raw<uint32_t>(kU8) + raw<uint64_t>(0)), ErrorKind::Unsupported},
      {"ArrayType13", array(13, 1, std::string(8, '\0'))},
      {"Alignment0", alignment(0)},
      {"Alignment3", alignment(3)},
      {"Alignment4", alignment(4)},
      {"Alignment2To31", alignment(1u << 31)},
      {"AlignmentText", with_metadata(text("general.alignment") + raw<uint32_t>(kString) + text("wide"))},
      {"NameOf5MB", with_tensors(entry(name_of_5_mb, {8}, 0, 0), 1, 32)},
      {"NameTwice", with_tensors(one + entry("a", {8}, 0, 32), 2, 64)},
      {"FiveAxes", with_tensors(entry("a", {1, 1, 1, 1, 8}, 0, 0), 1, 32)},
      {"AxesHuge", with_tensors(text("a") + raw<uint32_t>(0xffffffff) + std::string(100, '\0'), 1, 32)},
      {"Dim0", with_tensors(entry("a", {8, 0}, 0, 0), 1, 32)},
      {"DimMinusOne", with_tensors(entry("a", {~uint64_t{0}}, 0, 0), 1, 32)},
      {"ProductWraps", with_tensors(entry("a", {uint64_t{1} << 33, uint64_t{1} << 33}, 0, 0), 1, 32)},
      {"BytesWrap", with_tensors(entry("a", {uint64_t{1} << 62}, 0, 0), 1, 32)},
      {"TypeQ51", with_tensors(entry("a", {32}, 7, 0), 1, 32), ErrorKind::Unsupported},
      {"TypeI64", with_tensors(entry("a", {4}, 27, 0), 1, 32), ErrorKind::Unsupported},
      {"TypeTakenOut", with_tensors(entry("a", {32}, 4, 0), 1, 32)},
      {"TypeUnknown", with_tensors(entry("a", {32}, 4000, 0), 1, 32)},
      {"HalfABlock", with_tensors(entry("a", {48}, 8, 0), 1, 64)},
      {"HalfALargeBlock", with_tensors(entry("a", {128, 2}, 14, 0), 1, 256)},
      {"BlocksWithoutAxes", with_tensors(entry("a", {}, 8, 0), 1, 64)},
      {"OffsetMisaligned", with_tensors(entry("a", {8}, 0, 4), 1, 64)},
      {"OffsetPastTheEnd", with_tensors(one + entry("b", {8}, 0, 1 << 20), 2, 64)},
      {"OffsetHuge", with_tensors(one + entry("b", {8}, 0, kHuge), 2, 64)},
      {"Overlap", with_tensors(entry("a", {16}, 0, 0) + entry("b", {8}, 0, 32), 2, 64)},
      {"SameOffset", with_tensors(one + entry("b", {8}, 0, 0), 2, 64)},
      {"Hole", with_tensors(one + entry("b", {8}, 0, 64), 2, 96)},
      {"DataCut", with_tensors(one, 1, 31)},
      {"NoData", with_tensors(one, 1, 0)},
      {"TrailingBytes", with_tensors(one, 1, 33)},
  };
}

class MalformedGguf : public ::testing::TestWithParam<Malformed> {};

TEST_P(MalformedGguf, IsRefused) { EXPECT_EQ(refusal(GetParam().bytes), GetParam().kind); }

INSTANTIATE_TEST_SUITE_P(Gguf, MalformedGguf, ::testing::ValuesIn(malformed_files()),
                         [](const auto& one) { return one.param.name; });

TEST(Gguf, EveryPrefixOfAFileIsRefusedOrRead) {
  const std::string good = [] {
    std::ifstream in(kGolden + "all.gguf", std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }();
  ASSERT_EQ(refusal(good), std::nullopt);
  // The header byte by byte, the data in steps; only the padding after the last tensor may be missing.
  for (size_t size = 0; size + 64 < good.size(); size += size < 2048 ? 1 : 61) {
    EXPECT_EQ(refusal(good.substr(0, size)), ErrorKind::Corrupt) << size;
  }
}

TEST(Gguf, AnyByteMayChange) {
  std::ifstream in(kGolden + "all.gguf", std::ios::binary);
  const std::string good(std::istreambuf_iterator<char>(in), {});
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = good;
    for (int n = 0; n < 1 + i % 3; ++n) bytes[random() % 2000] = static_cast<char>(random());
    refusal(bytes);
  }
}

TEST(Gguf, AcceptsWhatTheFormatAllows) {
  EXPECT_EQ(refusal(with_metadata("", 0)), std::nullopt);
  EXPECT_EQ(refusal("GGUF" + raw<uint32_t>(2) + raw<uint64_t>(0) + raw<uint64_t>(0)), std::nullopt);
  // Longer names than ggml's own 63 bytes occur in stable-diffusion.cpp's files.
  const std::string name(127, 'n');
  const TensorFile file = parse_gguf(
      memory_storage(with_tensors(entry(name, {3, 1, 2}, 1, 32) + entry("scalar", {}, 0, 0), 2, 32 + 12)));
  EXPECT_EQ(describe(file.tensors.at(name)), "f16 [2,1,3]");
  EXPECT_EQ(describe(file.tensors.at("scalar")), "f32 []");
  const TensorFile aligned =
      parse_gguf(memory_storage(file_of(text("general.alignment") + raw<uint32_t>(kU32) + raw<uint32_t>(8), 1,
                                        entry("a", {3}, 1, 0) + entry("b", {3}, 1, 8), 2, 16, 8)));
  EXPECT_EQ(aligned.tensors.size(), 2u);
  EXPECT_TRUE(aligned.metadata.empty());
}

TEST(Gguf, LongArraysAreLeftOut) {
  const TensorFile file = parse_gguf(memory_storage(
      with_metadata(text("k") + raw<uint32_t>(kArray) + raw<uint32_t>(kString) + raw<uint64_t>(1) +
                        text(std::string(2'000'000, '\1')) + text("kept") + raw<uint32_t>(kU8) + "\7",
                    2)));
  EXPECT_EQ(file.metadata, (std::map<std::string, std::string>{{"kept", "7"}}));
}

TEST(Gguf, ReadsTheReferencesFilesAndStableDiffusionCpps) {
  for (const std::string name : {"all", "peer-q8_0", "peer-q6_K", "peer-q5_K", "peer-q4_K", "peer-q4_0"}) {
    SCOPED_TRACE(name);
    const TensorFile file = read_tensor_file(kGolden + name + ".gguf");
    const auto expected = nlohmann::json::parse(std::ifstream(kGolden + name + ".json"));
    ASSERT_EQ(file.tensors.size(), expected["tensors"].size());
    for (const auto& [key, row] : expected["tensors"].items()) {
      SCOPED_TRACE(key);
      ASSERT_TRUE(file.tensors.contains(key));
      const Tensor& x = file.tensors.at(key);
      expect_row(x, row);
      EXPECT_EQ(checksum(to_dtype(x, DType::F32)), row[3].get<uint32_t>());
      EXPECT_TRUE(x.storage()->is_mapped());
    }
    EXPECT_EQ(file.metadata, expected["metadata"].get<decltype(file.metadata)>());
  }
}

void expect_same(const TensorFile& got, const TensorFile& want) {
  EXPECT_EQ(got.metadata, want.metadata);
  ASSERT_EQ(got.tensors.size(), want.tensors.size());
  for (const auto& [name, x] : want.tensors) {
    ASSERT_TRUE(got.tensors.contains(name)) << name;
    const Tensor& y = got.tensors.at(name);
    EXPECT_EQ(describe(y), describe(x)) << name;
    EXPECT_EQ(0, std::memcmp(y.raw(), x.raw(), x.bytes())) << name;
  }
}

TEST(Gguf, WritesWhatItReads) {
  const TemporaryFolder folder;
  const TensorFile file = read_gguf(kGolden + "all.gguf");
  write_gguf(folder / "copy.gguf", file);
  expect_same(read_gguf(folder / "copy.gguf"), file);
  // Over the file that the tensors are mapped from.
  const TensorFile copy = read_gguf(folder / "copy.gguf");
  write_gguf(folder / "copy.gguf", copy);
  expect_same(read_gguf(folder / "copy.gguf"), file);
  write_gguf(folder / "none.gguf", {});
  EXPECT_TRUE(read_gguf(folder / "none.gguf").tensors.empty());
  write_gguf(folder / "scalar.gguf", {{{"s", Tensor::from<float>(Shape{}, std::vector<float>{3})}}, {}});
  EXPECT_EQ(describe(read_gguf(folder / "scalar.gguf").tensors.at("s")), "f32 [1]");
}

TEST(Gguf, RefusesToWriteWhatItCannotRead) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& name, const Tensor& x,
                           const std::map<std::string, std::string>& metadata = {}) {
    const auto kind = kind_of([&] { write_gguf(folder / "x.gguf", {{{name, x}}, metadata}); });
    EXPECT_FALSE(std::filesystem::exists(folder / "x.gguf"));
    return kind;
  };
  const Tensor good = Tensor::from<float>({2}, std::vector<float>{1, 2});
  EXPECT_EQ(refused("a", {}), ErrorKind::InvalidArgument);
  EXPECT_EQ(refused("a", Tensor::empty({0})), ErrorKind::InvalidArgument);
  EXPECT_EQ(refused("a", Tensor::empty({1, 1, 1, 1, 1})), ErrorKind::InvalidArgument);
  EXPECT_EQ(refused("a", Tensor::empty({1}, DType::I64)), ErrorKind::Unsupported);
  EXPECT_EQ(refused("a\xff", good), ErrorKind::InvalidArgument);
  EXPECT_EQ(refused(std::string("a\0", 2), good), ErrorKind::InvalidArgument);
  EXPECT_EQ(refused("a", good, {{"k", "\xff"}}), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] {
              write_safetensors(folder / "x", {{{"a", Tensor::empty({32}, DType::Q8_0)}}, {}});
            }),
            ErrorKind::InvalidArgument);
}

}  // namespace
}  // namespace sinopia
