#include "sinopia/backend/recorded_call.h"

#include "sinopia/backend/graph_recording.h"

namespace sinopia {

struct RecordedCall::State {};

RecordedCall::RecordedCall() = default;
RecordedCall::~RecordedCall() = default;
RecordedCall::RecordedCall(RecordedCall&&) noexcept = default;
RecordedCall& RecordedCall::operator=(RecordedCall&&) noexcept = default;
std::vector<Tensor> RecordedCall::operator()(std::span<const Tensor> inputs, const Work& work) {
  return work(inputs);
}
bool RecordedCall::replayed() const { return false; }
void RecordedCall::reset() {}

}  // namespace sinopia
