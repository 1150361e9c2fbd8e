#include "sinopia/io/safetensors.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sinopia/io/file.h"
#include "tests/io/golden_row.h"
#include "tests/io/memory_storage.h"
#include "tests/kind_of.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

using testing::kind_of;
using testing::TemporaryFolder;
using testing_io::expect_row;
using testing_io::memory_storage;

const std::string kGolden = SINOPIA_TEST_DATA "/io/";

std::string with_length(uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + rest;
}

std::string file_of(const std::string& header, size_t data_bytes = 0) {
  return with_length(header.size(), header + std::string(data_bytes, '\1'));
}

std::string tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

std::optional<ErrorKind> refusal(const std::string& bytes) {
  return kind_of([&] { parse_safetensors(memory_storage(bytes)); });
}

struct Malformed {
  const char* name;
  std::string bytes;
  ErrorKind kind = ErrorKind::Corrupt;
};

void PrintTo(const Malformed& malformed, std::ostream* out) { *out << malformed.name; }

const std::string kOne = tensor("F32", "[1]", "[0,4]");

std::string many_entries(int count, const std::string& value) {
  std::string entries;
  for (int i = 0; i < count; ++i) entries += fmt::format("{}\"{}\":{}", i ? "," : "", i, value);
  return entries;
}

std::vector<Malformed> malformed_files() {
  const std::string good = R"({"a":)" + kOne + "}";
  std::string dims64 = "[1";
  for (int i = 1; i < 64; ++i) dims64 += ",1";
  return {
      {"Empty", ""},
      {"SevenBytes", "\1\0\0\0\0\0\0"},
      {"LengthZero", with_length(0, "")},
      {"LengthOne", with_length(1, "{")},
      {"LengthPastTheFile", with_length(good.size() + 100, good + "1234")},
      {"LengthOverTheLimit", with_length(100'000'001, good)},
      {"LengthWraps", with_length(~uint64_t{0}, good)},
      {"LengthWrapsWithEight", with_length(~uint64_t{0} - 7, good)},
      {"BadUtf8", file_of("{\"a\xff\":" + kOne + "}", 4)},
      {"OverlongUtf8", file_of("{\"a\xc0\xaf\":" + kOne + "}", 4)},
      {"ByteOrderMark", file_of("\xef\xbb\xbf" + good, 4)},
      {"TopLevelArray", file_of("[" + kOne + "]", 4)},
      {"TopLevelText", file_of("\"text\"")},
      {"CutJson", file_of(good.substr(0, good.size() - 1), 4)},
      {"TrailingJson", file_of(good + "{}", 4)},
      {"Blank", file_of("        ")},
      {"DeepNesting", file_of(std::string(100'000, '['))},
      {"DeepNestingInside", file_of("{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}")},
      {"DeepObjects", file_of("{\"a\":{\"b\":{\"c\":{}}}}")},
      {"DuplicateTensor", file_of(R"({"a":)" + kOne + R"(,"a":)" + tensor("F32", "[1]", "[4,8]") + "}", 8)},
      {"DuplicateEmptyTensor", file_of(R"({"a":)" + tensor("F32", "[0]", "[0,0]") + R"(,"a":)" +
                                       tensor("F32", "[0]", "[0,0]") + "}")},
      {"DuplicateShape", file_of(R"({"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", 4)},
      {"DuplicateDtype",
       file_of(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4)},
      {"DuplicateOffsets",
       file_of(R"({"a":{"dtype":"F32","data_offsets":[0,4],"shape":[1],"data_offsets":[0,4]}})", 4)},
      {"DuplicateMetadata", file_of(R"({"__metadata__":{"a":"x","a":"x"}})")},
      {"MetadataTwice", file_of(R"({"__metadata__":{},"__metadata__":{}})")},
      {"UnknownDtype", file_of(R"({"a":)" + tensor("F33", "[1]", "[0,4]") + "}", 4)},
      {"DtypeNumber", file_of(R"({"a":{"dtype":3,"shape":[1],"data_offsets":[0,4]}})", 4)},
      {"ForeignDtype", file_of(R"({"a":)" + tensor("F8_E4M3", "[4]", "[0,4]") + "}", 4),
       ErrorKind::Unsupported},
      {"UnsignedDtype", file_of(R"({"a":)" + tensor("U32", "[1]", "[0,4]") + "}", 4), ErrorKind::Unsupported},
      {"MissingShape", file_of(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4)},
      {"MissingDtype", file_of(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4)},
      {"MissingOffsets", file_of(R"({"a":{"dtype":"F32","shape":[1]}})", 4)},
      {"UnknownField", file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":[1]}})", 4)},
      {"ShapeNull", file_of(R"({"a":{"dtype":"F32","shape":null,"data_offsets":[0,4]}})", 4)},
      {"NegativeDim", file_of(R"({"a":)" + tensor("F32", "[-1]", "[0,4]") + "}", 4)},
      {"FloatDim", file_of(R"({"a":)" + tensor("F32", "[1.0]", "[0,4]") + "}", 4)},
      {"OverflowingNumber", file_of(R"({"a":)" + tensor("F32", "[1e400]", "[0,4]") + "}", 4)},
      {"LongNumber",
       file_of(R"({"a":)" + tensor("F32", "[" + std::string(1'000'000, '9') + "]", "[0,4]") + "}", 4)},
      {"DimOverflow", file_of(R"({"a":)" + tensor("F32", "[18446744073709551615]", "[0,4]") + "}", 4)},
      {"ProductOverflow", file_of(R"({"a":)" + tensor("U8", "[4294967296,4294967296]", "[0,0]") + "}")},
      {"ProductWrapsToFour", file_of(R"({"a":)" + tensor("U8", "[4294967297,4294967300]", "[0,4]") + "}", 4)},
      {"ByteOverflow", file_of(R"({"a":)" + tensor("F64", "[2305843009213693952]", "[0,0]") + "}")},
      {"OneOffset", file_of(R"({"a":)" + tensor("F32", "[1]", "[4]") + "}", 4)},
      {"ThreeOffsets", file_of(R"({"a":)" + tensor("F32", "[1]", "[0,4,4]") + "}", 4)},
      {"BeginAfterEnd", file_of(R"({"a":)" + tensor("F32", "[1]", "[4,0]") + "}", 4)},
      {"EndPastTheFile", file_of(R"({"a":)" + tensor("F32", "[2]", "[0,8]") + "}", 4)},
      {"HugeOffsets",
       file_of(R"({"a":)" + tensor("F32", "[1]", "[18446744073709551611,18446744073709551615]") + "}", 4)},
      {"SizeUnlikeShape", file_of(R"({"a":)" + tensor("F32", "[2]", "[0,4]") + "}", 4)},
      {"Overlap",
       file_of(R"({"a":)" + tensor("F32", "[2]", "[0,8]") + R"(,"b":)" + tensor("F32", "[2]", "[4,12]") + "}",
               12)},
      {"Same", file_of(R"({"a":)" + kOne + R"(,"b":)" + kOne + "}", 4)},
      {"Hole", file_of(R"({"a":)" + kOne + R"(,"b":)" + tensor("F32", "[1]", "[8,12]") + "}", 12)},
      {"HoleAtTheStart", file_of(R"({"a":)" + tensor("F32", "[1]", "[4,8]") + "}", 8)},
      {"TrailingBytes", file_of(good, 5)},
      {"TrailingBytesWithoutTensors", file_of("{}", 1)},
      {"NulInAName", file_of(R"({"a\u0000b":)" + kOne + "}", 4)},
      {"RawNulInAName", file_of(std::string("{\"a\0b\":", 7) + kOne + "}", 4)},
      {"LongName", file_of("{\"" + std::string(5'000'000, 'n') + "\":" + kOne + "}", 4)},
      {"MetadataNumber", file_of(R"({"__metadata__":{"a":1}})")},
      {"MetadataObject", file_of(R"({"__metadata__":{"a":{}}})")},
      {"MetadataNull", file_of(R"({"__metadata__":{"a":null}})")},
      {"MetadataText", file_of(R"({"__metadata__":"text"})")},
      {"ManyMetadata", file_of("{\"__metadata__\":{" + many_entries(100'001, "\"\"") + "}}"),
       ErrorKind::Unsupported},
      {"ManyTensors", file_of("{" + many_entries(250'001, tensor("U8", "[0]", "[0,0]")) + "}"),
       ErrorKind::Unsupported},
      {"TensorNull", file_of(R"({"a":null})")},
      {"SixtyFourDims", file_of(R"({"a":)" + tensor("F32", dims64 + "]", "[0,4]") + "}", 4),
       ErrorKind::Unsupported},
      {"SevenDims", file_of(R"({"a":)" + tensor("F32", "[1,1,1,1,1,1,1]", "[0,4]") + "}", 4),
       ErrorKind::Unsupported},
      {"BooleanTwo", file_of(R"({"a":)" + tensor("BOOL", "[1]", "[0,1]") + "}") + "\2"},
  };
}

class MalformedSafetensors : public ::testing::TestWithParam<Malformed> {};

TEST_P(MalformedSafetensors, IsRefused) { EXPECT_EQ(refusal(GetParam().bytes), GetParam().kind); }

INSTANTIATE_TEST_SUITE_P(Cases, MalformedSafetensors, ::testing::ValuesIn(malformed_files()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Safetensors, AcceptsScalarsEmptyTensorsAndSpaces) {
  const std::string header = " \n\t {\"s\":" + tensor("F32", "[]", "[0,4]") +
                             ",\"e\":" + tensor("F16", "[0,18446744073]", "[4,4]") +
                             ",\"f\":" + tensor("F16", "[3,0]", "[0,0]") + ",\"__metadata__\":{}} \n  ";
  const float value = std::numeric_limits<float>::quiet_NaN();
  std::string bytes = file_of(header, 4);
  std::memcpy(bytes.data() + bytes.size() - 4, &value, 4);
  const TensorFile file = parse_safetensors(memory_storage(bytes));
  ASSERT_EQ(file.tensors.size(), 3u);
  EXPECT_EQ(file.tensors.at("s").rank(), 0);
  EXPECT_TRUE(std::isnan(file.tensors.at("s").to_vector<float>()[0]));
  EXPECT_EQ(file.tensors.at("e").shape(), Shape({0, 18446744073}));
  EXPECT_EQ(file.tensors.at("f").numel(), 0);
}

TEST(Safetensors, AcceptsNoTensors) {
  const TensorFile file = parse_safetensors(memory_storage(file_of(R"({"__metadata__":{"a":"b"}})")));
  EXPECT_TRUE(file.tensors.empty());
  EXPECT_EQ(file.metadata.at("a"), "b");
}

TEST(Safetensors, CopiesOnlyTensorsThatAreNotAligned) {
  // The header has 8 k + 1 bytes, then a byte: the floats lie at an odd address.
  std::string header =
      "{\"b\":" + tensor("U8", "[3]", "[0,3]") + ",\"a\":" + tensor("F32", "[2]", "[3,11]") + "}";
  header.resize((header.size() + 7) / 8 * 8 + 2, ' ');
  std::string bytes = file_of(header, 11);
  const float values[2] = {1.5f, -2.25f};
  std::memcpy(bytes.data() + bytes.size() - 8, values, 8);
  const auto storage = memory_storage(bytes);
  const TensorFile file = parse_safetensors(storage);
  const Tensor& a = file.tensors.at("a");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a.raw()) % alignof(float), 0u);
  EXPECT_EQ(a.to_vector<float>(), (std::vector<float>{1.5f, -2.25f}));
  EXPECT_EQ(file.tensors.at("b").storage(), storage);
}

TEST(Safetensors, ReadsTheReferenceFileWithoutCopies) {
  const TensorFile file = read_safetensors(kGolden + "all.safetensors");
  const auto expected = nlohmann::json::parse(std::ifstream(kGolden + "all.json"));
  ASSERT_EQ(file.tensors.size(), expected.size());
  for (const auto& [name, row] : expected.items()) {
    ASSERT_TRUE(file.tensors.contains(name)) << name;
    SCOPED_TRACE(name);
    const Tensor& x = file.tensors.at(name);
    expect_row(x, row);
    EXPECT_TRUE(x.storage()->is_mapped()) << name;
  }
  EXPECT_EQ(file.metadata.at("format"), "p\"t\n");
}

TEST(Safetensors, WritesWhatTheReferenceWrites) {
  const TemporaryFolder folder;
  write_safetensors(folder / "copy.safetensors", read_safetensors(kGolden + "all.safetensors"));
  EXPECT_EQ(read_file(folder / "copy.safetensors", 1 << 20), read_file(kGolden + "all.safetensors", 1 << 20));
}

TEST(Safetensors, MayReplaceTheFileItWasReadFrom) {
  const TemporaryFolder folder;
  std::mt19937 random(3);
  std::vector<float> values(100'001);
  for (float& value : values) value = static_cast<float>(random());
  write_safetensors(folder / "a", {{{"x", Tensor::from({100'001}, values)}}, {}});
  TensorFile file = read_safetensors(folder / "a");
  file.tensors["y"] = Tensor::from({1}, std::vector<int64_t>{7});
  write_safetensors(folder / "a", file);
  EXPECT_EQ(file.tensors.at("x").to_vector<float>(), values) << "the old mapping stays valid";
  EXPECT_EQ(read_safetensors(folder / "a").tensors.at("x").to_vector<float>(), values);
}

TEST(Safetensors, WritesNothingForARequestThatIsWrong) {
  const TemporaryFolder folder;
  const Tensor x = Tensor::from({1}, std::vector<float>{1});
  const auto refused = [&](const TensorFile& file) {
    return kind_of([&] { write_safetensors(folder / "a", file); }) == ErrorKind::InvalidArgument;
  };
  EXPECT_TRUE(refused({{{"x", Tensor()}}, {}}));
  EXPECT_TRUE(refused({{{"\xff", x}}, {}}));
  EXPECT_TRUE(refused({{{"__metadata__", x}}, {}}));
  EXPECT_TRUE(refused({{{std::string("a\0b", 3), x}}, {}}));
  EXPECT_TRUE(refused({{{"x", x}}, {{"k", "\xff"}}}));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Safetensors, EveryCutOfAFileIsRefused) {
  const std::vector<uint8_t> whole = read_file(kGolden + "all.safetensors", 1 << 20);
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    EXPECT_EQ(refusal(std::string(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(bytes))),
              ErrorKind::Corrupt)
        << bytes;
  }
}

}  // namespace
}  // namespace sinopia
