#include "sinopia/io/ckpt.h"

#include <chrono>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sinopia/io/file.h"
#include "tests/io/golden_row.h"
#include "tests/io/memory_storage.h"
#include "tests/io/zip_builder.h"
#include "tests/kind_of.h"

namespace sinopia {
namespace {

using namespace std::string_literals;
using testing::kind_of;
using testing_io::deflated;
using testing_io::expect_row;
using testing_io::little;
using testing_io::make_zip;
using testing_io::memory_storage;
using testing_io::stored;
using testing_io::ZipFile;

const std::string kFolder = SINOPIA_TEST_DATA "/io/ckpt/";

// --- Pickles by hand
// -------------------------------------------------------------------------------------------

std::string text(const std::string& value) { return "X"s + little(value.size(), 4) + value; }
std::string integer(int32_t value) { return "J"s + little(static_cast<uint32_t>(value), 4); }
std::string tuple(const std::vector<int32_t>& values) {
  std::string result = "(";
  for (const int32_t value : values) result += integer(value);
  return result + "t";
}
std::string global(const std::string& module, const std::string& name) {
  return "c"s + module + "\n" + name + "\n";
}

std::string storage(int32_t count, const std::string& key = "0", const std::string& type = "FloatStorage") {
  return "("s + text("storage") + global("torch", type) + text(key) + text("cpu") + integer(count) + "tQ";
}

std::string tensor(int32_t count, int32_t offset, const std::vector<int32_t>& sizes,
                   const std::vector<int32_t>& strides) {
  return global("torch._utils", "_rebuild_tensor_v2") + "("s + storage(count) + integer(offset) +
         tuple(sizes) + tuple(strides) + "\x89" + global("collections", "OrderedDict") + ")RtR";
}

std::string dictionary(const std::string& key, const std::string& value) {
  return "}"s + text(key) + value + "s";
}
std::string pickle_of(const std::string& body) { return "\x80\2"s + body + "."; }

// Twelve floats: 0, 1, .. 11.
std::string floats() {
  std::string bytes(48, '\0');
  for (int i = 0; i < 12; ++i) {
    const float value = static_cast<float>(i);
    std::memcpy(bytes.data() + 4 * i, &value, 4);
  }
  return bytes;
}

std::string archive_of(const std::string& pickle) {
  return make_zip({stored("archive/data.pkl", pickle), stored("archive/data/0", floats())});
}

TensorFile load(const std::string& bytes) { return parse_ckpt(memory_storage(bytes)); }

std::string message_of(const std::string& bytes) {
  try {
    load(bytes);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::vector<float> loaded(const std::string& value) {
  return load(archive_of(pickle_of(dictionary("x", value)))).tensors.at("x").to_vector<float>();
}

TEST(Ckpt, ReadsWhatTorchWrites) {
  const auto table = nlohmann::json::parse(std::ifstream(kFolder + "../ckpt.json"));
  EXPECT_GE(table.size(), 7u);
  for (const auto& [name, expected] : table.items()) {
    SCOPED_TRACE(name);
    const TensorFile file = read_ckpt(kFolder + name);
    EXPECT_EQ(file.metadata, (expected["metadata"].get<std::map<std::string, std::string>>()));
    ASSERT_EQ(file.tensors.size(), expected["tensors"].size());
    for (const auto& [key, row] : expected["tensors"].items()) {
      SCOPED_TRACE(key);
      ASSERT_TRUE(file.tensors.contains(key));
      expect_row(file.tensors.at(key), row);
    }
  }
}

TEST(Ckpt, CopiesOnlyWhatIsNotContiguous) {
  const TensorFile file = read_ckpt(kFolder + "views.ckpt");
  for (const char* name : {"whole", "shared", "rows", "one", "scalar"})
    EXPECT_TRUE(file.tensors.at(name).storage()->is_mapped()) << name;
  for (const char* name : {"transposed", "stepped", "expanded", "permuted", "channels_last"})
    EXPECT_FALSE(file.tensors.at(name).storage()->is_mapped()) << name;
  EXPECT_EQ(file.tensors.at("whole").raw(), file.tensors.at("shared").raw());
}

TEST(Ckpt, RefusesWhatTorchWritesButWeightsDoNotNeed) {
  for (const char* name :
       {"refused_older.ckpt", "refused_script.pt", "refused_global.pt", "refused_list.pt"}) {
    EXPECT_EQ(kind_of([&] { read_ckpt(kFolder + name); }), ErrorKind::Unsupported) << name;
  }
}

TEST(Ckpt, ReadsPicklesByHand) {
  EXPECT_EQ(loaded(tensor(12, 2, {3}, {1})), (std::vector<float>{2, 3, 4}));
  EXPECT_EQ(loaded(tensor(12, 0, {2, 3}, {1, 4})), (std::vector<float>{0, 4, 8, 1, 5, 9}));
  EXPECT_EQ(loaded(tensor(12, 11, {}, {})), (std::vector<float>{11}));
  EXPECT_EQ(loaded(tensor(12, 12, {0}, {1})), std::vector<float>{});
  EXPECT_EQ(loaded(tensor(12, 5, {1, 2}, {999, 6})), (std::vector<float>{5, 11}))
      << "the stride of one row is free";
  EXPECT_EQ(loaded(tensor(12, 0, {2, 6}, {0, 2})),
            (std::vector<float>{0, 2, 4, 6, 8, 10, 0, 2, 4, 6, 8, 10}));
}

TEST(Ckpt, ReadsADeflatedPickleAndZip64) {
  const std::string pickle = pickle_of(dictionary("x", tensor(12, 0, {12}, {1})));
  ZipFile data = stored("archive/data/0", floats());
  data.wide = true;
  const TensorFile file = load(make_zip({deflated("archive/data.pkl", pickle), data}));
  EXPECT_EQ(file.tensors.at("x").to_vector<float>()[11], 11.0f);
}

TEST(Ckpt, TheLastOfEqualKeysCounts) {
  const std::string dict =
      "}("s + text("x") + tensor(12, 0, {1}, {1}) + text("x") + tensor(12, 7, {1}, {1}) + "u";
  EXPECT_EQ(load(archive_of(pickle_of(dict))).tensors.at("x").to_vector<float>(), std::vector<float>{7});
}

// --- Hostile pickles
// -------------------------------------------------------------------------------------------

struct Hostile {
  const char* name;
  std::string pickle;
  ErrorKind kind;
};

void PrintTo(const Hostile& hostile, std::ostream* out) { *out << hostile.name; }

std::vector<Hostile> hostile_pickles() {
  const auto corrupt = ErrorKind::Corrupt, unsupported = ErrorKind::Unsupported;
  const std::string good = tensor(12, 0, {12}, {1});
  const auto value = [](const std::string& body) { return pickle_of(dictionary("x", body)); };
  const auto call = [&](const std::string& module, const std::string& name) {
    return value(global(module, name) + text("id > /tmp/owned") + "\x85R");
  };
  std::string deep = "}"s + text("x");
  for (int i = 0; i < 1'000'000; ++i) deep += ")\x85";
  std::string nested = "";
  for (int i = 0; i < 1'000'000; ++i) nested += "(";
  std::string towers = ")";
  for (int i = 0; i < 1'000'000; ++i) towers += "\x85";
  std::string dicts;
  for (int i = 0; i < 100; ++i) dicts += "}"s + text("a");
  for (int i = 0; i < 100; ++i) dicts += i ? "s" : good + "s";
  return {
      {"OsSystem", call("os", "system"), unsupported},
      {"PosixSystem", call("posix", "system"), unsupported},
      {"Eval", call("__builtin__", "eval"), unsupported},
      {"BuiltinsEval", call("builtins", "eval"), unsupported},
      {"Getattr", call("builtins", "getattr"), unsupported},
      {"TorchLoad", call("torch", "load"), unsupported},
      {"DottedName", call("collections", "OrderedDict.__init__"), unsupported},
      {"NameWithSpaces", call("collections ", "OrderedDict"), unsupported},
      {"StackGlobal", pickle_of(text("os") + text("system") + "\x93" + text("id") + "\x85R"), unsupported},
      {"Inst", pickle_of("("s + text("id") + "ios\nsystem\n"), unsupported},
      {"Obj", pickle_of("("s + global("collections", "OrderedDict") + "o"), unsupported},
      {"Ext1", pickle_of("\x82\1"), unsupported},
      {"Ext4", pickle_of("\x84\1\0\0\0"s), unsupported},
      {"NewObjEx", pickle_of(global("collections", "OrderedDict") + ")}\x92"), unsupported},
      {"PersidText", pickle_of("Pname\n"), unsupported},
      {"Frame", pickle_of("\x95\1\0\0\0\0\0\0\0"s), unsupported},
      {"Dup", pickle_of("N2"), unsupported},
      {"ReduceOnText", value(text("os.system") + ")R"), unsupported},
      {"ReduceOnTensor", value(good + ")R"), unsupported},
      {"ReduceOnAStorageType", value(global("torch", "FloatStorage") + ")R"), unsupported},
      {"ReduceWithoutATuple", value(global("collections", "OrderedDict") + "NR"), corrupt},
      {"NewObjOnText", value(text("os") + ")\x81"), unsupported},
      {"NewObjOnRebuild", value(global("torch._utils", "_rebuild_tensor_v2") + ")\x81"), unsupported},
      {"BuildOnTensor", value(good + "}b"), unsupported},
      {"BuildOnText", value(text("x") + "}b"), unsupported},
      {"BuildOnNone", value("N}b"), unsupported},
      {"Underflow", pickle_of("\x86"), corrupt},
      {"UnderflowAtAMark", pickle_of("N(\x85"), corrupt},
      {"AppendWithoutAList", pickle_of("Na"), corrupt},
      {"AppendToADict", pickle_of("}Na"), corrupt},
      {"AppendsWithoutAMark", pickle_of("]e"), corrupt},
      {"SetItemOfAList", pickle_of("]NNs"), corrupt},
      {"OddItems", pickle_of("}(Nu"), corrupt},
      {"Empty", "", corrupt},
      {"NoStop", "\x80\2}", corrupt},
      {"StopOnNothing", pickle_of(""), corrupt},
      {"MemoMiss", pickle_of("h\1"), corrupt},
      {"LongMemoMiss", pickle_of("j\xff\xff\xff\xff"), corrupt},
      {"PutNothing", pickle_of("q\1"), corrupt},
      {"LongText", pickle_of("X\xff\xff\xff\xffshort"), corrupt},
      {"LongLong", pickle_of("\x8a\xffshort"), corrupt},
      {"CutNumber", "\x80\2J\1\1", corrupt},
      {"CutGlobal", "\x80\2cos", corrupt},
      {"HugeGlobal", pickle_of("c"s + std::string(5000, 'm') + "\nname\n"), corrupt},
      {"MillionTuples", deep + "s.", corrupt},
      {"MillionNestedTuples", pickle_of(towers), corrupt},
      {"MillionMarks", pickle_of(nested), corrupt},
      {"MillionNones", pickle_of(std::string(3'000'000, 'N')), corrupt},
      {"MillionDicts", pickle_of(std::string(1'000'000, '}')), corrupt},
      {"NestedDicts", pickle_of(dicts), corrupt},
      {"SelfReference", pickle_of("}q\0"s + text("a") + "h\0s"s), corrupt},
      {"SharedDict", pickle_of("}"s + text("a") + dictionary("x", good) + "q\0"s + "s" + text("b") + "h\0s"s),
       corrupt},
      {"PersidOfANumber", value("K\1Q"), corrupt},
      {"PersidOfAnotherThing", value("("s + text("module") + "NNNNtQ"), corrupt},
      {"PersidTooShort", value("("s + text("storage") + "tQ"), corrupt},
      {"PersidOfAnotherType",
       value("("s + text("storage") + global("collections", "OrderedDict") + text("0") + text("cpu") +
             "K\1tQ"),
       corrupt},
      {"StrideOutOfBounds", value(tensor(12, 0, {2, 2}, {11, 1})), corrupt},
      {"SizeOutOfBounds", value(tensor(12, 0, {13}, {1})), corrupt},
      {"OffsetOutOfBounds", value(tensor(12, 12, {1}, {1})), corrupt},
      {"EmptyButOutOfBounds", value(tensor(12, 13, {0}, {1})), corrupt},
      {"NegativeOffset", value(tensor(12, -1, {1}, {1})), corrupt},
      {"NegativeStride", value(tensor(12, 11, {12}, {-1})), corrupt},
      {"NegativeSize", value(tensor(12, 0, {-1}, {1})), corrupt},
      {"SizesUnlikeStrides", value(tensor(12, 0, {3, 4}, {1})), corrupt},
      {"SizeOverflow", value(tensor(12, 0, {2147483647, 2147483647, 2147483647, 2147483647}, {0, 0, 0, 0})),
       corrupt},
      {"SizeOverflowButEmpty", value(tensor(12, 0, {2147483647, 2147483647, 2147483647, 0}, {1, 1, 1, 1})),
       corrupt},
      {"ExpandedFar", value(tensor(12, 0, {1'000'000}, {0})), unsupported},
      {"SevenAxes", value(tensor(12, 0, {1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1})), unsupported},
      {"CountUnlikeTheRecord", value(tensor(11, 0, {1}, {1})), corrupt},
      {"CountAboveTheRecord", value(tensor(13, 0, {1}, {1})), corrupt},
      {"NoRecord",
       value(global("torch._utils", "_rebuild_tensor_v2") + "("s + storage(12, "../data.pkl") + "K\0"s +
             tuple({1}) + tuple({1}) + "\x89NtR"),
       corrupt},
      {"TwoTypesOfOneRecord",
       pickle_of("}("s + text("x") + good + text("y") + global("torch._utils", "_rebuild_tensor_v2") + "(" +
                 storage(12, "0", "IntStorage") + "K\0"s + tuple({1}) + tuple({1}) + "\x89NtRu"),
       corrupt},
      {"TensorOfNoStorage",
       value(global("torch._utils", "_rebuild_tensor_v2") + "(NK\0"s + tuple({1}) + tuple({1}) + "\x89NtR"),
       corrupt},
      {"ParameterOfNoTensor", value(global("torch._utils", "_rebuild_parameter") + "(N\x89NtR"), corrupt},
      {"RootIsNoDict", pickle_of("N"), unsupported},
      {"NulInAName", pickle_of(dictionary("a\0b"s, good)), corrupt},
      {"BadUtf8InAName", pickle_of(dictionary("a\xff", good)), corrupt},
      {"LongName", pickle_of(dictionary(std::string(5000, 'n'), good)), corrupt},
      {"KeyIsATuple", pickle_of("})" + good + "s"), unsupported},
  };
}

class HostilePickle : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostilePickle, IsRefused) {
  const std::string archive = archive_of(GetParam().pickle);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(kind_of([&] { load(archive); }), GetParam().kind) << message_of(archive);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
}

INSTANTIATE_TEST_SUITE_P(Cases, HostilePickle, ::testing::ValuesIn(hostile_pickles()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Ckpt, NamesTheGlobalThatItRefuses) {
  const std::string pickle = pickle_of(dictionary("x", global("os", "system") + text("id") + "\x85R"));
  EXPECT_THAT(message_of(archive_of(pickle)), ::testing::HasSubstr("'os.system'"));
  const std::string control = pickle_of(global("a\x1b[2J", "b"));
  EXPECT_THAT(message_of(archive_of(control)), ::testing::HasSubstr("'a?[2J.b'"))
      << "terminals are not steered";
}

// --- Hostile archives
// ------------------------------------------------------------------------------------------

const std::string kPickle = pickle_of(dictionary("x", tensor(12, 0, {12}, {1})));

std::optional<ErrorKind> refusal(const std::string& bytes) {
  return kind_of([&] { load(bytes); });
}

TEST(HostileZip, NamesAreChecked) {
  const ZipFile pickle = stored("archive/data.pkl", kPickle), data = stored("archive/data/0", floats());
  EXPECT_EQ(refusal(make_zip({pickle, data})), std::nullopt);
  for (const std::string& name :
       {"../x"s, "archive/../../x"s, "/etc/passwd"s, "a\\..\\b"s, "C:x"s, ""s, "a\0b"s}) {
    EXPECT_EQ(refusal(make_zip({pickle, data, stored(name, "x")})), ErrorKind::Corrupt) << name;
  }
  EXPECT_EQ(refusal(make_zip({pickle, data, pickle})), ErrorKind::Corrupt) << "twice";
  EXPECT_EQ(refusal(make_zip({pickle, data, stored("other/data.pkl", kPickle)})), ErrorKind::Corrupt);
  EXPECT_EQ(refusal(make_zip({data})), ErrorKind::Corrupt) << "no pickle";
  EXPECT_EQ(refusal(make_zip({pickle})), ErrorKind::Corrupt) << "no record";
  ZipFile other = data;
  other.local_name = "archive/data/1";
  EXPECT_EQ(refusal(make_zip({pickle, other})), ErrorKind::Corrupt);
}

TEST(HostileZip, ChecksumsCount) {
  ZipFile pickle = stored("archive/data.pkl", kPickle), data = stored("archive/data/0", floats());
  pickle.checksum ^= 1;
  EXPECT_EQ(refusal(make_zip({pickle, data})), ErrorKind::Corrupt);
  pickle.checksum ^= 1;
  data.checksum ^= 0x80000000u;
  EXPECT_EQ(refusal(make_zip({pickle, data})), ErrorKind::Corrupt);
}

TEST(HostileZip, ABombIsNotUnpacked) {
  const ZipFile data = stored("archive/data/0", floats());
  EXPECT_EQ(refusal(make_zip({deflated("archive/data.pkl", std::string(10'000'000, 'N')), data})),
            ErrorKind::Corrupt);
  ZipFile lying = deflated("archive/data.pkl", std::string(100'000, 'N'));
  lying.bytes = 50;
  EXPECT_EQ(refusal(make_zip({lying, data})), ErrorKind::Corrupt) << "it unpacks to more than it says";
  lying.bytes = 200'000;
  EXPECT_EQ(refusal(make_zip({lying, data})), ErrorKind::Corrupt) << "it unpacks to less than it says";
  lying.bytes = 8'000'000;
  EXPECT_EQ(refusal(make_zip({lying, data})), ErrorKind::Corrupt);
  EXPECT_EQ(refusal(make_zip({stored("archive/data.pkl", kPickle), deflated("archive/data/0", floats())})),
            ErrorKind::Unsupported);
}

TEST(HostileZip, WhatIsNotSupportedIsRefused) {
  ZipFile pickle = stored("archive/data.pkl", kPickle);
  const ZipFile data = stored("archive/data/0", floats());
  pickle.flags = 1;
  EXPECT_EQ(refusal(make_zip({pickle, data})), ErrorKind::Unsupported) << "encrypted";
  pickle.flags = 0;
  pickle.method = 12;
  EXPECT_EQ(refusal(make_zip({pickle, data})), ErrorKind::Unsupported) << "bzip2";
  pickle.method = 0;
  EXPECT_EQ(refusal(make_zip({pickle, data, stored("archive/byteorder", "big")})), ErrorKind::Unsupported);
  EXPECT_EQ(refusal(make_zip({pickle, data, stored("archive/byteorder", "little")})), std::nullopt);
  std::string tar(1024, '\0');
  tar.replace(257, 5, "ustar");
  EXPECT_EQ(refusal(tar), ErrorKind::Unsupported);
  EXPECT_EQ(refusal("\x80\2\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19."s), ErrorKind::Unsupported);
}

TEST(HostileZip, OverlapsAreRefused) {
  // Two entries of the directory with one header: the usual way to a small archive that unpacks to much.
  const std::string good =
      make_zip({stored("archive/data.pkl", kPickle), stored("archive/data/0", floats())});
  std::string broken = good;
  const size_t second = broken.rfind("PK\1\2"), first = broken.find("PK\1\2");
  broken.replace(second + 42, 4, broken.substr(first + 42, 4));
  EXPECT_EQ(refusal(broken), ErrorKind::Corrupt);
}

TEST(HostileZip, EveryCutIsRefused) {
  const std::string good = archive_of(kPickle);
  for (size_t bytes = 0; bytes < good.size(); ++bytes) {
    EXPECT_EQ(refusal(good.substr(0, bytes)), ErrorKind::Corrupt) << bytes;
  }
}

TEST(HostileZip, EveryFlippedBytePassesOrIsRefused) {
  std::mt19937 random(5);
  for (const char* name : {"views.ckpt", "lightning.ckpt", "embedding.pt"}) {
    const std::vector<uint8_t> whole = read_file(kFolder + name, 1 << 20);
    for (size_t i = 0; i < whole.size(); ++i) {
      std::string broken(whole.begin(), whole.end());
      broken[i] = static_cast<char>(broken[i] ^ static_cast<char>(1 + random() % 255));
      refusal(broken);
    }
  }
}

TEST(HostileZip, EveryFlippedByteOfThePicklePassesOrIsRefused) {
  std::mt19937 random(6);
  const std::string pickle = pickle_of("}("s + text("x") + tensor(12, 0, {3, 4}, {4, 1}) + text("y") +
                                       tensor(12, 1, {2, 3}, {1, 4}) + "u");
  for (size_t i = 0; i < pickle.size(); ++i) {
    for (int attempt = 0; attempt < 32; ++attempt) {
      std::string broken = pickle;
      broken[i] = static_cast<char>(random());
      refusal(archive_of(broken));
    }
  }
}

}  // namespace
}  // namespace sinopia
