#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "sinopia/tensor/tensor.h"

namespace sinopia {

/// Work on tensors of a GPU that is done again and again with inputs of the same shapes. The second call is
/// recorded and from the third on replayed as a whole, without the host's part in each kernel (a CUDA graph);
/// inputs of other shapes start anew. On the CPU, and where the work cannot be recorded (it reads results on
/// the host, memory is short), it is simply called. Results are the same bits either way. Not thread safe.
class RecordedCall {
 public:
  /// From the inputs to the results; must depend on nothing else that changes between calls.
  using Work = std::function<std::vector<Tensor>(std::span<const Tensor> inputs)>;

  RecordedCall();
  ~RecordedCall();
  RecordedCall(RecordedCall&&) noexcept;
  RecordedCall& operator=(RecordedCall&&) noexcept;

  /// work(inputs). Inputs may be absent; all that are there lie on one device. The results are new tensors.
  std::vector<Tensor> operator()(std::span<const Tensor> inputs, const Work& work);
  /// Whether the last call was replayed.
  bool replayed() const;
  /// Forgets the recording and gives its memory back.
  void reset();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sinopia
