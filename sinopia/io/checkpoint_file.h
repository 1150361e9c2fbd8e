#pragma once

#include <filesystem>
#include <string_view>

#include "sinopia/io/tensor_map.h"

namespace sinopia {

/// Reads a safetensors file, a GGUF file or a PyTorch checkpoint, told apart by content. Throws Unsupported
/// for anything else, and what read_safetensors, read_gguf and read_ckpt throw.
TensorFile read_tensor_file(const std::filesystem::path& path);

/// The weights in the folder of a component of a diffusers or transformers model: the file, or the index of a
/// sharded one. Names as those libraries write them: diffusion_pytorch_model, model or pytorch_model;
/// safetensors before .bin; a `variant` such as "fp16" stands before the ending. Without a variant, one that
/// is there alone also counts
/// ("fp16", then "bf16", "non_ema"). Throws NotFound naming the folder and what was looked for.
std::filesystem::path find_weights(const std::filesystem::path& folder, std::string_view variant = "");

/// All tensors of the shards that an index (*.index.json) names, which lie beside it. Throws Corrupt if a
/// shard's name is more than a file name, a tensor is in two shards, or one of the index is not in its shard;
/// NotFound for a missing shard.
TensorFile read_sharded(const std::filesystem::path& index);

/// read_sharded or read_tensor_file of what find_weights finds.
TensorFile read_component(const std::filesystem::path& folder, std::string_view variant = "");

/// Writes `base_name`.safetensors, or, above `max_shard_bytes`, shards `base_name`-00001-of-0000N.safetensors
/// and their index, as diffusers' save_pretrained. Each file is written in one step, the index last, and what
/// an earlier save left under the other names is then removed. Metadata goes into every file. Throws as
/// write_safetensors does.
void write_sharded(const std::filesystem::path& folder, std::string_view base_name, const TensorFile& file,
                   size_t max_shard_bytes = size_t{10} * 1000 * 1000 * 1000);

}  // namespace sinopia
