#include "sinopia/train/draws.h"

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "sinopia/base/error.h"
#include "sinopia/tensor/random.h"

namespace sinopia {

uint32_t Draws::bits() {
  if (left_ == 0) {
    words_ = philox4x32(counter_, key_);
    ++counter_[0];
    left_ = 4;
  }
  return words_[4 - left_--];
}

double Draws::uniform() { return bits() * 0x1p-32 + 0x1p-33; }

int64_t Draws::integer(int64_t count) {
  SINOPIA_CHECK(count >= 1, InvalidArgument, "[draws] expected a count of 1 or more, got {}", count);
  const auto range = static_cast<uint64_t>(count);
  const uint64_t refused = (0 - range) % range;  // 2^64 mod range: what would make small numbers likelier
  for (;;) {
    const uint64_t high = bits(), drawn = high << 32 | bits();
    if (drawn >= refused) return static_cast<int64_t>(drawn % range);
  }
}

double Draws::normal() {
  const double radius = std::sqrt(-2 * std::log(uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

void Draws::normal(std::span<float> out) {
  for (float& x : out) x = static_cast<float>(normal());
}

std::vector<int64_t> shuffled(int64_t count, uint64_t seed, uint32_t epoch, uint32_t index) {
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), int64_t{0});
  Draws draws(seed, Purpose::Order, epoch, index);
  for (int64_t i = count - 1; i > 0; --i) std::swap(order[i], order[draws.integer(i + 1)]);
  return order;
}

}  // namespace sinopia
