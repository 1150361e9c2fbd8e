#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include "sinopia/base/error.h"
#include "sinopia/io/file.h"
#include "sinopia/train/recipe/declare.h"

namespace sinopia {
namespace {

/// Takes the fields out of a tree of YAML, section by section.
class Reader final : public Fields {
 public:
  Reader(const YAML::Node& root, std::string name) : name_(std::move(name)) { open(root, ""); }
  /// Of the outermost section.
  void finish() { close(); }

  void field(const char* name, double& value, Range range, const char*) override {
    if (const auto node = take(name)) value = number<double>(*node, name, range, "a number");
  }
  void field(const char* name, std::optional<double>& value, Range range, const char*) override {
    const auto node = take(name);
    if (node && !node->IsNull()) value = number<double>(*node, name, range, "a number");
  }
  void field(const char* name, int64_t& value, Range range, const char*) override {
    if (const auto node = take(name)) value = number<int64_t>(*node, name, range, "a whole number");
  }
  void field(const char* name, bool& value, const char*) override {
    if (const auto node = take(name)) value = scalar<bool>(*node, name, "true or false");
  }
  void field(const char* name, std::string& value, const char*) override {
    if (const auto node = take(name))
      value = node->IsNull() ? "" : scalar<std::string>(*node, name, "a text");
  }
  void field(const char* name, std::vector<std::string>& values, const char*) override {
    const auto node = take(name);
    if (!node) return;
    values.clear();
    const auto add = [&](const YAML::Node& text) {
      values.push_back(scalar<std::string>(text, name, "a text"));
    };
    if (!node->IsSequence()) return add(*node);  // one text alone
    for (const YAML::Node& text : *node) add(text);
  }

 private:
  struct Section {
    YAML::Node node;  // a map, or null for one that is not there
    std::string path;
    std::set<std::string> taken;
    std::vector<std::string> known;
  };

  void choose(const char* name, size_t& value, std::span<const std::string_view> names,
              const char*) override {
    const auto node = take(name);
    if (!node) return;
    const auto text = scalar<std::string>(*node, name, "a name");
    const auto found = std::ranges::find(names, text);
    if (found == names.end())
      refuse(*node, fmt::format("{}: no '{}'; one of {}", path_of(name), text, fmt::join(names, ", ")));
    value = static_cast<size_t>(found - names.begin());
  }

  void begin(const char* name, const char*) override {
    const auto node = take(name);
    open(node ? *node : YAML::Node(YAML::NodeType::Null), path_of(name));
  }
  void end() override { close(); }

  void open(const YAML::Node& node, const std::string& path) {
    if (!node.IsMap() && !node.IsNull())
      refuse(node,
             fmt::format("expected fields{}, got {}", path.empty() ? "" : " of " + path, kind_of(node)));
    sections_.push_back({node, path, {}, {}});
  }

  void close() {
    const Section section = std::move(sections_.back());
    sections_.pop_back();
    if (!section.node.IsMap()) return;
    std::set<std::string> seen;
    for (const auto& entry : section.node) {
      const auto key = entry.first.Scalar();
      if (!seen.insert(key).second)
        refuse(entry.first,
               fmt::format("{} is there twice", section.path.empty() ? key : section.path + "." + key));
      if (section.taken.contains(key)) continue;
      refuse(entry.first, fmt::format("unknown field {}; there are {}",
                                      section.path.empty() ? key : section.path + "." + key,
                                      fmt::join(section.known, ", ")));
    }
  }

  /// The node of a field, if it is there.
  std::optional<YAML::Node> take(const char* name) {
    Section& section = sections_.back();
    section.known.push_back(name);
    if (!section.node.IsMap()) return std::nullopt;
    const YAML::Node node = static_cast<const YAML::Node&>(section.node)[name];
    if (!node) return std::nullopt;
    section.taken.insert(name);
    return node;
  }

  template <class T>
  T scalar(const YAML::Node& node, const char* name, const char* expected) const {
    T value{};
    if (!node.IsScalar() || !YAML::convert<T>::decode(node, value))
      refuse(node, fmt::format("{}: expected {}, got {}", path_of(name), expected,
                               node.IsScalar() ? "'" + node.Scalar() + "'" : kind_of(node)));
    return value;
  }

  template <class T>
  T number(const YAML::Node& node, const char* name, Range range, const char* expected) const {
    const T value = scalar<T>(node, name, expected);
    const auto wide = static_cast<double>(value);
    if (!(wide >= range.low && wide <= range.high))
      refuse(node,
             std::isinf(range.high)
                 ? fmt::format("{}: expected at least {}, got {}", path_of(name), range.low, value)
                 : fmt::format("{}: expected {} to {}, got {}", path_of(name), range.low, range.high, value));
    return value;
  }

  static std::string kind_of(const YAML::Node& node) {
    return node.IsMap()        ? "fields"
           : node.IsSequence() ? "a list"
           : node.IsNull()     ? "nothing"
                               : "'" + node.Scalar() + "'";
  }
  std::string path_of(const char* name) const {
    const std::string& path = sections_.back().path;
    return path.empty() ? name : path + "." + name;
  }
  [[noreturn]] void refuse(const YAML::Node& node, const std::string& what) const {
    fail(ErrorKind::InvalidArgument, "[recipe] {}:{}: {}", name_, node.Mark().line + 1, what);
  }

  std::string name_;
  std::vector<Section> sections_;
};

/// What a run of its model cannot do without.
void check_whole(const Recipe& r, const std::string& name) {
  const auto demand = [&](bool holds, const char* what) {
    SINOPIA_CHECK(holds, InvalidArgument, "[recipe] {}: {}", name, what);
  };
  demand(!r.data.paths.empty(), "data.paths is needed: folders, JSON Lines files or tar shards");
  if (r.model == TrainedModel::Autoencoder) {
    const AutoencoderRecipe& a = r.autoencoder;
    demand(a.start.empty() != a.config.empty(), "either autoencoder.start or autoencoder.config is needed");
    demand(a.part == AutoencoderTraining::Whole || !a.start.empty(),
           "a decoder by itself is trained further: autoencoder.part: decoder needs autoencoder.start");
    demand(a.loss.perceptual == 0 || !a.vgg16.empty(),
           "autoencoder.loss.perceptual needs autoencoder.vgg16; without it set perceptual to 0 and use "
           "feature_matching");
  } else {
    const DiffusionRecipe& d = r.diffusion;
    demand(d.start.empty() != d.unet_config.empty(),
           "either diffusion.start or diffusion.unet_config is needed");
    demand(!d.start.empty() || (!d.text_config.empty() && !d.autoencoder.empty()),
           "fresh weights need diffusion.text_config and diffusion.autoencoder");
    demand(!d.start.empty() || d.text == TextTraining::Trained,
           "a fresh text encoder has to be trained: diffusion.text: trained");
  }
}

/// Relative paths are taken from the recipe's folder.
void resolve_paths(Recipe& r, const std::filesystem::path& folder) {
  const auto resolve = [&](std::string& path) {
    if (!path.empty() && std::filesystem::path(path).is_relative())
      path = (folder / path).lexically_normal().string();
  };
  for (std::string& path : r.data.paths) resolve(path);
  for (std::string* path :
       {&r.output, &r.data.cache, &r.autoencoder.start, &r.autoencoder.config, &r.autoencoder.vgg16,
        &r.diffusion.start, &r.diffusion.autoencoder, &r.diffusion.unet_config, &r.diffusion.text_config})
    resolve(*path);
}

}  // namespace

Recipe parse_recipe(std::string_view text, const std::string& name) {
  YAML::Node root;
  try {
    root = YAML::Load(std::string(text));
  } catch (const YAML::Exception& error) {
    fail(ErrorKind::Corrupt, "[recipe] {}:{}: {}", name, error.mark.line + 1, error.msg);
  }
  Recipe recipe;
  Reader reader(root, name);
  visit_fields(reader, recipe);
  reader.finish();
  check_whole(recipe, name);
  return recipe;
}

Recipe read_recipe(const std::filesystem::path& file) {
  constexpr size_t kLargest = 1 << 20;
  Recipe recipe = parse_recipe(read_text_file(file, kLargest), file.filename().string());
  resolve_paths(recipe, file.parent_path());
  return recipe;
}

}  // namespace sinopia
