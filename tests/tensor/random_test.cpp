#include "sinopia/tensor/random.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace sinopia {
namespace {

// The tensor layer cannot use the safetensors reader, which lies above it: length, JSON header, bytes.
class Golden {
 public:
  Golden() {
    std::ifstream file(SINOPIA_TEST_DATA "/random/torch.safetensors", std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    uint64_t length = 0;
    if (bytes_.size() > sizeof length) std::memcpy(&length, bytes_.data(), sizeof length);
    header_ = nlohmann::json::parse(bytes_.substr(sizeof length, length));
    data_ = sizeof length + length;
  }
  template <class T>
  std::vector<T> get(const std::string& name) const {
    const size_t begin = header_.at(name).at("data_offsets")[0], end = header_.at(name).at("data_offsets")[1];
    std::vector<T> values((end - begin) / sizeof(T));
    std::memcpy(values.data(), bytes_.data() + data_ + begin, end - begin);
    return values;
  }

 private:
  std::string bytes_;
  nlohmann::json header_;
  size_t data_ = 0;
};

double ulps(float a, float b) {
  return std::abs(static_cast<double>(a) - b) / (std::nextafter(std::abs(b), INFINITY) - std::abs(b));
}

constexpr uint64_t kSeeds[] = {0, 1, 42, 4294967295u, (uint64_t{1} << 40) + 5};

TEST(TorchCpuGenerator, DrawsWhatTorchDraws) {
  const Golden golden;
  for (const uint64_t seed : kSeeds) {
    TorchCpuGenerator generator(seed);
    const std::string prefix = "normal." + std::to_string(seed) + ".";
    const auto check_normal = [&](const std::string& call) {
      const auto expected = golden.get<float>(prefix + call);
      std::vector<float> got(expected.size());
      generator.normal(got);
      for (size_t i = 0; i < got.size(); ++i) {
        if (got.size() >= 16) {
          ASSERT_EQ(got[i], expected[i]) << prefix << call << " at " << i;
        } else {
          ASSERT_LE(ulps(got[i], expected[i]), 1.0) << prefix << call << " at " << i;
        }
      }
    };
    for (int call = 0; call < 9; ++call) check_normal(std::to_string(call));
    std::vector<float> uniform(33);
    generator.uniform(uniform);
    EXPECT_EQ(uniform, golden.get<float>("uniform." + std::to_string(seed)));
    const std::pair<int64_t, int64_t> ranges[] = {
        {0, 1000}, {-5, 2}, {0, int64_t{1} << 31}, {-(int64_t{1} << 62), int64_t{1} << 62}};
    for (int call = 0; call < 4; ++call) {
      std::vector<int64_t> got(9);
      generator.randint(ranges[call].first, ranges[call].second, got);
      EXPECT_EQ(got, golden.get<int64_t>("randint." + std::to_string(seed) + "." + std::to_string(call)));
    }
    check_normal("last");
  }
}

TEST(TorchCpuGenerator, RefusesAnEmptyRange) {
  TorchCpuGenerator generator(0);
  std::vector<int64_t> out(1);
  EXPECT_THROW(generator.randint(3, 3, out), Error);
}

TEST(Randn, DrawsChannelsFirstAndReturnsChannelsLast) {
  TorchCpuGenerator generator(7);
  const Tensor x = randn(generator, {2, 3, 5, 4});
  EXPECT_EQ(x.shape(), (Shape{2, 3, 5, 4}));
  EXPECT_EQ(x.to_vector<float>(), Golden().get<float>("randn_nhwc"));
  EXPECT_THROW(randn(generator, {3, 5, 4}), Error);
}

// The known answers published with Random123 (kat_vectors, philox4x32 10).
TEST(Philox, GivesTheKnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(CudaPhiloxGenerator, AdvancesByCallsAndIndexesByElement) {
  const Golden golden;
  for (const uint64_t seed : {uint64_t{0}, uint64_t{123}, (uint64_t{1} << 33) + 7}) {
    const auto generator = make_generator(RngKind::CudaPhilox, seed);
    for (int offset = 0; offset < 3; ++offset) {
      const auto expected =
          golden.get<float>("philox." + std::to_string(seed) + "." + std::to_string(offset));
      std::vector<float> got(expected.size());
      generator->normal(got);
      for (size_t i = 0; i < got.size(); ++i) ASSERT_LE(ulps(got[i], expected[i]), 1.0);
    }
  }
}

TEST(RngKind, HasNames) {
  EXPECT_EQ(parse_rng_kind("cpu"), RngKind::TorchCpu);
  EXPECT_EQ(parse_rng_kind("cuda"), RngKind::CudaPhilox);
  EXPECT_EQ(parse_rng_kind("gpu"), RngKind::CudaPhilox);
  EXPECT_STREQ(to_string(RngKind::CudaPhilox), "cuda");
  EXPECT_THROW(parse_rng_kind("tpu"), Error);
}

}  // namespace
}  // namespace sinopia
