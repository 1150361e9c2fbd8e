#include "sinopia/train/data/aspect_buckets.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "sinopia/base/error.h"
#include "sinopia/train/draws.h"

namespace sinopia {

std::vector<PictureSize> aspect_buckets(const AspectBucketsConfig& config) {
  const auto& [area, multiple, least_share, max_aspect] = config;
  SINOPIA_CHECK(area >= 1 && area <= int64_t{1} << 32 && multiple >= 1 && least_share > 0 &&
                    least_share <= 1 && max_aspect >= 1,
                InvalidArgument,
                "[buckets] expected an area up to 2^32, a multiple from 1, a share in (0,1] and an aspect "
                "from 1, got {}, {}, {} and {}",
                area, multiple, least_share, max_aspect);
  const double least = least_share * static_cast<double>(area);
  const auto longest = static_cast<int64_t>(std::sqrt(static_cast<double>(area) * max_aspect)) + 1;
  std::vector<PictureSize> sizes;
  for (int64_t height = multiple; height <= longest; height += multiple) {
    // Down from the widest that fits, for as long as enough is filled.
    int64_t width = std::min(longest, area / height) / multiple * multiple;
    for (; width > 0 && static_cast<double>(height * width) >= least; width -= multiple) {
      const auto [shorter, longer] = std::minmax(height, width);
      if (static_cast<double>(longer) <= max_aspect * static_cast<double>(shorter))
        sizes.push_back({static_cast<int>(height), static_cast<int>(width)});
    }
  }
  SINOPIA_CHECK(!sizes.empty(), InvalidArgument,
                "[buckets] no size in multiples of {} has {} to {} pixels and an aspect up to {}", multiple,
                least, area, max_aspect);
  std::ranges::sort(sizes, {}, [](const PictureSize& s) { return std::pair(s.height, s.width); });
  return sizes;
}

int nearest_bucket(std::span<const PictureSize> buckets, PictureSize picture) {
  SINOPIA_CHECK(!buckets.empty() && picture.height > 0 && picture.width > 0, InvalidArgument,
                "[buckets] expected sizes and a picture, got {} and {}x{}", buckets.size(), picture.width,
                picture.height);
  const auto area = [](PictureSize s) { return int64_t{s.height} * s.width; };
  // The larger of a/b and b/a for the two aspects, as a fraction of integers: no rounding decides a tie.
  const auto distance = [&](PictureSize s) {
    return std::minmax({int64_t{s.height} * picture.width, int64_t{s.width} * picture.height});
  };
  const auto nearer = [&](PictureSize a, PictureSize b) {
    const auto [a_low, a_high] = distance(a);
    const auto [b_low, b_high] = distance(b);
    const auto left = static_cast<__int128>(a_high) * b_low, right = static_cast<__int128>(b_high) * a_low;
    return left != right ? left < right : area(a) > area(b);
  };
  return static_cast<int>(std::ranges::min_element(buckets, nearer) - buckets.begin());
}

std::vector<BucketBatch> bucket_batches(std::span<const int> bucket_of, int64_t batch, LastBatch last,
                                        uint64_t seed, uint32_t epoch) {
  SINOPIA_CHECK(batch >= 1, InvalidArgument, "[buckets] expected a batch of 1 or more, got {}", batch);
  const int least = bucket_of.empty() ? 0 : std::ranges::min(bucket_of);
  SINOPIA_CHECK(least >= 0, InvalidArgument, "[buckets] expected buckets from 0, got {}", least);
  std::vector<std::vector<int64_t>> members(
      bucket_of.empty() ? 0 : static_cast<size_t>(std::ranges::max(bucket_of)) + 1);
  for (const int64_t i : shuffled(static_cast<int64_t>(bucket_of.size()), seed, epoch))
    members[static_cast<size_t>(bucket_of[static_cast<size_t>(i)])].push_back(i);

  std::vector<BucketBatch> batches;
  const auto size = static_cast<size_t>(batch);
  for (size_t bucket = 0; bucket < members.size(); ++bucket) {
    const std::vector<int64_t>& all = members[bucket];
    for (size_t begin = 0; begin < all.size(); begin += size) {
      const size_t end = begin + size;
      if (end > all.size() && last == LastBatch::Drop) break;
      BucketBatch& next = batches.emplace_back(BucketBatch{static_cast<int>(bucket), {}});
      for (size_t i = begin; i < (last == LastBatch::Fill ? end : std::min(end, all.size())); ++i)
        next.examples.push_back(all[i % all.size()]);
    }
  }
  constexpr uint32_t kOrderOfBatches = 1;
  std::vector<BucketBatch> mixed;
  mixed.reserve(batches.size());
  for (const int64_t i : shuffled(static_cast<int64_t>(batches.size()), seed, epoch, kOrderOfBatches))
    mixed.push_back(std::move(batches[static_cast<size_t>(i)]));
  return mixed;
}

}  // namespace sinopia
