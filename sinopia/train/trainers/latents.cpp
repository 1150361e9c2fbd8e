#include "sinopia/train/trainers/latents.h"

#include <span>
#include <utility>

#include "sinopia/base/error.h"
#include "sinopia/nn/parameters.h"
#include "sinopia/ops/shape.h"
#include "sinopia/train/trainers/batches.h"

namespace sinopia {
namespace {

Tensor values_of(const SizeConditioning& size) {
  const auto values = size.values();
  return Tensor::from(Shape{SizeConditioning::kValues}, std::span<const float>(values));
}

Tensor as_batch_of_one(const Tensor& picture) {
  return picture.reshape({1, picture.dim(0), picture.dim(1), picture.dim(2)});
}

}  // namespace

LatentSource::LatentSource(const TrainingSet& data, const AutoencoderPart& part, const std::string& cache,
                           uint64_t seed, const Placement& placement)
    : data_(data), seed_(seed) {
  SINOPIA_CHECK(cache.empty() || data.is_fixed(), InvalidArgument,
                "[train] data.cache needs pictures that are the same each time: data.crop: center and "
                "data.random_background: false");
  CheckpointParameters parameters(part.tensors, "autoencoder");
  PlacedParameters placed(parameters, placement);
  autoencoder_.emplace(Scope(placed), part.config);
  parameters.finish();
  if (!cache.empty()) cache_.emplace(cache, "latents-" + hash_of_tensors(part.tensors));
}

PictureLatents LatentSource::prepare(const TrainingSet::Batch& batch, int64_t number, bool all_pixels) const {
  PictureLatents result;
  std::vector<Tensor> sizes;
  for (size_t i = 0; i < batch.examples.size(); ++i) {
    const int64_t example = batch.examples[i];
    const auto index = static_cast<int64_t>(i);
    PictureLatents::One& one = result.each.emplace_back();
    if (cache_) {
      one.key = data_.content_key(example, batch.size, data_.mirrored(example, number, index));
      if (auto kept = cache_->find(one.key)) one.kept = std::move(*kept);
    }
    if (!one.kept.empty() && !all_pixels) {
      sizes.push_back(one.kept.at("size"));
      continue;
    }
    const PreparedPicture picture = data_.picture(example, batch.size, number, index);
    one.picture = as_batch_of_one(picture.x);
    sizes.push_back(values_of(picture.size));
  }
  result.sizes = stacked(sizes);
  return result;
}

Tensor LatentSource::sample(const PictureLatents& batch, int64_t number) {
  std::vector<Tensor> means, logvars;
  for (size_t i = 0; i < batch.each.size(); ++i) {
    const PictureLatents::One& one = batch.each[i];
    const auto encode = [&] {
      const DiagonalGaussian latent = autoencoder_->encode(one.picture);
      const auto row = static_cast<int64_t>(i);
      TensorMap made{{"mean", latent.mean},
                     {"size", batch.sizes.slice(row, row + 1).reshape({SizeConditioning::kValues})}};
      if (!latent.certain()) made["logvar"] = latent.logvar;
      return made;
    };
    const TensorMap latent = !one.kept.empty() ? one.kept : cache_ ? cache_->get(one.key, encode) : encode();
    means.push_back(latent.at("mean"));
    if (const auto logvar = latent.find("logvar"); logvar != latent.end()) logvars.push_back(logvar->second);
  }
  const DiagonalGaussian latents{concat(means, 0), logvars.empty() ? Tensor() : concat(logvars, 0)};
  return autoencoder_->to_diffusion(
      latents.sample(drawn_noise(latents.mean.shape(), seed_, Purpose::Posterior, number)));
}

void LatentSource::encode_validation(size_t end) {
  for (size_t i = validation_.size(); i < end; ++i) {
    const PreparedPicture picture = data_.validation_picture(data_.validation()[i]);
    const Tensor z = autoencoder_->to_diffusion(autoencoder_->encode(as_batch_of_one(picture.x)).mean);
    validation_.push_back(z.reshape({z.dim(1), z.dim(2), z.dim(3)}));
    validation_sizes_.push_back(values_of(picture.size));
  }
}

Tensor LatentSource::validation(size_t begin, size_t end) {
  encode_validation(end);
  return stacked(std::span(validation_).subspan(begin, end - begin));
}

Tensor LatentSource::validation_pictures(size_t begin, size_t end) const {
  std::vector<Tensor> pictures;
  for (size_t i = begin; i < end; ++i) pictures.push_back(data_.validation_picture(data_.validation()[i]).x);
  return stacked(pictures);
}

Tensor LatentSource::validation_sizes(size_t begin, size_t end) {
  encode_validation(end);
  return stacked(std::span(validation_sizes_).subspan(begin, end - begin));
}

}  // namespace sinopia
