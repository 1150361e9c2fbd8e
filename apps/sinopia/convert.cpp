#include <memory>

#include <fmt/format.h>

#include "commands.h"
#include "options.h"
#include "sinopia/io/safetensors.h"
#include "sinopia/models/checkpoint/folder.h"
#include "sinopia/models/checkpoint/single_file.h"
#include "sinopia/models/stable_diffusion.h"
#include "sinopia/pipelines/random_checkpoint.h"

namespace sinopia::cli {
namespace {

namespace fs = std::filesystem;

enum class Layout { Told, Folder, File };

void write_checkpoint(const CheckpointParts& parts, const fs::path& path, Layout layout) {
  if (layout == Layout::Told)
    layout = !path.has_filename() || fs::is_directory(path) ? Layout::Folder : Layout::File;
  if (layout == Layout::Folder) {
    save_diffusers_folder(path, parts);
  } else {
    if (path.extension() != ".safetensors")
      throw UsageError(fmt::format(
          "expected a name ending in .safetensors, or a folder's ending in /, got '{}'", path.string()));
    write_safetensors(path, join_checkpoint(parts));
  }
  fmt::print("{}\n", path.string());
}

DType parse_type(const std::string& name) {
  if (name == "f32") return DType::F32;
  return name == "f16" ? DType::F16 : DType::BF16;
}

CLI::Option* add_type(CLI::App& app, std::string& type, const char* help) {
  return add_choice(
      app, "--type", {"f32", "f16", "bf16"}, [&type](const std::string& name) { type = name; }, help);
}

}  // namespace

void add_convert(CLI::App& app, Action& action) {
  struct Options {
    fs::path in, out;
    std::string type;
    Layout layout = Layout::Told;
  };
  auto* command = app.add_subcommand("convert", "write a checkpoint in another layout or type");
  auto options = std::make_shared<Options>();
  command->add_option("in", options->in, "checkpoint file or diffusers folder")
      ->required()
      ->type_name("PATH");
  command->add_option("out", options->out, "FILE.safetensors, or FOLDER/ for diffusers' layout")
      ->required()
      ->type_name("PATH");
  add_type(*command, options->type, "f32, f16 or bf16 (as it is)");
  add_choice(
      *command, "--layout", {"diffusers", "single"},
      [options](const std::string& name) {
        options->layout = name == "diffusers" ? Layout::Folder : Layout::File;
      },
      "diffusers or single (as OUT says)");
  command->callback([options, &action] {
    action = [options] {
      CheckpointParts parts = read_checkpoint(options->in);
      if (!options->type.empty()) convert_dtype(parts, parse_type(options->type));
      write_checkpoint(parts, options->out, options->layout);
    };
  });
}

void add_init(CLI::App& app, Action& action) {
  struct Options {
    fs::path out;
    std::string preset = "tiny-sd1", type = "f16";
    uint64_t seed = 0;
  };
  auto* command =
      app.add_subcommand("init", "write a checkpoint with random weights, whose pictures are noise");
  auto options = std::make_shared<Options>();
  command->add_option("out", options->out, "FILE.safetensors, or FOLDER/ for diffusers' layout")
      ->required()
      ->type_name("PATH");
  std::vector<std::string> presets;
  for (const std::string_view name : random_checkpoint_presets()) presets.emplace_back(name);
  add_choice(
      *command, "--preset", presets, [options](const std::string& name) { options->preset = name; },
      "tiny-sd1, sd1 or sd2 (tiny-sd1)");
  add_type(*command, options->type, "f32, f16 or bf16 (f16)");
  add_seed(*command, "--seed", options->seed, "of the weights (0)");
  command->callback([options, &action] {
    action = [options] {
      write_checkpoint(random_checkpoint(options->preset, options->seed, parse_type(options->type)),
                       options->out, Layout::Told);
    };
  });
}

}  // namespace sinopia::cli
