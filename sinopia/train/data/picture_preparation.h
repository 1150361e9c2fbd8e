#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "sinopia/io/image.h"
#include "sinopia/io/image_resize.h"
#include "sinopia/io/image_size.h"
#include "sinopia/tensor/tensor.h"

namespace sinopia {

enum class Cropping { Center, Random };

struct PicturePreparation {
  Resampling resampling = Resampling::Lanczos;  ///< Box is the mean over areas
  Cropping cropping = Cropping::Center;
  /// Pixels of a picture's shorter side before it is cropped, where that is more than the target needs.
  int shorter_side = 0;
  double flip_probability = 0;  ///< of being mirrored left to right, in [0,1]
  /// Under transparent pictures. Absent: every picture gets a plain colour of its own, drawn evenly.
  std::optional<Color> background = Color{};
};

/// An example's sizes in pixels. SDXL is told of the first three (Podell et al. 2023, sections 2.2 and 2.3).
struct SizeConditioning {
  PictureSize original;             ///< of the file
  int crop_top = 0, crop_left = 0;  ///< of the crop, in the picture as it was resized and mirrored
  PictureSize target;               ///< of the crop
  PictureSize resized;              ///< of the picture that was cropped

  static constexpr int64_t kTold = 6, kValues = 8;
  /// Original height and width, crop top and left, target height and width, the kTold of a model's input in
  /// its order; resized height and width.
  std::array<float, kValues> values() const;
  static SizeConditioning from_values(const std::array<float, kValues>& values);
};

struct PreparedPicture {
  Tensor x;  ///< f32 [H,W,3] in [-1,1]
  SizeConditioning size;
  bool flipped = false;
};

/// Lays the picture over the background, resizes it to the least size of its own aspect ratio that covers
/// `target` and has at least that shorter side, mirrors it if drawn and if `mirror`, and crops. What is drawn
/// depends on (seed, step, index) alone, each in a stream of its own: Background, Flip, Crop. Throws
/// InvalidArgument for options out of range, an empty target, and a picture so narrow that, resized, it would
/// have more than kMaxImagePixels.
PreparedPicture prepare_picture(const Image& picture, PictureSize target, const PicturePreparation& options,
                                bool mirror, uint64_t seed, uint32_t step, uint32_t index = 0);

/// Whether prepare_picture mirrors this one.
bool draws_flip(const PicturePreparation& options, bool mirror, uint64_t seed, uint32_t step,
                uint32_t index = 0);

/// The least size of a picture's aspect ratio, to the nearest pixel, that covers `target`.
PictureSize covering_size(PictureSize picture, PictureSize target);

/// The picture mirrored left to right.
Image flipped(const Image& image);

}  // namespace sinopia
