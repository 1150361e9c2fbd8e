#include "sinopia/train/training_state.h"

#include "sinopia/backend/kernels.h"

namespace sinopia {

void check_state(const TensorMap& read, const TensorMap& expected, std::string_view who) {
  SINOPIA_CHECK(read.size() == expected.size(), Corrupt, "[{}] expected a state of {} tensors, got {}", who,
                expected.size(), read.size());
  auto theirs = read.begin();
  for (const auto& [name, tensor] : expected) {
    const auto& [their_name, their_tensor] = *theirs++;
    SINOPIA_CHECK(their_name == name && their_tensor.shape() == tensor.shape() &&
                      their_tensor.dtype() == tensor.dtype(),
                  Corrupt, "[{}] expected the state {} {}, got {} {}", who, name, describe(tensor),
                  their_name, describe(their_tensor));
  }
  const int64_t step = *read.find("step")->second.data<int64_t>();
  SINOPIA_CHECK(step >= 0, Corrupt, "[{}] expected a step from 0, got {}", who, step);
}

void overwrite(Tensor& to, const Tensor& from) {
  kernels(to.device()).convert(copy_to(from, to.device()), to);
}

TensorMap on_cpu(TensorMap tensors) {
  for (auto& [name, tensor] : tensors) tensor = copy_to(tensor, {});
  return tensors;
}

}  // namespace sinopia
