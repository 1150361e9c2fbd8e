#pragma once

#include <optional>

#include "sinopia/models/discriminator/patch_discriminator.h"
#include "sinopia/models/lpips/lpips.h"
#include "sinopia/models/vae/autoencoder.h"

namespace sinopia {

/// What an autoencoder is trained on (Rombach et al. 2022, appendix G; Esser et al. 2021). Every weight may
/// be 0. Errors are summed over the elements of a picture, and sums are means over the batch; where latents
/// are entries of a codebook, errors are means over the elements, as in that reference.
struct AutoencoderLossConfig {
  double l1 = 1, l2 = 0;        ///< of each element's error and its square
  double perceptual = 1;        ///< of LPIPS, added to the error of every element
  double feature_matching = 0;  ///< of the discriminator's features, likewise: where no VGG16 is at hand
  double logvar = 0;            ///< of the picture given the latent: the error counts 1 / e^logvar
  double kl = 1e-6;             ///< of the latent's divergence from a standard normal one, summed over it
  double codebook = 1;          ///< in its place with a codebook: of mean((e - z)^2), once for the entries e
                                ///< and once for the latents z
  double commitment = 0.25;     ///< what the latents' part counts beside the entries', beta
  bool legacy_commitment = true;     ///< as the reference has it by default: beta is the entries' instead
  double adversarial = 0.5;          ///< of the discriminator's opinion, times a balance of gradients
  int64_t adversarial_from = 50001;  ///< the step at which it begins
};

struct AutoencoderLosses {
  double total = 0;           ///< what is minimised
  double reconstruction = 0;  ///< error and perceptual part, with logvar
  double perceptual = 0;      ///< LPIPS, the batch's mean
  double kl = 0;              ///< 0 with a codebook
  double codebook = 0;        ///< both parts, before its weight; 0 without one, as are the next two
  double perplexity = 0;      ///< of the batch's codes
  double used = 0;            ///< the share of entries among them
  double generator = 0;       ///< minus the mean logit of the reconstructions
  double balance = 0;  ///< |gradient of the reconstruction| / |gradient of the generator| where it ends
};

struct DiscriminatorLosses {
  double total = 0;           ///< half the hinge losses of both
  double real = 0, fake = 0;  ///< mean logits
};

/// The divergence of latents [N,H,W,C] from N(0,1), summed over a picture, the mean over N.
Tensor mean_divergence(const DiagonalGaussian& latents);

/// The two losses of an autoencoder and its discriminator. Their backward passes bring the gradients to the
/// leaves that each is made of; nothing else keeps any. The autoencoder may have either bottleneck.
/// Reference: latent-diffusion, ldm/modules/losses/contperceptual.py and vqperceptual.py, but that the
/// discriminator sees the reconstruction that the autoencoder was trained on, where they make another one.
class AutoencoderObjective {
 public:
  /// `discriminator` and `lpips` may be null if nothing that needs them has a weight, and must stay.
  /// Throws InvalidArgument for weights below 0, and for one whose network is missing.
  AutoencoderObjective(const AutoencoderLossConfig& config, const PatchDiscriminator* discriminator,
                       const Lpips* lpips);

  /// What the loss counts times on its way back through the autoencoder, whose gradients are to be divided by
  /// it.
  void scale_loss(double scale) { loss_scale_ = scale; }
  /// Less memory for a second forward pass of each block of the autoencoder.
  void checkpoint_activations(bool on) { checkpoints_ = on; }

  /// pictures [N,H,W,3] in [-1,1], whole latent cells; noise N(0,1) of the latents' shape, not looked at with
  /// a codebook. Leaves the reconstruction in reconstruction().
  AutoencoderLosses autoencoder_pass(const Autoencoder& autoencoder, const Tensor& pictures,
                                     const Tensor& noise, int64_t step);
  /// Whether the discriminator learns at this step.
  bool discriminates(int64_t step) const;
  /// Of the same pictures and their reconstruction.
  DiscriminatorLosses discriminator_pass(const Tensor& pictures) const;

  /// Of the last autoencoder_pass, without a past.
  const Tensor& reconstruction() const { return reconstruction_; }

 private:
  AutoencoderLossConfig config_;
  const PatchDiscriminator* discriminator_;
  const Lpips* lpips_;
  bool checkpoints_ = false;
  double loss_scale_ = 1;
  Tensor reconstruction_;
};

}  // namespace sinopia
