#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "progress.h"
#include "sinopia/io/checkpoint_file.h"
#include "sinopia/io/image.h"
#include "sinopia/models/checkpoint/folder.h"
#include "sinopia/models/checkpoint/recognise.h"
#include "sinopia/models/checkpoint/single_file.h"

namespace sinopia::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr size_t kMaxShownText = 200;

struct Inspection {
  std::string description, variant, prediction;
  bool supported = false;
  std::vector<std::pair<std::string, ParameterCount>> parts;
  std::map<std::string, std::string> metadata;
};

void add_part(Inspection& found, const std::string& name, const TensorMap& tensors) {
  if (!tensors.empty()) found.parts.emplace_back(name, count_parameters(tensors));
}

Inspection inspect_folder(const fs::path& path) {
  const CheckpointParts parts = load_diffusers_folder(path);
  Inspection found{parts.description, parts.variant, parts.schedule.prediction, true, {}, parts.metadata};
  add_part(found, "unet", parts.unet.tensors);
  add_part(found, "autoencoder", parts.vae.tensors);
  for (const TextEncoderPart& text : parts.text_encoders) add_part(found, "text encoder", text.tensors);
  return found;
}

Inspection inspect_file(const fs::path& path) {
  const TensorFile file = read_tensor_file(path);
  const Recognition what = recognise(file.tensors);
  Inspection found{what.description, what.variant, "", what.supported, {}, file.metadata};
  if (what.kind == ModelKind::Checkpoint || what.kind == ModelKind::UNet ||
      what.kind == ModelKind::Autoencoder || what.kind == ModelKind::TextEncoder) {
    const FileContents contents = sort_by_network(file.tensors);
    add_part(found, "unet", contents.unet);
    add_part(found, "autoencoder", contents.vae);
    for (const auto& [prefix, tensors] : contents.text_encoders) add_part(found, "text encoder", tensors);
  } else {
    add_part(found, "tensors", file.tensors);
  }
  return found;
}

void print_text(const std::map<std::string, std::string>& entries) {
  for (const auto& [key, value] : entries) {
    const bool cut = value.size() > kMaxShownText;
    fmt::print("  {}: {}{}\n", key, cut ? value.substr(0, kMaxShownText) : value, cut ? " .." : "");
  }
}

void print(const Inspection& found) {
  fmt::print("{}{}\n", found.description, found.supported ? "" : " (cannot be run)");
  if (!found.variant.empty()) fmt::print("  family: {}\n", found.variant);
  if (!found.prediction.empty()) fmt::print("  predicts: {}\n", found.prediction);
  for (const auto& [name, count] : found.parts) {
    fmt::print("  {}: {} parameters in {} tensors, {} (", name, count.parameters, count.tensors,
               format_bytes(count.bytes));
    bool first = true;
    for (const auto& [dtype, parameters] : count.by_dtype) {
      const double share = 100.0 * static_cast<double>(parameters) /
                           static_cast<double>(std::max<int64_t>(count.parameters, 1));
      fmt::print("{}{} {:.0f}%", first ? "" : ", ", to_string(dtype), share);
      first = false;
    }
    fmt::print(")\n");
  }
  if (!found.metadata.empty()) fmt::print("metadata\n");
  print_text(found.metadata);
}

void print_json(const fs::path& path, const Inspection& found) {
  Json parts = Json::array();
  for (const auto& [name, count] : found.parts) {
    Json types;
    for (const auto& [dtype, parameters] : count.by_dtype) types[to_string(dtype)] = parameters;
    parts.push_back({{"name", name},
                     {"parameters", count.parameters},
                     {"tensors", count.tensors},
                     {"bytes", count.bytes},
                     {"types", types}});
  }
  const Json report = {{"path", path.string()},   {"description", found.description},
                       {"family", found.variant}, {"supported", found.supported},
                       {"parts", parts},          {"metadata", found.metadata}};
  fmt::print("{}\n", report.dump(2, ' ', false, Json::error_handler_t::replace));
}

bool is_picture(const fs::path& path) {
  try {
    format_of_name(path);
    return true;
  } catch (const Error&) {
    return false;
  }
}

void inspect(const fs::path& path, bool json) {
  if (!fs::is_directory(path) && is_picture(path)) {
    const Image image = read_image(path);
    if (json) {
      const Json report = {
          {"path", path.string()}, {"width", image.width}, {"height", image.height}, {"text", image.text}};
      fmt::print("{}\n", report.dump(2, ' ', false, Json::error_handler_t::replace));
      return;
    }
    fmt::print("picture, {}x{}, {} channels\n", image.width, image.height, image.channels);
    for (const auto& [key, value] : image.text) fmt::print("{}\n  {}\n", key, value);
    return;
  }
  const Inspection found = fs::is_directory(path) ? inspect_folder(path) : inspect_file(path);
  json ? print_json(path, found) : print(found);
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("inspect", "say what a model or a picture is");
  auto path = std::make_shared<fs::path>();
  auto json = std::make_shared<bool>(false);
  command->add_option("file", *path, "checkpoint, diffusers folder or picture")
      ->required()
      ->type_name("PATH");
  command->add_flag("--json", *json, "as JSON");
  command->callback([path, json, &action] { action = [path, json] { inspect(*path, *json); }; });
}

}  // namespace sinopia::cli
