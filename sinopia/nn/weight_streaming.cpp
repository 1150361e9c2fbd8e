#include "sinopia/nn/weight_streaming.h"

#include <atomic>

namespace sinopia {
namespace {

std::atomic<int> streaming{0};

}  // namespace

WeightStreaming::WeightStreaming(bool on) : on_(on) { streaming += on_; }
WeightStreaming::~WeightStreaming() { streaming -= on_; }
bool WeightStreaming::is_on() { return streaming > 0; }

}  // namespace sinopia
