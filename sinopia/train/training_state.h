#pragma once

#include <string_view>

#include "sinopia/io/tensor_map.h"

namespace sinopia {

/// Throws Corrupt, naming `who`, unless a state that was read has the names, shapes and dtypes of the state
/// that it is to replace, and a "step" from 0.
void check_state(const TensorMap& read, const TensorMap& expected, std::string_view who);

/// to = from, of one shape and type, wherever both are.
void overwrite(Tensor& to, const Tensor& from);

/// The same tensors on the CPU.
TensorMap on_cpu(TensorMap tensors);

}  // namespace sinopia
