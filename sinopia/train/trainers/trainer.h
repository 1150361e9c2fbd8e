#pragma once

#include <filesystem>
#include <vector>

#include "sinopia/io/image.h"
#include "sinopia/train/metrics/metrics.h"
#include "sinopia/train/trainers/trained_network.h"

namespace sinopia {

/// What is particular to the training of one kind of model. Everything that a step draws depends on the
/// recipe's seed and the step alone, so that its networks are all that there is to save.
class Trainer {
 public:
  virtual ~Trainer() = default;

  /// Says which step comes next, from 0: once at the beginning of a run and after a resume.
  virtual void start(int64_t step) = 0;
  /// One optimizer step. "loss" is the first of what it tells.
  virtual Scalars step() = 0;
  /// On the pictures for validation, with what result() of the networks is; always the same noise.
  virtual Scalars validate() = 0;
  /// A grid of pictures as the model paints them now; absent (no pixels) if there is nothing to show.
  virtual Image samples() = 0;
  /// The model as it is now, in a folder that other commands read. Replaces an older one.
  virtual void export_model(const std::filesystem::path& folder) = 0;

  virtual std::vector<TrainedNetwork*> networks() = 0;
  virtual StepGuard& guard() = 0;
};

}  // namespace sinopia
