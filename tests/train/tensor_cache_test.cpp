#include "sinopia/train/data/tensor_cache.h"

#include <fstream>
#include <random>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/base/log.h"
#include "sinopia/io/file.h"
#include "sinopia/io/sha256.h"
#include "tests/file_size_limit.h"
#include "tests/kind_of.h"
#include "tests/reference.h"
#include "tests/temporary_folder.h"

namespace sinopia {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::kind_of;
using testing::random_tensor;
using testing::same_bits;
using testing::TemporaryFolder;

std::string hash_of(int i) {
  const auto text = std::to_string(i);
  return sha256_hex_of_text(text);
}

TensorMap tensors_of(unsigned seed) {
  Tensor latent = random_tensor({3, 5, 4}, seed);
  latent.data<float>()[1] = -0.0f;
  latent.data<float>()[2] = NAN;
  return {{"latent", latent}, {"pooled", testing::stored_as(random_tensor({7}, seed + 1), DType::BF16)}};
}

bool same(const TensorMap& a, const TensorMap& b) {
  return std::ranges::equal(
      a, b, [](const auto& p, const auto& q) { return p.first == q.first && same_bits(p.second, q.second); });
}

TensorMap must_not_be_made() {
  ADD_FAILURE() << "made again";
  return {};
}

fs::path file_of(const TemporaryFolder& folder, int i) {
  return folder / ("vae/" + hash_of(i).substr(0, 2) + "/" + hash_of(i) + ".safetensors");
}

TEST(TensorCache, GivesBackWhatWasMadeBitForBit) {
  const TemporaryFolder folder;
  {
    TensorCache cache(folder.path(), "vae");
    for (int i = 0; i < 5; ++i)
      EXPECT_TRUE(same(cache.get(hash_of(i), [&] { return tensors_of(i); }), tensors_of(i)));
    EXPECT_EQ(cache.find(hash_of(9)), std::nullopt);
  }
  TensorCache cache(folder.path(), "vae");
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(same(cache.get(hash_of(i), must_not_be_made), tensors_of(i)));
  uint64_t bytes = 0;
  for (int i = 0; i < 5; ++i) bytes += fs::file_size(file_of(folder, i));
  EXPECT_EQ(cache.bytes(), bytes);
}

TEST(TensorCache, KeepsMakersApart) {
  const TemporaryFolder folder;
  TensorCache one(folder.path(), "vae"), other(folder.path(), "vae-f16");
  one.get(hash_of(0), [] { return tensors_of(1); });
  other.get(hash_of(0), [] { return tensors_of(2); });
  EXPECT_TRUE(same(*one.find(hash_of(0)), tensors_of(1)));
  EXPECT_TRUE(same(*other.find(hash_of(0)), tensors_of(2)));
}

TEST(TensorCache, MakesADamagedEntryAgainWithAWarning) {
  const TemporaryFolder folder;
  TensorCache(folder.path(), "vae").get(hash_of(0), [] { return tensors_of(1); });
  const fs::path file = file_of(folder, 0);
  const std::string whole = read_text_file(file, 1 << 20);
  std::vector<std::string> warnings;
  const LogSink before = set_log_sink([&](LogLevel level, std::string_view text) {
    if (level == LogLevel::Warning) warnings.emplace_back(text);
  });
  // Cut anywhere, or with any bit changed.
  std::mt19937 engine(1);
  for (int round = 0; round < 120; ++round) {
    std::string damaged = whole;
    if (round % 3 == 0) {
      damaged.resize(engine() % whole.size());
    } else {
      damaged[engine() % whole.size()] ^= static_cast<char>(1 << engine() % 8);
    }
    std::ofstream(file, std::ios::binary) << damaged;
    TensorCache cache(folder.path(), "vae");
    warnings.clear();
    int made = 0;
    const TensorMap got = cache.get(hash_of(0), [&] {
      ++made;
      return tensors_of(1);
    });
    ASSERT_TRUE(same(got, tensors_of(1))) << round;
    // The changed bit may be in what only a reader of the file's metadata would see.
    if (made == 0) continue;
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_THAT(warnings[0], HasSubstr(hash_of(0)));
    EXPECT_EQ(read_text_file(file, 1 << 20), whole);
    EXPECT_EQ(cache.bytes(), whole.size());
  }
  set_log_sink(before);
}

TEST(TensorCache, StopsAtItsLimit) {
  const TemporaryFolder folder;
  uint64_t one = 0;
  {
    TensorCache cache(folder.path(), "vae");
    cache.get(hash_of(0), [] { return tensors_of(0); });
    one = cache.bytes();
  }
  for (const uint64_t limit : {3 * one + one / 2, 4 * one - 1, 3 * one}) {
    TensorCache cache(folder.path(), "vae", limit);
    for (int i = 0; i < 8; ++i)
      EXPECT_TRUE(same(cache.get(hash_of(i), [&] { return tensors_of(i); }), tensors_of(i)));
    EXPECT_LE(cache.bytes(), limit);
    for (int i = 0; i < 8; ++i) EXPECT_EQ(cache.find(hash_of(i)).has_value(), i < 3) << limit;
  }
  TensorCache none(folder.path(), "other", 0);
  none.get(hash_of(0), [] { return tensors_of(0); });
  EXPECT_EQ(none.find(hash_of(0)), std::nullopt);
}

TEST(TensorCache, LeavesNothingWhenMakingOrWritingFails) {
  const TemporaryFolder folder;
  TensorCache cache(folder.path(), "vae");
  EXPECT_EQ(kind_of([&] { cache.get(hash_of(0), []() -> TensorMap { fail(ErrorKind::Cancelled, "no"); }); }),
            ErrorKind::Cancelled);
  {
    const testing::FileSizeLimit limit(100);
    EXPECT_EQ(kind_of([&] { cache.get(hash_of(0), [] { return tensors_of(0); }); }), ErrorKind::Backend);
  }
  EXPECT_EQ(cache.find(hash_of(0)), std::nullopt);
  EXPECT_EQ(cache.bytes(), 0u);
  for (const auto& entry : fs::recursive_directory_iterator(folder.path()))
    EXPECT_FALSE(entry.is_regular_file()) << entry.path();
  cache.get(hash_of(0), [] { return tensors_of(0); });
  EXPECT_TRUE(same(cache.get(hash_of(0), must_not_be_made), tensors_of(0)));
}

TEST(TensorCache, ServesSeveralThreads) {
  const TemporaryFolder folder;
  TensorCache cache(folder.path(), "vae");
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 12; ++i) {
        const int which = (i * 5 + t) % 12;
        const auto seed = static_cast<unsigned>(which);
        wrong += !same(cache.get(hash_of(which), [&] { return tensors_of(seed); }), tensors_of(seed));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(cache.bytes(), TensorCache(folder.path(), "vae").bytes());
}

TEST(TensorCache, RefusesNamesThatAreNone) {
  const TemporaryFolder folder;
  for (const std::string maker : {"", "..", "a/b", ".hidden", "a b"})
    EXPECT_EQ(kind_of([&] { TensorCache(folder.path(), maker); }), ErrorKind::InvalidArgument) << maker;
  TensorCache cache(folder.path(), "vae");
  for (const std::string& hash :
       {std::string(), std::string("ab"), std::string(64, 'A'), std::string("../").append(61, 'a')})
    EXPECT_EQ(kind_of([&] { cache.find(hash); }), ErrorKind::InvalidArgument) << hash;
  write_file(folder / "file", std::string_view("x"));
  EXPECT_EQ(kind_of([&] { TensorCache(folder / "file", "vae"); }), ErrorKind::Backend);
}

}  // namespace
}  // namespace sinopia
