#include "sinopia/train/autoencoder_objective.h"

#include <algorithm>
#include <cmath>

#include "sinopia/autograd/tape.h"
#include "sinopia/backend/kernels.h"
#include "sinopia/ops/activation.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/nearest.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/ops/shape.h"
#include "sinopia/train/codebook_use.h"

namespace sinopia {
namespace {

/// |gradient| of the last convolution's weight for a gradient dy of the picture.
double last_layer_norm(const Tensor& features, const Tensor& dy) {
  Tensor gradient = Tensor::empty({dy.dim(3), features.dim(3), 3, 3}, DType::F32, dy.device());
  kernels(dy.device())
      .conv2d_backward_weight(to_dtype(features, DType::F32), dy, {.stride = 1, .padding = Padding::same(1)},
                              gradient);
  return std::sqrt(kernels(dy.device()).sum_of_squares(gradient));
}

/// What lies between encoder and decoder: what is decoded, and what is added to the loss for it.
struct Bottleneck {
  Tensor latents, penalty;
};

Bottleneck sampled(const DiagonalGaussian& latents, const Tensor& noise, const AutoencoderLossConfig& config,
                   AutoencoderLosses& losses) {
  const Tensor kl = mean_divergence(latents);
  losses.kl = item(kl);
  return {latents.sample(noise), kl * config.kl};
}

Bottleneck quantised(const Codebook& codebook, const Tensor& z, const AutoencoderLossConfig& config,
                     AutoencoderLosses& losses) {
  const Tensor codes = codebook.nearest(z), e = codebook.entries(codes);
  CodebookUse use(codebook.size());
  use.add(codes);
  losses.perplexity = use.perplexity();
  losses.used = use.share_used();
  const double beta = config.commitment;
  const Tensor of_latents = mean(square(without_gradient(e) - z)) * (config.legacy_commitment ? 1 : beta),
               of_entries = mean(square(e - without_gradient(z))) * (config.legacy_commitment ? beta : 1);
  const Tensor loss = of_latents + of_entries;
  losses.codebook = item(loss);
  return {straight_through(e, z), loss * config.codebook};
}

}  // namespace

Tensor mean_divergence(const DiagonalGaussian& latents) {
  const Tensor each = square(latents.mean) + exp(latents.logvar) - latents.logvar - 1.0;
  return sum(each) * (0.5 / static_cast<double>(latents.mean.dim(0)));
}

AutoencoderObjective::AutoencoderObjective(const AutoencoderLossConfig& config,
                                           const PatchDiscriminator* discriminator, const Lpips* lpips)
    : config_(config), discriminator_(discriminator), lpips_(lpips) {
  for (const double weight : {config.l1, config.l2, config.perceptual, config.feature_matching, config.kl,
                              config.codebook, config.commitment, config.adversarial}) {
    SINOPIA_CHECK(weight >= 0, InvalidArgument, "[autoencoder] expected weights of at least 0, got {}",
                  weight);
  }
  SINOPIA_CHECK(config.perceptual == 0 || lpips, InvalidArgument,
                "[autoencoder] a perceptual weight of {} needs VGG16's weights", config.perceptual);
  SINOPIA_CHECK((config.adversarial == 0 && config.feature_matching == 0) || discriminator, InvalidArgument,
                "[autoencoder] adversarial and feature matching weights of {} and {} need a discriminator",
                config.adversarial, config.feature_matching);
}

bool AutoencoderObjective::discriminates(int64_t step) const {
  return discriminator_ &&
         (config_.feature_matching > 0 || (config_.adversarial > 0 && step >= config_.adversarial_from));
}

AutoencoderLosses AutoencoderObjective::autoencoder_pass(const Autoencoder& autoencoder,
                                                         const Tensor& pictures, const Tensor& noise,
                                                         int64_t step) {
  const RecordGradients on;
  AutoencoderLosses losses;
  const DiagonalGaussian encoded = autoencoder.encode(pictures, {checkpoints_});
  const Codebook* codebook = autoencoder.codebook();
  const Bottleneck middle = codebook ? quantised(*codebook, encoded.mean, config_, losses)
                                     : sampled(encoded, noise, config_, losses);
  const Tensor features = autoencoder.decode_features(
      middle.latents, {.quantise = false, .checkpoint_activations = checkpoints_});
  const Tensor picture = to_dtype(autoencoder.to_picture(features), DType::F32);
  reconstruction_ = without_gradient(picture);

  // What each part asks of the picture, of which alone both depend.
  const Tensor seen = make_leaf(reconstruction_);
  const auto N = static_cast<double>(pictures.dim(0));
  const Tensor error = pictures - seen;
  Tensor total = sum(abs(error)) * config_.l1;
  if (config_.l2 > 0) total = total + sum(square(error)) * config_.l2;
  const double elements = static_cast<double>(pictures.numel()) / N;
  if (config_.perceptual > 0) {
    const Tensor distance = lpips_->forward(pictures, seen);
    losses.perceptual = item(mean(distance));
    total = total + sum(distance) * (config_.perceptual * elements);
  }
  if (config_.feature_matching > 0) {
    const PatchDiscriminator judge = discriminator_->frozen();
    std::vector<Tensor> real, fake;
    judge.forward(pictures, &real);
    judge.forward(seen, &fake);
    for (size_t i = 0; i < real.size(); ++i)
      total = total + mean(abs(real[i] - fake[i])) * (config_.feature_matching * elements * N);
  }
  const double counted = codebook ? 1 / elements : 1;  // of the sum over a picture
  total = total * (counted / (std::exp(config_.logvar) * N));
  backward(total);
  losses.reconstruction = item(total) + counted * elements * config_.logvar;
  Tensor dy = gradient_of(seen);

  if (config_.adversarial > 0 && step >= config_.adversarial_from) {
    constexpr double kEps = 1e-4, kLargestBalance = 1e4;
    const Tensor judged = make_leaf(reconstruction_);
    const Tensor generator = -mean(discriminator_->frozen().forward(judged));
    backward(generator);
    losses.generator = item(generator);
    const Tensor opinion = gradient_of(judged);
    losses.balance = std::min(last_layer_norm(features, dy) / (last_layer_norm(features, opinion) + kEps),
                              kLargestBalance);
    dy = dy + opinion * (losses.balance * config_.adversarial);
  }

  losses.total =
      losses.reconstruction + item(middle.penalty) + config_.adversarial * losses.balance * losses.generator;
  backward((sum(picture * dy) + middle.penalty) * loss_scale_);
  return losses;
}

DiscriminatorLosses AutoencoderObjective::discriminator_pass(const Tensor& pictures) const {
  const RecordGradients on;
  const Tensor real = discriminator_->forward(pictures), fake = discriminator_->forward(reconstruction_);
  const Tensor hinge = (mean(relu(1.0 - real)) + mean(relu(fake + 1.0))) * 0.5;
  backward(hinge);
  return {item(hinge), item(mean(without_gradient(real))), item(mean(without_gradient(fake)))};
}

}  // namespace sinopia
