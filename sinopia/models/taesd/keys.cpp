#include "sinopia/models/taesd/keys.h"

#include <algorithm>
#include <charconv>

#include "sinopia/io/checkpoint_file.h"
#include "sinopia/io/file.h"
#include "sinopia/nn/parameters.h"

namespace sinopia {
namespace {

constexpr std::string_view kDecoder = "decoder.";
const std::string kLayers = "decoder.layers.";

const Tensor& need(const TensorMap& tensors, int64_t place) {
  const auto found = tensors.find(kLayers + std::to_string(place) + ".weight");
  SINOPIA_CHECK(found != tensors.end() && found->second.rank() == 4, Corrupt,
                "[taesd] expected a convolution '{}{}.weight'", kLayers, place);
  return found->second;
}

}  // namespace

TensorMap tiny_decoder_tensors(const TensorMap& tensors) {
  TensorMap result;
  const bool diffusers = std::any_of(tensors.begin(), tensors.end(),
                                     [](const auto& entry) { return entry.first.starts_with(kDecoder); });
  for (const auto& [key, x] : tensors) {
    if (diffusers) {
      SINOPIA_CHECK(key.starts_with(kDecoder) || key.starts_with("encoder."), Corrupt,
                    "[taesd] expected a tensor of an encoder or a decoder, got '{}'", key);
      if (key.starts_with(kDecoder)) result.emplace(key, x);
      continue;
    }
    int place = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), place);
    SINOPIA_CHECK(error == std::errc() && place > 0 && place < 1000 && *end == '.', Corrupt,
                  "[taesd] expected a tiny decoder's tensor, such as '1.weight', got '{}'", key);
    result.emplace(kLayers + std::to_string(place - 1) + end, x);
  }
  return result;
}

TinyDecoderConfig tiny_decoder_config_from_tensors(const TensorMap& tensors) {
  TinyDecoderConfig c;
  const Tensor& first = need(tensors, 0);
  c.channels = first.dim(0);
  c.latent_channels = first.dim(1);
  c.blocks.clear();
  for (int64_t place = 2, blocks = 0;;) {
    if (tensors.contains(kLayers + std::to_string(place) + ".conv.0.weight")) {
      ++blocks, ++place;
      continue;
    }
    c.blocks.push_back(blocks);
    blocks = 0;
    if (tensors.contains(kLayers + std::to_string(place) + ".weight")) {
      c.out_channels = need(tensors, place).dim(0);
      return c;
    }
    need(tensors, place + 1);
    place += 2;
  }
}

TinyDecoder load_tiny_decoder(const std::filesystem::path& path, const Placement& placement) {
  TensorMap tensors;
  TinyDecoderConfig config;
  if (std::filesystem::is_directory(path)) {
    constexpr size_t kMaxConfigBytes = size_t{1} << 20;
    config = tiny_decoder_config_from_json(read_text_file(path / "config.json", kMaxConfigBytes));
    tensors = tiny_decoder_tensors(read_component(path).tensors);
  } else {
    tensors = tiny_decoder_tensors(read_tensor_file(path).tensors);
    config = tiny_decoder_config_from_tensors(tensors);
  }
  CheckpointParameters parameters(std::move(tensors), "taesd");
  PlacedParameters placed(parameters, placement);
  TinyDecoder decoder(Scope(placed), config);
  parameters.finish();
  return decoder;
}

}  // namespace sinopia
