#include <map>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "device_choice.h"
#include "options.h"
#include "progress.h"
#include "sinopia/base/error.h"
#include "sinopia/base/threads.h"
#include "sinopia/io/file.h"
#include "sinopia/io/picture_grid.h"
#include "sinopia/pipelines/stable_diffusion_pipeline.h"
#include "sinopia/train/evaluation/adherence.h"
#include "sinopia/train/evaluation/evaluation_prompts.h"
#include "sinopia/train/evaluation/matcher_check.h"
#include "sinopia/train/evaluation/scene_set.h"

namespace sinopia::cli {
namespace {

namespace fs = std::filesystem;

struct EvaluationJob {
  fs::path model, prompts = "tools/datasets/evaluation_prompts.jsonl", sets = "build/sets", output;
  std::string check_split;
  DeviceChoice device;
  GenerationRequest request;
  int threads = 0;
};

std::string found_text(const FoundScene& found) {
  std::string text;
  for (const FoundObject& object : found.objects)
    text +=
        fmt::format("{}{}", text.empty() ? "" : ", ", object.nouns.empty() ? "?" : object.nouns.front().noun);
  return fmt::format("{} on {}", text.empty() ? "nothing" : text, found.background);
}

void check(const EvaluationJob& job) {
  const ObjectLibrary library = load_object_library(job.sets);
  fmt::print("{}", to_table(check_matcher(list_scenes(job.sets, job.check_split), library)));
}

void evaluate(EvaluationJob& job, std::stop_token stop) {
  if (job.threads > 0) set_thread_count(job.threads);
  if (!job.check_split.empty()) return check(job);
  if (job.model.empty()) throw UsageError("evaluate: --model is needed, or --check-matcher");
  const std::vector<EvaluationPrompt> prompts = read_evaluation_prompts(job.prompts);
  const ObjectLibrary library = load_object_library(job.sets);
  if (!job.output.empty()) make_folder(job.output);
  LoadOptions load;
  place(job.device, load);
  StableDiffusionPipeline model(job.model, load);
  mention_missing_gpu(job.device.device);

  AdherenceScores all;
  std::map<std::string, AdherenceScores> by_split;
  std::vector<Image> pictures;
  nlohmann::ordered_json report{{"model", model.name()}, {"pictures", nlohmann::ordered_json::array()}};
  ProgressLine progress;
  const uint64_t seed = job.request.seed;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const EvaluationPrompt& prompt = prompts[i];
    GenerationRequest request = job.request;
    request.prompt = prompt.prompt;
    request.plain_prompt = true;
    request.seed = seed + i;
    request.stop = stop;
    progress.show(fmt::format("picture {}/{}: {}", i + 1, prompts.size(), prompt.prompt));
    Image picture = model.generate(request).images.front();
    const FoundScene found = find_objects(picture, library);
    const Verdict verdict = judge(found, prompt.expected, library);
    all.add(verdict);
    by_split[prompt.seen].add(verdict);
    report["pictures"].push_back({{"id", prompt.id},
                                  {"prompt", prompt.prompt},
                                  {"seen", prompt.seen},
                                  {"found", found_text(found)},
                                  {"objects", verdict.objects},
                                  {"counts", verdict.counts},
                                  {"colours", verdict.colours},
                                  {"positions", verdict.positions},
                                  {"background", verdict.background}});
    if (!job.output.empty()) write_image(job.output / (prompt.id + ".png"), picture);
    pictures.push_back(std::move(picture));
  }
  progress.finish();
  report["scores"] = to_json(all);
  fmt::print("{} prompts, seeds from {}\n{}", prompts.size(), seed, to_table(all));
  for (const auto& [split, scores] : by_split) {
    fmt::print("\n{}: {} prompts\n{}", split, scores.total, to_table(scores));
    report["by_split"][split] = to_json(scores);
  }
  if (job.output.empty()) return;
  constexpr int kColumns = 8;
  write_image(job.output / "grid.png", picture_grid(pictures, kColumns));
  write_file(job.output / "report.json", std::string_view(report.dump(2) + "\n"));
}

}  // namespace

void add_evaluate(CLI::App& app, Action& action, std::stop_token stop) {
  auto* command = app.add_subcommand("evaluate", "how well a model's pictures show what prompts ask for");
  auto job = std::make_shared<EvaluationJob>();
  const auto path = [&](const char* flags, fs::path& value, const char* type, const char* help) {
    command->add_option(flags, value, help)->type_name(type);
  };
  path("-m,--model", job->model, "PATH", "checkpoint file or diffusers folder");
  path("--prompts", job->prompts, "FILE", "JSON Lines (tools/datasets/evaluation_prompts.jsonl)");
  path("--sets", job->sets, "FOLDER", "what tools/datasets/build made: the known pictures (build/sets)");
  path("-o,--output", job->output, "FOLDER", "write the pictures, all in a grid, and report.json there");
  command
      ->add_option("--check-matcher", job->check_split,
                   "no model: how well known scenes of this split are read, such as validation")
      ->type_name("SPLIT");
  add_integer(*command, "-W,--width", job->request.width, 8, 8192, "pixels (the model's own size)");
  add_integer(*command, "-H,--height", job->request.height, 8, 8192, "pixels (the model's own size)");
  add_integer(*command, "--steps", job->request.steps, 1, 1000, "of each picture (20)");
  add_number(*command, "--cfg-scale", job->request.cfg_scale, 0, 100, "how strongly the prompt guides (7)");
  add_seed(*command, "-s,--seed", job->request.seed, "of the first picture; the next have the next ones (0)");
  add_device_options(*command, job->device);
  add_integer(*command, "-t,--threads", job->threads, 1, 1024, "threads (all cores)");
  command->callback([job, &action, stop] { action = [job, stop] { evaluate(*job, stop); }; });
}

}  // namespace sinopia::cli
