#pragma once

#include <filesystem>
#include <memory>

#include "sinopia/io/tensor_map.h"

namespace sinopia {

/// Reads a safetensors file without copying: the tensors are views of the mapped file, and keep it mapped.
/// Only a tensor that the file did not align to its element size is copied. Strict: every byte belongs to
/// exactly one tensor, no name occurs twice, nothing is allocated on the word of the header. Throws Corrupt
/// for a broken file, Unsupported for element types and ranks (over 6) that Tensor does not have, and what
/// map_file throws. Follows the format's specification, https://github.com/huggingface/safetensors.
TensorFile read_safetensors(const std::filesystem::path& path);

/// The same from bytes already in memory or mapped; `name` is for messages.
TensorFile parse_safetensors(const std::shared_ptr<Storage>& bytes, std::string_view name = "safetensors");

/// Writes in one step (see AtomicFile), streamed, laid out byte for byte as the reference library does: wide
/// elements first, then by name. Tensors must be on the CPU. Throws InvalidArgument for an undefined or
/// quantised tensor or a name or metadata that is not UTF-8, Backend when the system refuses.
void write_safetensors(const std::filesystem::path& path, const TensorFile& file);

}  // namespace sinopia
