#include "sinopia/train/trainers/training_run.h"

#include <algorithm>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sinopia/base/clock.h"
#include "sinopia/base/error.h"
#include "sinopia/io/file.h"
#include "sinopia/io/json_file.h"
#include "sinopia/tensor/allocator.h"
#include "sinopia/train/loss_plot.h"
#include "sinopia/train/run_checkpoints.h"
#include "sinopia/train/smoothing.h"
#include "sinopia/train/trainers/autoencoder_trainer.h"
#include "sinopia/train/trainers/diffusion_trainer.h"

namespace sinopia {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<Trainer> make_trainer(const Recipe& recipe) {
  return recipe.model == TrainedModel::Autoencoder ? make_autoencoder_trainer(recipe)
                                                   : make_diffusion_trainer(recipe);
}

RunCheckpoints checkpoints_of(const Recipe& recipe) {
  return RunCheckpoints(fs::path(recipe.output) / "checkpoints", static_cast<int>(recipe.checkpoints.keep),
                        recipe.checkpoints.keep_every);
}

void write_checkpoint(Trainer& trainer, int64_t step, const fs::path& folder) {
  for (const TrainedNetwork* network : trainer.networks()) network->write(folder);
  nlohmann::ordered_json state{{"step", step},
                               {"skipped", trainer.guard().skipped()},
                               {"skipped_in_a_row", trainer.guard().skipped_in_a_row()}};
  if (const LossScale* scale = trainer.guard().scale()) {
    state["loss_scale"] = scale->value();
    state["steps_at_loss_scale"] = scale->steps_at_value();
  }
  write_file(folder / "run.json", std::string_view(state.dump(2) + "\n"));
}

/// The step to go on with.
int64_t read_checkpoint_folder(Trainer& trainer, const RunCheckpoints::Entry& entry) {
  constexpr size_t kLargest = 1 << 20;
  const auto state =
      nlohmann::json::parse(read_text_file(entry.folder / "run.json", kLargest), nullptr, false);
  const auto count = [&](const char* name) {
    const bool whole = state.is_object() && state.contains(name) && state[name].is_number_integer();
    SINOPIA_CHECK(whole && state[name] >= 0, Corrupt, "[train] '{}' has no {}",
                  (entry.folder / "run.json").string(), name);
    return state[name].get<int64_t>();
  };
  SINOPIA_CHECK(count("step") == entry.step, Corrupt, "[train] '{}' is of step {}", entry.folder.string(),
                count("step"));
  for (TrainedNetwork* network : trainer.networks()) network->read(entry.folder);
  trainer.guard().restore(count("skipped"), count("skipped_in_a_row"));
  // A run that computed in another type before has none: then it begins anew.
  if (LossScale* scale = trainer.guard().scale(); scale && state.contains("loss_scale")) {
    SINOPIA_CHECK(state["loss_scale"].is_number(), Corrupt, "[train] '{}' has no sound loss_scale",
                  (entry.folder / "run.json").string());
    scale->restore(state["loss_scale"].get<double>(), count("steps_at_loss_scale"));
  }
  return entry.step;
}

/// The chart of what has been logged.
void plot(const fs::path& folder, const std::string& title) {
  LossSeries training{"training", {}, {}}, validation{"validation", {}, {}};
  for (const StepScalars& line : read_json_lines_metrics(folder / "metrics.jsonl")) {
    for (const auto& [name, value] : line.values) {
      LossSeries* const series = name == "loss"              ? &training
                                 : name == "validation/loss" ? &validation
                                                             : nullptr;
      if (!series) continue;
      series->steps.push_back(static_cast<double>(line.step));
      series->values.push_back(value);
    }
  }
  // Far apart as they are, validations are shown as they came.
  write_image(folder / "loss.png", plot_losses(std::vector<LossSeries>{training, validation},
                                               {.title = title, .logarithmic = true, .smoothing = 0.9}));
}

class Run {
 public:
  Run(const Recipe& recipe, const TrainingRunOptions& options)
      : recipe_(recipe), options_(options), folder_(recipe.output) {}

  TrainingResult operator()() {
    make_folder(folder_);
    for (const fs::path& written : {folder_, folder_ / "samples"}) remove_unfinished(written);
    const RunCheckpoints checkpoints = checkpoints_of(recipe_);
    trainer_ = make_trainer(recipe_);
    int64_t step = 0;
    if (const auto newest = checkpoints.newest()) {
      step = read_checkpoint_folder(*trainer_, *newest);
      note(fmt::format("going on from step {} of {}", step, recipe_.steps));
    }
    note_recipe();
    metrics_.push_back(json_lines_metrics(folder_ / "metrics.jsonl", step + 1));
    metrics_.push_back(tensorboard_metrics(folder_ / "tensorboard", step + 1));

    const int64_t end = options_.stop_at > 0 ? std::min(options_.stop_at, recipe_.steps) : recipe_.steps;
    if (step < end) trainer_->start(step);
    rate_.update(clock_.seconds(), static_cast<double>(step));
    int64_t saved = step;
    const auto save = [&] {
      if (saved == step) return;
      checkpoints.save(step, [&](const fs::path& into) { write_checkpoint(*trainer_, step, into); });
      saved = step;
    };
    while (step < end && !options_.stop.stop_requested()) {
      take_step(step++);
      const bool last = step == recipe_.steps;
      if (is_due(recipe_.report.validation_every, step) || (last && recipe_.report.validation_every > 0))
        validate(step);
      if (is_due(recipe_.report.samples_every, step) || (last && recipe_.report.samples_every > 0))
        show_samples(step);
      if (is_due(recipe_.checkpoints.every, step)) save();
      rate_.skip_to(clock_.seconds());
    }
    save();
    result_.step = step;
    result_.finished = step == recipe_.steps;
    plot(folder_, folder_.filename().string());
    if (result_.finished) {
      trainer_->export_model(folder_ / "model");
      note(fmt::format("the model is in {}", (folder_ / "model").string()));
    } else {
      note(fmt::format("stopped after step {} of {}; the same command goes on from there", step,
                       recipe_.steps));
    }
    return result_;
  }

 private:
  static bool is_due(int64_t every, int64_t step) { return every > 0 && step % every == 0; }

  void note(const std::string& text) const {
    if (options_.note) options_.note(text);
  }

  void note_recipe() const {
    constexpr size_t kLargest = 1 << 20;
    const fs::path file = folder_ / "recipe.yaml";
    const std::string text = recipe_to_yaml(recipe_);
    if (fs::exists(file) && read_text_file(file, kLargest) != text)
      note("the recipe is not the one that this run began with; what follows goes by the new one");
    write_file(file, std::string_view(text));
  }

  void take_step(int64_t step) {
    const Scalars scalars = trainer_->step();
    loss_.add(scalars.front().second);
    const StepGuard& guard = trainer_->guard();
    SINOPIA_CHECK(guard.skipped_in_a_row() < recipe_.optimizer.skipped_in_a_row, Backend,
                  "[train] {} steps in a row, up to step {}, had no finite gradient: a lower learning rate, "
                  "or a longer warm-up, may help; the checkpoints are of before",
                  guard.skipped_in_a_row(), step + 1);
    const int64_t taken = step + 1;
    rate_.update(clock_.seconds(), static_cast<double>(taken));
    if (is_due(recipe_.report.log_every, taken) || taken == recipe_.steps) {
      Scalars logged = scalars;
      if (guard.skipped() > 0) logged.emplace_back("skipped_steps", static_cast<double>(guard.skipped()));
      for (auto& writer : metrics_) writer->scalars(taken, logged);
    }
    if (!options_.progress) return;
    TrainingProgress progress;
    progress.step = taken;
    progress.steps = recipe_.steps;
    progress.loss = loss_.value();
    for (const auto& [name, value] : scalars)
      if (name == "learning_rate") progress.learning_rate = value;
    progress.samples_per_second = rate_.rate() * static_cast<double>(recipe_.batch * recipe_.accumulate);
    progress.seconds_left = rate_.seconds_for(static_cast<double>(recipe_.steps - taken));
    progress.memory_bytes = allocator({}).stats().peak;
    progress.skipped = guard.skipped();
    options_.progress(progress);
  }

  void validate(int64_t step) {
    result_.validation = trainer_->validate();
    if (result_.validation.empty()) return;
    for (auto& writer : metrics_) writer->scalars(step, result_.validation);
    std::string text;
    for (const auto& [name, value] : result_.validation)
      text += fmt::format("{}{} {:.4g}", text.empty() ? "" : ", ", name.substr(name.find('/') + 1), value);
    note(fmt::format("step {}: validation {}", step, text));
    plot(folder_, folder_.filename().string());
  }

  void show_samples(int64_t step) {
    const Image grid = trainer_->samples();
    if (grid.pixels.empty()) return;
    make_folder(folder_ / "samples");
    const fs::path file = folder_ / "samples" / fmt::format("step-{:08}.png", step);
    write_image(file, grid);
    for (auto& writer : metrics_) writer->image(step, "samples", grid);
    note(fmt::format("step {}: {}", step, file.string()));
  }

  const Recipe& recipe_;
  const TrainingRunOptions& options_;
  fs::path folder_;
  std::unique_ptr<Trainer> trainer_;
  std::vector<std::unique_ptr<MetricsWriter>> metrics_;
  Stopwatch clock_;
  RateEstimator rate_;
  Smoothed loss_{0.98};
  TrainingResult result_;
};

}  // namespace

TrainingResult run_training(const Recipe& recipe, const TrainingRunOptions& options) {
  return Run(recipe, options)();
}

void export_trained_model(const Recipe& recipe, const fs::path& folder) {
  const RunCheckpoints checkpoints = checkpoints_of(recipe);
  const auto newest = checkpoints.newest();
  SINOPIA_CHECK(newest.has_value(), NotFound, "[train] no checkpoint in '{}'", recipe.output);
  const std::unique_ptr<Trainer> trainer = make_trainer(recipe);
  read_checkpoint_folder(*trainer, *newest);
  trainer->export_model(folder);
}

}  // namespace sinopia
