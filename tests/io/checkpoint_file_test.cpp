#include "sinopia/io/checkpoint_file.h"

#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <zlib.h>

#include "sinopia/io/file.h"
#include "sinopia/io/json_file.h"
#include "sinopia/io/safetensors.h"
#include "tests/kind_of.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

namespace fs = std::filesystem;
using testing::kind_of;
using testing::TemporaryFolder;

const std::string kGolden = SINOPIA_TEST_DATA "/io/";

TensorFile random_file(int tensors, uint32_t seed) {
  TensorFile file;
  std::mt19937 random(seed);
  for (int i = 0; i < tensors; ++i) {
    std::vector<float> values(5 + static_cast<size_t>(i) % 7);
    for (float& value : values) value = static_cast<float>(random());
    file.tensors[fmt::format("t{}", i)] = Tensor::from({static_cast<int64_t>(values.size())}, values);
  }
  file.metadata["format"] = "pt";
  return file;
}

void expect_equal(const TensorFile& a, const TensorFile& b) {
  EXPECT_EQ(a.metadata, b.metadata);
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, tensor] : a.tensors) {
    ASSERT_TRUE(b.tensors.contains(name)) << name;
    EXPECT_EQ(tensor.to_vector<float>(), b.tensors.at(name).to_vector<float>()) << name;
  }
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

void write_index(const fs::path& path, const std::map<std::string, std::string>& map) {
  write_file(path, nlohmann::json{{"weight_map", map}}.dump());
}

TEST(TensorFile, IsToldByItsContent) {
  const TemporaryFolder folder;
  fs::copy_file(kGolden + "all.safetensors", folder / "model.ckpt");
  fs::copy_file(kGolden + "ckpt/views.ckpt", folder / "model.safetensors");
  EXPECT_TRUE(read_tensor_file(folder / "model.ckpt").tensors.contains("scalar"));
  EXPECT_TRUE(read_tensor_file(folder / "model.safetensors").tensors.contains("stepped"));
  EXPECT_EQ(kind_of([] { read_tensor_file(kGolden + "ckpt/refused_older.ckpt"); }), ErrorKind::Unsupported);

  const auto refusal = [&](const std::string& content) {
    write_file(folder / "x", content);
    return kind_of([&] { read_tensor_file(folder / "x"); });
  };
  EXPECT_EQ(refusal(""), ErrorKind::Corrupt);
  EXPECT_EQ(refusal("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), ErrorKind::Corrupt);
  EXPECT_EQ(refusal("<!DOCTYPE html><html></html>"), ErrorKind::Corrupt);
  EXPECT_EQ(refusal("GGUF\3"), ErrorKind::Corrupt);
  EXPECT_EQ(refusal("PK"), ErrorKind::Corrupt);
  EXPECT_EQ(kind_of([&] { read_tensor_file(folder.path()); }), ErrorKind::InvalidArgument);
}

TEST(Sharded, ReadsWhatDiffusersWrites) {
  const auto expected = nlohmann::json::parse(std::ifstream(kGolden + "sharded.json"));
  for (const char* variant : {"", "fp16"}) {
    const TensorFile file = read_component(kGolden + "sharded", variant);
    ASSERT_EQ(file.tensors.size(), expected.size());
    for (const auto& [name, row] : expected.items()) {
      ASSERT_TRUE(file.tensors.contains(name)) << name;
      const Tensor& x = file.tensors.at(name);
      EXPECT_EQ(crc32(0, static_cast<const Bytef*>(x.raw()), static_cast<uInt>(x.bytes())),
                row[2].get<uint32_t>());
    }
  }
}

TEST(Sharded, ReadsWhatItWrites) {
  const TemporaryFolder folder;
  const TensorFile file = random_file(40, 1);
  write_sharded(folder.path(), "model", file, 200);
  EXPECT_GT(names_in(folder.path()).size(), 5u);
  for (const std::string& name : names_in(folder.path())) {
    if (name.ends_with(".json")) continue;
    size_t bytes = 0;
    for (const auto& [key, tensor] : read_safetensors(folder / name).tensors) bytes += tensor.bytes();
    EXPECT_LE(bytes, 200u) << name;
  }
  EXPECT_EQ(find_weights(folder.path()), folder / "model.safetensors.index.json");
  expect_equal(read_component(folder.path()), file);
  EXPECT_EQ(read_json_file(folder / "model.safetensors.index.json")["metadata"]["total_size"],
            40 * 4 * 8 - 4 * 5);
}

TEST(Sharded, ATensorAboveTheLimitHasAShardOfItsOwn) {
  const TemporaryFolder folder;
  write_sharded(folder.path(), "model", random_file(3, 1), 1);
  EXPECT_EQ(names_in(folder.path()),
            (std::vector<std::string>{"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                                      "model-00003-of-00003.safetensors", "model.safetensors.index.json"}));
}

TEST(Sharded, AnotherSaveReplacesTheFirst) {
  const TemporaryFolder folder;
  write_file(folder / "model-notes.safetensors", std::string_view("kept"));
  write_sharded(folder.path(), "model", random_file(40, 1), 200);
  const TensorFile second = random_file(30, 2), third = random_file(20, 3);
  write_sharded(folder.path(), "model", second);
  EXPECT_EQ(names_in(folder.path()),
            (std::vector<std::string>{"model-notes.safetensors", "model.safetensors"}));
  expect_equal(read_component(folder.path()), second);
  write_sharded(folder.path(), "model", third, 300);
  EXPECT_FALSE(fs::exists(folder / "model.safetensors"));
  expect_equal(read_component(folder.path()), third);
}

TEST(Sharded, NoPathLeavesTheFolder) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "inner");
  write_safetensors(folder / "secret.safetensors", random_file(1, 1));
  const fs::path index = folder.path() / "inner" / "model.safetensors.index.json";
  for (const std::string& name :
       {std::string("../secret.safetensors"), (folder / "secret.safetensors").string(), std::string(".."),
        std::string("."), std::string(), std::string("a/b"), std::string("..\\secret.safetensors"),
        std::string("a\0b", 3)}) {
    write_index(index, {{"t0", name}});
    EXPECT_EQ(kind_of([&] { read_sharded(index); }), ErrorKind::Corrupt) << name;
  }
}

TEST(Sharded, EveryTensorIsInItsShardOnce) {
  const TemporaryFolder folder;
  TensorFile both = random_file(2, 1), first = both, second = both;
  first.tensors.erase("t1");
  second.tensors.erase("t0");
  write_safetensors(folder / "a", first);
  write_safetensors(folder / "b", second);
  write_safetensors(folder / "both", both);
  const fs::path index = folder / "x.index.json";
  write_index(index, {{"t0", "a"}, {"t1", "b"}});
  expect_equal(read_sharded(index), both);
  write_index(index, {{"t0", "a"}, {"t1", "a"}});
  EXPECT_EQ(kind_of([&] { read_sharded(index); }), ErrorKind::Corrupt) << "not in its shard";
  write_index(index, {{"t0", "a"}, {"t1", "both"}});
  EXPECT_EQ(kind_of([&] { read_sharded(index); }), ErrorKind::Corrupt) << "in two shards";
  write_index(index, {{"t0", "a"}, {"t1", "missing"}});
  EXPECT_EQ(kind_of([&] { read_sharded(index); }), ErrorKind::NotFound);
  for (const char* text : {"", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{"t0":1}})",
                           R"({"weight_map":{"t0":"a","t0":"a"}})"}) {
    write_file(index, std::string_view(text));
    EXPECT_EQ(kind_of([&] { read_sharded(index); }), ErrorKind::Corrupt) << text;
  }
}

TEST(FindWeights, KnowsTheUsualNames) {
  const TemporaryFolder folder;
  EXPECT_EQ(kind_of([&] { find_weights(folder.path()); }), ErrorKind::NotFound);
  EXPECT_EQ(kind_of([&] { find_weights(folder / "missing"); }), ErrorKind::NotFound);
  EXPECT_EQ(kind_of([&] { find_weights(folder.path(), "../x"); }), ErrorKind::InvalidArgument);
  // Each that is added counts before those that were there.
  for (const char* name : {"pytorch_model.fp16.bin", "model.fp16.safetensors", "pytorch_model.bin",
                           "diffusion_pytorch_model.bin", "model.safetensors", "model.safetensors.index.json",
                           "diffusion_pytorch_model.safetensors"}) {
    write_file(folder / name, std::string_view("x"));
    EXPECT_EQ(find_weights(folder.path()), folder / name);
  }
  EXPECT_EQ(find_weights(folder.path(), "fp16"), folder / "model.fp16.safetensors");
  write_file(folder / "model.safetensors.index.fp16.json", std::string_view("x"));
  EXPECT_EQ(find_weights(folder.path(), "fp16"), folder / "model.safetensors.index.fp16.json");
  EXPECT_EQ(kind_of([&] { find_weights(folder.path(), "bf16"); }), ErrorKind::NotFound);
}

TEST(JsonFile, IsBounded) {
  EXPECT_EQ(parse_json(R"({"a":[1,2.5,"x"]})")["a"][2], "x");
  EXPECT_EQ(parse_json(std::string(64, '[') + std::string(64, ']')).size(), 1u);
  for (const std::string& text :
       {std::string(65, '[') + std::string(65, ']'), std::string(1'000'000, '['),
        std::string("{\"a\":1,\"a\":2}"), std::string("{"), std::string(), std::string("1e400"),
        std::string("\"\xff\""), std::string("NaN"), std::string("{} {}")}) {
    EXPECT_EQ(kind_of([&] { parse_json(text); }), ErrorKind::Corrupt) << text.substr(0, 80);
  }
}

}  // namespace
}  // namespace sinopia
