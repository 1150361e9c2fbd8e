#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "sinopia/train/learning_rate.h"
#include "sinopia/train/loss_weighting.h"
#include "sinopia/train/recipe/fields.h"
#include "sinopia/train/timestep_sampling.h"

namespace sinopia {

enum class TrainedModel { Autoencoder, Diffusion };
enum class CropPlace { Center, Random };
enum class LossKind { Mse, L1, Huber };
enum class OptimizerKind { AdamW, Lion, Adafactor };
