#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "commands.h"
#include "device_choice.h"
#include "options.h"
#include "progress.h"
#include "sinopia/base/clock.h"
#include "sinopia/base/error.h"
#include "sinopia/base/threads.h"
#include "sinopia/train/trainers/training_run.h"

namespace sinopia::cli {
namespace {

namespace fs = std::filesystem;

struct TrainJob {
  fs::path recipe, export_to;
  bool print_recipe = false, quiet = false;
  int64_t stop_at = 0;
  int threads = 0;
};

int terminal_width() {
  constexpr int kUnknown = 100, kLeast = 20;
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? std::max<int>(size.ws_col - 1, kLeast) : kUnknown;
}

/// Progress and notes of a run on stderr, without flooding a log.
class TrainingScreen {
 public:
  explicit TrainingScreen(bool quiet) : quiet_(quiet) {}
  void show(const TrainingProgress& progress) {
    const double between = line_.on_terminal() ? 0.2 : 30;
    const bool last = progress.step == progress.steps;
    if (quiet_ || (shown_ && !last && since_.seconds() < between)) return;
    shown_ = true;
    since_.reset();
    line_.show(progress_view(progress, line_.on_terminal() ? terminal_width() : 200).front());
  }
  void note(const std::string& text) {
    if (quiet_) return;
    line_.finish();
    fmt::print(stderr, "{}\n", text);
  }

 private:
  bool quiet_, shown_ = false;
  ProgressLine line_;
  Stopwatch since_;
};

void train(const TrainJob& job, const std::stop_token& stop) {
  if (job.print_recipe) {
    fmt::print("{}", documented_recipe());
    return;
  }
  if (job.recipe.empty()) throw UsageError("train: a recipe is needed; --print-recipe shows one");
  if (job.threads > 0) set_thread_count(job.threads);
  const Recipe recipe = read_recipe(job.recipe);
  if (!job.export_to.empty()) {
    export_trained_model(recipe, job.export_to);
    fmt::print("{}\n", job.export_to.string());
    return;
  }
  TrainingScreen screen(job.quiet);
  TrainingRunOptions options;
  options.progress = [&, told = job.quiet](const TrainingProgress& progress) mutable {
    if (!std::exchange(told, true)) mention_missing_gpu(recipe.device);
    screen.show(progress);
  };
  options.note = [&](const std::string& text) { screen.note(text); };
  options.stop = stop;
  options.stop_at = job.stop_at;
  const TrainingResult result = run_training(recipe, options);
  if (result.finished) fmt::print("{}\n", (fs::path(recipe.output) / "model").string());
  if (stop.stop_requested()) fail(ErrorKind::Cancelled, "[train] stopped after step {}", result.step);
}

}  // namespace

void add_train(CLI::App& app, Action& action, std::stop_token stop) {
  auto* command = app.add_subcommand("train", "train a model as a recipe says, or go on with it");
  auto job = std::make_shared<TrainJob>();
  command->add_option("recipe", job->recipe, "YAML or JSON; all fields: sinopia train --print-recipe")
      ->type_name("FILE");
  command->add_flag("--print-recipe", job->print_recipe, "print a recipe with all fields and what they mean");
  command->add_option("--export", job->export_to, "write the model of the newest checkpoint, and end")
      ->type_name("FOLDER");
  add_integer(*command, "--stop-at", job->stop_at, 1, std::numeric_limits<int64_t>::max(),
              "end with a checkpoint after this step already");
  add_integer(*command, "-t,--threads", job->threads, 1, 1024, "threads (all cores)");
  command->add_flag("-q,--quiet", job->quiet, "errors alone");
  command->callback([job, &action, stop] { action = [job, stop] { train(*job, stop); }; });
}

}  // namespace sinopia::cli
