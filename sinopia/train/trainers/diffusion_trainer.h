#pragma once

#include <memory>

#include "sinopia/train/recipe/recipe.h"
#include "sinopia/train/trainers/trainer.h"

namespace sinopia {

/// Trains a denoiser on an autoencoder's latents, with its text encoder or without. Throws as the readers of
/// its files do, and InvalidArgument for networks that do not fit together.
std::unique_ptr<Trainer> make_diffusion_trainer(const Recipe& recipe);

}  // namespace sinopia
