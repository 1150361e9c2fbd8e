#include <algorithm>
#include <memory>
#include <optional>
#include <span>

#include <fmt/format.h>

#include "commands.h"
#include "options.h"
#include "sinopia/io/gguf.h"
#include "sinopia/io/safetensors.h"
#include "sinopia/models/checkpoint/folder.h"
#include "sinopia/models/checkpoint/single_file.h"
#include "sinopia/models/stable_diffusion.h"
#include "sinopia/pipelines/random_checkpoint.h"

namespace sinopia::cli {
namespace {

namespace fs = std::filesystem;

enum class Layout { Told, Folder, File };

constexpr const char* kOutHelp = "FILE.safetensors or FILE.gguf, or FOLDER/ for diffusers' layout";
constexpr DType kTypes[] = {DType::F32,  DType::F16,  DType::BF16, DType::Q8_0,
                            DType::Q6_K, DType::Q5_K, DType::Q4_K, DType::Q4_0};

/// In `type`, or in the types that the weights have.
void write_checkpoint(CheckpointParts parts, const fs::path& path, Layout layout, std::optional<DType> type) {
  if (layout == Layout::Told)
    layout = !path.has_filename() || fs::is_directory(path) ? Layout::Folder : Layout::File;
  const bool quantise = type && is_quantised(*type), gguf = path.extension() == ".gguf";
  if (quantise && (layout == Layout::Folder || !gguf))
    throw UsageError(
        fmt::format("expected a name ending in .gguf for {}, got '{}'", to_string(*type), path.string()));
  if (type && !quantise) convert_dtype(parts, *type);
  if (layout == Layout::Folder) {
    save_diffusers_folder(path, parts);
  } else if (gguf) {
    TensorFile file = to_gguf(join_checkpoint(parts));
    if (quantise) quantise_matrices(file, *type);
    write_gguf(path, file);
  } else {
    if (path.extension() != ".safetensors")
      throw UsageError(
          fmt::format("expected a name ending in .safetensors or .gguf, or a folder's ending in /, got '{}'",
                      path.string()));
    write_safetensors(path, join_checkpoint(parts));
  }
  fmt::print("{}\n", path.string());
}

CLI::Option* add_type(CLI::App& app, std::optional<DType>& type, std::span<const DType> types,
                      const char* help) {
  std::vector<std::string> names;
  for (DType dtype : types) names.emplace_back(to_string(dtype));
  const auto set = [&type, types](const std::string& name) {
    type = *std::ranges::find(types, name, [](DType dtype) { return std::string(to_string(dtype)); });
  };
  return add_choice(app, "--type", names, set, help);
}

}  // namespace

void add_convert(CLI::App& app, Action& action) {
  struct Options {
    fs::path in, out;
    std::optional<DType> type;
    Layout layout = Layout::Told;
  };
  auto* command = app.add_subcommand("convert", "write a checkpoint in another layout or type");
  auto options = std::make_shared<Options>();
  command->add_option("in", options->in, "checkpoint file or diffusers folder")
      ->required()
      ->type_name("PATH");
  command->add_option("out", options->out, kOutHelp)->required()->type_name("PATH");
  add_type(*command, options->type, kTypes,
           "f32, f16, bf16, or for the matrices of a GGUF file q8_0, q6_K, q5_K, q4_K, q4_0 (as it is)");
  add_choice(
      *command, "--layout", {"diffusers", "single"},
      [options](const std::string& name) {
        options->layout = name == "diffusers" ? Layout::Folder : Layout::File;
      },
      "diffusers or single (as OUT says)");
  command->callback([options, &action] {
    action = [options] {
      write_checkpoint(read_checkpoint(options->in), options->out, options->layout, options->type);
    };
  });
}

void add_init(CLI::App& app, Action& action) {
  struct Options {
    fs::path out;
    std::string preset = "tiny-sd1";
    std::optional<DType> type = DType::F16;
    uint64_t seed = 0;
  };
  auto* command =
      app.add_subcommand("init", "write a checkpoint with random weights, whose pictures are noise");
  auto options = std::make_shared<Options>();
  command->add_option("out", options->out, kOutHelp)->required()->type_name("PATH");
  std::vector<std::string> presets;
  for (const std::string_view name : random_checkpoint_presets()) presets.emplace_back(name);
  add_choice(
      *command, "--preset", presets, [options](const std::string& name) { options->preset = name; },
      "tiny-sd1, sd1 or sd2 (tiny-sd1)");
  add_type(*command, options->type, std::span(kTypes).first(3), "f32, f16 or bf16 (f16)");
  add_seed(*command, "--seed", options->seed, "of the weights (0)");
  command->callback([options, &action] {
    action = [options] {
      write_checkpoint(random_checkpoint(options->preset, options->seed, *options->type), options->out,
                       Layout::Told, std::nullopt);
    };
  });
}

}  // namespace sinopia::cli
