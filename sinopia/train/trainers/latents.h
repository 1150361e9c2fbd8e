#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sinopia/models/checkpoint/parts.h"
#include "sinopia/models/vae/autoencoder.h"
#include "sinopia/train/data/tensor_cache.h"
#include "sinopia/train/trainers/training_set.h"

namespace sinopia {

/// What is known of the latents of a batch before the autoencoder has run.
struct PictureLatents {
  struct One {
    std::string key;  ///< in the cache; empty without one
    TensorMap kept;   ///< what the cache has
    Tensor picture;   ///< [1,H,W,3] where it has nothing, or where pixels are asked for
  };
  std::vector<One> each;
  Tensor sizes;  ///< f32 [N,8]: SizeConditioning::values
};

/// Latents of pictures by an autoencoder that is not trained, kept on the disk if there is a place for them.
/// Pictures are encoded one by one, so that the bits of a latent do not depend on what else was cached.
class LatentSource {
 public:
  /// `data` must outlive this. cache: a folder, or empty. Throws InvalidArgument for a cache of pictures that
  /// are not the same each time.
  LatentSource(const TrainingSet& data, const AutoencoderPart& part, const std::string& cache, uint64_t seed,
               const Placement& placement);

  /// Reads and prepares the pictures that the cache does not have, or all of them. For a thread of its own.
  PictureLatents prepare(const TrainingSet::Batch& batch, int64_t number, bool all_pixels) const;
  /// Latents [N,h,w,C] drawn from what the encoder says, as diffusion takes them.
  Tensor sample(const PictureLatents& batch, int64_t number);
  /// The encoder's means of validation pictures [begin,end), as diffusion takes them, and what they say of
  /// their sizes.
  Tensor validation(size_t begin, size_t end);
  Tensor validation_sizes(size_t begin, size_t end);
  /// Those pictures, [N,H,W,3].
  Tensor validation_pictures(size_t begin, size_t end) const;

  const Autoencoder& autoencoder() const { return *autoencoder_; }

 private:
  void encode_validation(size_t end);

  const TrainingSet& data_;
  uint64_t seed_;
  std::optional<Autoencoder> autoencoder_;
  std::optional<TensorCache> cache_;
  std::vector<Tensor> validation_, validation_sizes_;  // [h,w,C], [6]
};

}  // namespace sinopia
