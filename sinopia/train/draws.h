#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace sinopia {

/// What a random number of training is for. Each has a stream of its own, so that one more draw for one
/// purpose leaves the others as they were. The numbers are part of what a seed means: append only.
enum class Purpose : uint32_t {
  Order = 0,
  Caption = 1,
  Crop = 2,
  Flip = 3,
  Posterior = 4,
  Timestep = 5,
  Noise = 6,
  OffsetNoise = 7,
  Dropout = 8,
  Mask = 9,
  Degradation = 10,
  Parameters = 11,
  Validation = 12,
  Background = 13,
  DegradationNoise = 14,
  LabelDropout = 15,
};

/// Random numbers that depend on (seed, purpose, step, index) and on how many were drawn before from this
/// object, on nothing else. A run has no generator whose state would have to be saved: one that goes on at
/// step k draws what it would have drawn, for any number of threads. Philox4x32-10 (Salmon et al. 2011) with
/// the seed as its key.
class Draws {
 public:
  Draws(uint64_t seed, Purpose purpose, uint32_t step, uint32_t index = 0)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
        counter_{0, index, step, static_cast<uint32_t>(purpose)} {}

  uint32_t bits();
  /// (0,1): multiples of 2^-32, shifted by half of one.
  double uniform();
  /// [0,count), each equally likely. Throws InvalidArgument for a count below 1.
  int64_t integer(int64_t count);
  /// Whether something of this probability happens.
  bool chance(double probability) { return uniform() < probability; }
  double normal();
  void normal(std::span<float> out);

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_, words_{};
  int left_ = 0;
};

/// 0..count-1 in the order in which an epoch takes them; another one for another index.
std::vector<int64_t> shuffled(int64_t count, uint64_t seed, uint32_t epoch, uint32_t index = 0);

}  // namespace sinopia
