#pragma once

#include <filesystem>
#include <memory>

#include "sinopia/io/tensor_map.h"

namespace sinopia {

/// Reads a PyTorch checkpoint (.ckpt, .pt, .pth, .bin: the zip format of torch.save since 1.6) without
/// executing anything. Tensors are views of the mapped file; those that are not contiguous or not aligned are
/// copied, at most as many bytes as the file has. The tensors of "state_dict", and in that of "model", are
/// returned if there are such; nested dictionaries otherwise give names joined by dots. Numbers and texts
/// beside them become metadata; lists and other objects are left out. Throws Corrupt for broken files;
/// Unsupported for any global beyond those that weights need (by name), TorchScript, the older format of
/// torch.save, big-endian files, ranks over 6; and what map_file throws.
TensorFile read_ckpt(const std::filesystem::path& path);

/// The same from bytes already in memory or mapped; `name` is for messages.
TensorFile parse_ckpt(const std::shared_ptr<Storage>& bytes, std::string_view name = "checkpoint");

}  // namespace sinopia
