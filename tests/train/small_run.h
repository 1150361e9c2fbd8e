#pragma once

#include <fstream>
#include <map>
#include <string>

#include <fmt/format.h>

#include "sinopia/io/file.h"
#include "sinopia/io/image.h"
#include "sinopia/io/sha256.h"
#include "sinopia/train/recipe/recipe.h"
#include "tests/temporary_folder.h"

namespace sinopia::testing {

/// A folder with pictures of a coloured square on gray, captions, and the configurations of networks that
/// learn them in seconds.
class SmallRun {
 public:
  static constexpr int kSide = 16;
  struct Named {
    const char* name;
    int red, green, blue;
  };
  static constexpr Named kColors[] = {
      {"red", 220, 40, 40}, {"green", 40, 200, 60}, {"blue", 40, 60, 220}, {"yellow", 230, 220, 60}};

  static constexpr int kGround = 130;
  /// Of the square in the middle, which has the colour.
  static bool is_inside(int x, int y) { return x >= 3 && x < 13 && y >= 3 && y < 13; }

  SmallRun() {
    const auto pictures = folder_ / "pictures";
    std::filesystem::create_directories(pictures);
    for (int shade = 0; shade < 12; ++shade) {
      for (const Named& color : kColors) {
        Image image = make_image(kSide + 6 * (shade % 3), kSide, 3);
        for (int y = 0; y < image.height; ++y) {
          for (int x = 0; x < image.width; ++x) {
            const bool inside = is_inside(x - (image.width - kSide) / 2, y);
            const int change = inside ? 2 * shade - 12 + x / 2 : shade;
            uint8_t* const pixel = image.pixel(y, x);
            pixel[0] = static_cast<uint8_t>((inside ? color.red : kGround) + change);
            pixel[1] = static_cast<uint8_t>((inside ? color.green : kGround) + change);
            pixel[2] = static_cast<uint8_t>((inside ? color.blue : kGround) + change);
          }
        }
        const std::string name = fmt::format("{}-{}", color.name, shade);
        write_image(pictures / (name + ".png"), image);
        std::ofstream(pictures / (name + ".txt")) << color.name << "\n";
      }
    }
    std::ofstream(folder_ / "vae.json") << R"({"_class_name": "AutoencoderKL", "act_fn": "silu",
      "block_out_channels": [8, 16, 16], "in_channels": 3, "out_channels": 3, "latent_channels": 4,
      "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 16, "scaling_factor": 1.0,
      "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
      "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]})";
    std::ofstream(folder_ / "unet.json") << R"({"_class_name": "UNet2DConditionModel", "act_fn": "silu",
      "block_out_channels": [32, 32], "in_channels": 4, "out_channels": 4, "sample_size": 4,
      "layers_per_block": 1, "norm_num_groups": 8, "cross_attention_dim": 32, "attention_head_dim": 2,
      "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
      "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]})";
    std::ofstream(folder_ / "text.json") << R"({"model_type": "clip_text_model", "hidden_size": 32,
      "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 49408,
      "max_position_embeddings": 77, "hidden_act": "quick_gelu", "eos_token_id": 2})";
  }

  std::filesystem::path operator/(const std::string& name) const { return folder_ / name; }

  /// A recipe NAME.yaml whose output is NAME: what all share, `data` more about the pictures, then `yaml`.
  std::filesystem::path recipe_file(const std::string& name, const std::string& yaml,
                                    const std::string& data = "") const {
    const auto file = folder_ / (name + ".yaml");
    std::ofstream(file) << "output: " << name << "\nseed: 5\nbatch: 6\n"
                        << "data: {paths: [pictures], width: 16, height: 16, validation_examples: 24" << data
                        << "}\n"
                        << yaml;
    return file;
  }
  Recipe recipe(const std::string& name, const std::string& yaml, const std::string& data = "") const {
    return read_recipe(recipe_file(name, yaml, data));
  }

  /// The SHA-256 of every file below a folder that says nothing about when it was written.
  static std::map<std::string, std::string> sums(const std::filesystem::path& folder) {
    constexpr size_t kLargest = size_t{1} << 30;
    std::map<std::string, std::string> result;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      const std::string name = entry.path().lexically_relative(folder).string();
      if (!entry.is_regular_file() || name.starts_with("tensorboard") || name == "recipe.yaml") continue;
      result[name] = sha256_hex(read_file(entry.path(), kLargest));
    }
    return result;
  }

 private:
  TemporaryFolder folder_;
};

inline constexpr const char* kSmallAutoencoder = R"(
model: autoencoder
steps: 400
autoencoder:
  config: vae.json
  loss: {perceptual: 0, kl: 1.0e-3, adversarial: 0}
optimizer: {rate: {peak: 2.0e-3}, clip: 0}
ema: {decay: 0.95}
report: {validation_every: 0, samples_every: 0}
)";

/// Without its steps.
inline constexpr const char* kSmallDiffusion = R"(
model: diffusion
diffusion:
  autoencoder: autoencoder/model
  unet_config: unet.json
  text_config: text.json
  text: trained
  prediction: sample
optimizer: {rate: {peak: 4.0e-3, warmup_steps: 20, shape: cosine}, beta2: 0.99}
)";

}  // namespace sinopia::testing
