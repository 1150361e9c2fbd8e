#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>

#include "sinopia/train/metrics/metrics.h"
#include "sinopia/train/progress_view.h"
#include "sinopia/train/recipe/recipe.h"

namespace sinopia {

struct TrainingRunOptions {
  /// After every step.
  std::function<void(const TrainingProgress&)> progress = {};
  /// A line for a person: what the run begins with, validations, checkpoints, files.
  std::function<void(const std::string&)> note = {};
  std::stop_token stop = {};
  int64_t stop_at = 0;  ///< ends with a checkpoint at this step already; 0: at the recipe's last
};

struct TrainingResult {
  int64_t step = 0;         ///< steps taken so far, of the recipe's
  bool finished = false;    ///< whether that is all of them
  Scalars validation = {};  ///< the last one of this call
};

/// Trains as a recipe says, going on from the newest whole checkpoint of its output folder if there is one:
/// bit for bit what a run without a break would have done. Writes there recipe.yaml, checkpoints/,
/// metrics.jsonl, tensorboard/, loss.png, samples/, and at the end model/. When asked to stop it saves a
/// checkpoint first. Throws as the trainers' makers do, Backend when the system refuses (as on a full disk)
/// and when too many steps in a row have no finite gradient; older checkpoints stay whole in any case.
TrainingResult run_training(const Recipe& recipe, const TrainingRunOptions& options = {});

/// Writes the model of a run's newest checkpoint. Throws NotFound if there is none.
void export_trained_model(const Recipe& recipe, const std::filesystem::path& folder);

}  // namespace sinopia
