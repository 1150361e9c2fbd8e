#pragma once

#include <memory>

#include "sinopia/train/recipe/recipe.h"
#include "sinopia/train/trainers/trainer.h"

namespace sinopia {

/// Trains an autoencoder, with a discriminator where the loss asks for one. Throws as the readers of its
/// files do.
std::unique_ptr<Trainer> make_autoencoder_trainer(const Recipe& recipe);

}  // namespace sinopia
