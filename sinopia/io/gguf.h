#pragma once

#include <filesystem>
#include <memory>

#include "sinopia/io/tensor_map.h"

namespace sinopia {

/// Reads a GGUF file, version 2 or 3, little endian, without copying: the tensors are views of the mapped
/// file and keep it mapped. Element types F32, F16, BF16, Q8_0, Q6_K, Q5_K, Q4_K and Q4_0. Metadata become
/// text, an array a JSON array; arrays of over 1024 elements, and what describes the file itself (alignment,
/// quantisation version, file type), are left out. Strict: nothing is allocated on the word of the header,
/// names are unique, tensors follow each other without overlap or hole, and nothing but padding follows the
/// last. Throws Corrupt for a broken file, Unsupported for other types and versions, by name, and what
/// map_file throws. Follows https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
TensorFile read_gguf(const std::filesystem::path& path);

/// The same from bytes already in memory or mapped, aligned to 8; `name` is for messages.
TensorFile parse_gguf(const std::shared_ptr<Storage>& bytes, std::string_view name = "gguf");

/// Writes version 3 in one step (see AtomicFile), streamed: metadata as texts, tensors by name, aligned
/// to 32. A scalar becomes a vector of one. Tensors must be on the CPU. Throws InvalidArgument for an
/// undefined or empty tensor, more than 4 axes or a name or metadata that is not UTF-8, Unsupported for
/// element types that read_gguf does not read, Backend when the system refuses.
void write_gguf(const std::filesystem::path& path, const TensorFile& file);

}  // namespace sinopia
