#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace sinopia {

/// How fast something goes on, from moments and amounts: the mean over the time passed, the recent past
/// counting most. No clock of its own.
class RateEstimator {
 public:
  /// What lies `half_life` seconds back counts half. Throws InvalidArgument unless above 0.
  explicit RateEstimator(double half_life = 30);
  /// `done` in all at second `now` of any clock; the first call only begins. Throws InvalidArgument if the
  /// time runs backwards.
  void update(double now, double done);
  /// The time since the last call, of a validation or a checkpoint, does not count.
  void skip_to(double now);
  /// Amounts a second; 0 before two updates.
  double rate() const { return seconds_ > 0 ? amount_ / seconds_ : 0; }
  /// Infinity while the rate is 0.
  double seconds_for(double remaining) const;

 private:
  void pass_to(double now);

  double half_life_, now_ = 0, done_ = 0, amount_ = 0, seconds_ = 0;
  bool begun_ = false;
};

/// What is told of a run. What is NaN, or 0 where that says nothing, is left out.
struct TrainingProgress {
  int64_t step = 0, steps = 0;  ///< optimizer steps taken, of; steps 0: a run without an end
  double loss = std::numeric_limits<double>::quiet_NaN();  ///< smoothed
  double learning_rate = std::numeric_limits<double>::quiet_NaN();
  double samples_per_second = 0;
  double seconds_left = std::numeric_limits<double>::quiet_NaN();
  uint64_t memory_bytes = 0;
  int64_t skipped = 0;  ///< steps whose gradient was not finite
};

/// At most `lines` lines of at most `width` columns, ASCII, without line ends. What matters most comes first;
/// what does not fit is left out whole. A bar fills what is left of the first line if the end of the run is
/// known. Throws InvalidArgument for a width below 20 or no lines.
std::vector<std::string> progress_view(const TrainingProgress& progress, int width, int lines = 1);

/// "48s", "3m 07s", "2h 05m", "4d 11h"; "?" for what is not finite or negative.
std::string duration_text(double seconds);

}  // namespace sinopia
