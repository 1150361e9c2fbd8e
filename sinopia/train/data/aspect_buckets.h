#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sinopia/io/image_size.h"

namespace sinopia {

/// Which sizes pictures are trained at. As it stands: the 40 sizes that SDXL was trained at (Podell et al.
/// 2023, appendix I), and 768x1344 lying and standing, of which that list has one.
struct AspectBucketsConfig {
  int64_t area = 1024 * 1024;  ///< the most pixels
  int multiple = 64;           ///< of both sides
  double least_share = 0.9;    ///< of `area` that a size has to fill, in (0,1]
  double max_aspect = 4;       ///< the longer side by the shorter, from 1
};

/// Every such size, by height and then width. Throws InvalidArgument for fields out of range, and if there is
/// none.
std::vector<PictureSize> aspect_buckets(const AspectBucketsConfig& config);

/// The size whose aspect ratio is nearest to a picture's, as ratios are compared (1:2 is as far from 1:1 as
/// 2:1); of equals the larger. Throws InvalidArgument for no sizes or an empty picture.
int nearest_bucket(std::span<const PictureSize> buckets, PictureSize picture);

/// What becomes of examples of a bucket that do not fill a batch.
enum class LastBatch {
  Drop,  ///< left out of this epoch
  Fill,  ///< filled up with examples of that bucket from the beginning of its order
  Keep,  ///< a smaller batch
};

struct BucketBatch {
  int bucket = 0;
  std::vector<int64_t> examples;
};

/// The batches of an epoch, each of one bucket, in an order that depends on (seed, epoch) alone and mixes the
/// buckets. bucket_of: the bucket of each example, from 0. Throws InvalidArgument for a batch below 1 or a
/// negative bucket.
std::vector<BucketBatch> bucket_batches(std::span<const int> bucket_of, int64_t batch, LastBatch last,
                                        uint64_t seed, uint32_t epoch);

}  // namespace sinopia
