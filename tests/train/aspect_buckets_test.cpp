#include "sinopia/train/data/aspect_buckets.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/base/error.h"
#include "tests/kind_of.h"

namespace sinopia {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using testing::kind_of;

std::vector<int64_t> examples_of(const std::vector<BucketBatch>& batches) {
  std::vector<int64_t> all;
  for (const BucketBatch& batch : batches)
    all.insert(all.end(), batch.examples.begin(), batch.examples.end());
  return all;
}

std::vector<int> random_buckets(size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<int> buckets(count);
  for (int& b : buckets) b = static_cast<int>(engine() % 5 * (engine() % 2));  // uneven
  return buckets;
}

bool same(const std::vector<BucketBatch>& a, const std::vector<BucketBatch>& b) {
  return std::ranges::equal(a, b, [](const BucketBatch& p, const BucketBatch& q) {
    return p.bucket == q.bucket && p.examples == q.examples;
  });
}

// Podell et al. 2023, appendix I, as (height, width).
TEST(AspectBuckets, AreThoseOfSdxl) {
  std::vector<PictureSize> expected;
  for (const auto& [height, width] : std::initializer_list<std::pair<int, int>>{
           {512, 2048}, {512, 1984}, {512, 1920}, {512, 1856}, {576, 1792}, {576, 1728}, {576, 1664},
           {640, 1600}, {640, 1536}, {704, 1472}, {704, 1408}, {704, 1344}, {768, 1344}, {768, 1280},
           {832, 1216}, {832, 1152}, {896, 1152}, {896, 1088}, {960, 1088}, {960, 1024}, {1024, 1024},
           {1024, 960}, {1088, 960}, {1088, 896}, {1152, 896}, {1152, 832}, {1216, 832}, {1280, 768},
           {1344, 768}, {1408, 704}, {1472, 704}, {1536, 640}, {1600, 640}, {1664, 576}, {1728, 576},
           {1792, 576}, {1856, 512}, {1920, 512}, {1984, 512}, {2048, 512}})
    expected.push_back({height, width});
  ASSERT_EQ(expected.size(), 40u);
  expected.push_back({1344, 704});
  const auto by_side = [](const PictureSize& s) { return std::pair(s.height, s.width); };
  std::ranges::sort(expected, {}, by_side);
  EXPECT_THAT(aspect_buckets({}), ElementsAreArray(expected));
}

TEST(AspectBuckets, KeepToWhatIsAsked) {
  for (const int64_t area : {128 * 128, 100 * 130, 512 * 512}) {
    for (const int multiple : {8, 16, 24}) {
      for (const double aspect : {1.5, 2.0, 3.0}) {
        const AspectBucketsConfig config{area, multiple, 0.85, aspect};
        const auto sizes = aspect_buckets(config);
        std::set<std::pair<int, int>> found;
        for (const PictureSize& s : sizes) found.insert({s.height, s.width});
        ASSERT_EQ(found.size(), sizes.size());
        size_t expected = 0;
        for (int h = multiple; h <= 2000; h += multiple) {
          for (int w = multiple; w <= 2000; w += multiple) {
            const bool fits = int64_t{h} * w <= area && h * w >= 0.85 * static_cast<double>(area) &&
                              h <= aspect * w && w <= aspect * h;
            expected += fits;
            EXPECT_EQ(found.contains({h, w}), fits) << h << "x" << w;
          }
        }
        EXPECT_EQ(sizes.size(), expected);
      }
    }
  }
}

TEST(AspectBuckets, RefuseWhatMakesNoSense) {
  using enum ErrorKind;
  const auto kind_for = [](AspectBucketsConfig config) { return kind_of([&] { aspect_buckets(config); }); };
  EXPECT_EQ(kind_for({.area = 100 * 100, .multiple = 64}), InvalidArgument) << "none";
  EXPECT_EQ(kind_for({.area = 0}), InvalidArgument);
  EXPECT_EQ(kind_for({.multiple = 0}), InvalidArgument);
  EXPECT_EQ(kind_for({.least_share = 0}), InvalidArgument);
  EXPECT_EQ(kind_for({.least_share = 1.1}), InvalidArgument);
  EXPECT_EQ(kind_for({.max_aspect = 0.9}), InvalidArgument);
  EXPECT_EQ(aspect_buckets({.least_share = 1, .max_aspect = 1}).size(), 1u);
}

TEST(AspectBuckets, APictureGoesToTheNearestRatio) {
  const auto sizes = aspect_buckets({});
  const auto nearest = [&](int height, int width) {
    return sizes[static_cast<size_t>(nearest_bucket(sizes, {height, width}))];
  };
  EXPECT_EQ(nearest(500, 500), (PictureSize{1024, 1024}));
  EXPECT_EQ(nearest(1080, 1920), (PictureSize{768, 1344}));
  EXPECT_EQ(nearest(4000, 3000), (PictureSize{1152, 896}));  // 4/3 by 9/7 is 1.037, 18/13 by 4/3 is 1.038
  EXPECT_EQ(nearest(1, 1000), (PictureSize{512, 2048}));
  std::mt19937 engine(1);
  for (int i = 0; i < 500; ++i) {
    const int h = 1 + static_cast<int>(engine() % 3000), w = 1 + static_cast<int>(engine() % 3000);
    const auto distance = [&](PictureSize s) {
      return std::abs(std::log(static_cast<double>(s.height) / s.width * w / h));
    };
    const double got = distance(nearest(h, w));
    for (const PictureSize& s : sizes) EXPECT_LE(got, distance(s) + 1e-12);
  }
}

TEST(AspectBuckets, OfEqualRatiosTheLargerIsTaken) {
  const std::vector<PictureSize> sizes{{8, 8}, {16, 16}, {24, 24}, {16, 32}, {32, 16}};
  EXPECT_EQ(nearest_bucket(sizes, {100, 100}), 2);
  const std::vector<PictureSize> two{{10, 20}, {20, 10}};
  EXPECT_EQ(nearest_bucket(two, {7, 7}), 0) << "1:2 is as far as 2:1";
  EXPECT_EQ(kind_of([&] { nearest_bucket({}, {1, 1}); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([&] { nearest_bucket(two, {0, 1}); }), ErrorKind::InvalidArgument);
}

TEST(BucketBatches, TakeEveryExampleOnceAndNeverMixBuckets) {
  const auto buckets = random_buckets(103, 2);
  for (const LastBatch last : {LastBatch::Drop, LastBatch::Fill, LastBatch::Keep}) {
    const auto batches = bucket_batches(buckets, 4, last, 9, 3);
    for (const BucketBatch& batch : batches) {
      EXPECT_TRUE(last == LastBatch::Keep || batch.examples.size() == 4);
      for (const int64_t i : batch.examples) EXPECT_EQ(buckets[static_cast<size_t>(i)], batch.bucket);
    }
    auto all = examples_of(batches);
    std::ranges::sort(all);
    const bool once = std::ranges::adjacent_find(all) == all.end();
    const std::set<int64_t> distinct(all.begin(), all.end());
    EXPECT_EQ(once, last != LastBatch::Fill);
    if (last == LastBatch::Drop) {
      size_t expected = 0;
      for (int b = 0; b < 5; ++b) expected += static_cast<size_t>(std::ranges::count(buckets, b) / 4 * 4);
      EXPECT_EQ(all.size(), expected);
    } else {
      EXPECT_EQ(distinct.size(), buckets.size());
    }
  }
}

TEST(BucketBatches, DependOnSeedAndEpochAlone) {
  const auto buckets = random_buckets(200, 3);
  const auto batches = [&](uint64_t seed, uint32_t epoch) {
    return bucket_batches(buckets, 6, LastBatch::Drop, seed, epoch);
  };
  EXPECT_TRUE(same(batches(1, 0), batches(1, 0)));
  EXPECT_FALSE(same(batches(1, 0), batches(1, 1)));
  EXPECT_FALSE(same(batches(1, 0), batches(2, 0)));
  const auto order = [&](uint32_t epoch) {
    std::vector<int> result;
    for (const BucketBatch& batch : batches(1, epoch)) result.push_back(batch.bucket);
    return result;
  };
  EXPECT_NE(order(0), order(1)) << "buckets come in another order, too";
  // Buckets are mixed over the epoch: the first half has more than one.
  const auto some = batches(1, 0);
  std::set<int> first;
  for (size_t i = 0; i < some.size() / 2; ++i) first.insert(some[i].bucket);
  EXPECT_GT(first.size(), 1u);
}

TEST(BucketBatches, AFewExamplesFillABatchAgainAndAgain) {
  const std::vector<int> buckets{1, 1};
  const auto batches = bucket_batches(buckets, 5, LastBatch::Fill, 1, 0);
  ASSERT_EQ(batches.size(), 1u);
  const auto& e = batches[0].examples;
  EXPECT_THAT(e, ElementsAre(e[0], 1 - e[0], e[0], 1 - e[0], e[0]));
  EXPECT_TRUE(bucket_batches(buckets, 5, LastBatch::Drop, 1, 0).empty());
  EXPECT_TRUE(bucket_batches({}, 5, LastBatch::Fill, 1, 0).empty());
  EXPECT_EQ(kind_of([&] { bucket_batches(buckets, 0, LastBatch::Drop, 1, 0); }), ErrorKind::InvalidArgument);
  const std::vector<int> negative{0, -1};
  EXPECT_EQ(kind_of([&] { bucket_batches(negative, 1, LastBatch::Drop, 1, 0); }), ErrorKind::InvalidArgument);
}

}  // namespace
}  // namespace sinopia
