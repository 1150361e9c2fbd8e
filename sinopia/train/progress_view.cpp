#include "sinopia/train/progress_view.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

constexpr std::string_view kBetween = "  ";

std::string bytes_text(uint64_t bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  return mib < 1024 ? fmt::format("{:.0f} MiB", mib) : fmt::format("{:.1f} GiB", mib / 1024);
}

std::string loss_text(double loss) {
  const double size = std::abs(loss);
  return size >= 1e-3 && size < 1e4 ? fmt::format("loss {:.4f}", loss) : fmt::format("loss {:.3g}", loss);
}

std::vector<std::string> fields_of(const TrainingProgress& p) {
  std::vector<std::string> fields;
  if (p.steps > 0) {
    // Rounded down: 100 % is the end.
    fields.push_back(
        fmt::format("step {}/{} {}%", p.step, p.steps,
                    static_cast<int>(100 * static_cast<double>(p.step) / static_cast<double>(p.steps))));
  } else {
    fields.push_back(fmt::format("step {}", p.step));
  }
  if (!std::isnan(p.loss)) fields.push_back(loss_text(p.loss));
  if (p.skipped > 0) fields.push_back(fmt::format("{} skipped", p.skipped));
  if (std::isfinite(p.seconds_left)) fields.push_back(duration_text(p.seconds_left) + " left");
  if (p.samples_per_second > 0) {
    fields.push_back(p.samples_per_second >= 1 ? fmt::format("{:.1f} samples/s", p.samples_per_second)
                                               : fmt::format("{:.1f} s/sample", 1 / p.samples_per_second));
  }
  if (!std::isnan(p.learning_rate)) fields.push_back(fmt::format("lr {:.2e}", p.learning_rate));
  if (p.memory_bytes > 0) fields.push_back(bytes_text(p.memory_bytes));
  return fields;
}

}  // namespace

RateEstimator::RateEstimator(double half_life) : half_life_(half_life) {
  SINOPIA_CHECK(half_life > 0 && std::isfinite(half_life), InvalidArgument,
                "[progress] expected a half life above 0 seconds, got {}", half_life);
}

void RateEstimator::pass_to(double now) {
  SINOPIA_CHECK(!begun_ || now >= now_, InvalidArgument, "[progress] expected a time from {} on, got {}",
                now_, now);
  now_ = now;
}

void RateEstimator::update(double now, double done) {
  const double passed = now - now_, fresh = done - done_;
  pass_to(now);
  done_ = done;
  if (!std::exchange(begun_, true)) return;
  const double keep = std::exp2(-passed / half_life_);
  amount_ = keep * amount_ + fresh;
  seconds_ = keep * seconds_ + passed;
}

void RateEstimator::skip_to(double now) { pass_to(now); }

double RateEstimator::seconds_for(double remaining) const {
  return rate() > 0 ? remaining / rate() : std::numeric_limits<double>::infinity();
}

std::string duration_text(double seconds) {
  constexpr double kLongest = 1e9;
  if (!(seconds >= 0)) return "?";
  if (seconds > kLongest) return "?";
  const auto s = static_cast<int64_t>(std::llround(seconds));
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m {:02}s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{}h {:02}m", s / 3600, s / 60 % 60);
  return fmt::format("{}d {:02}h", s / 86400, s / 3600 % 24);
}

std::vector<std::string> progress_view(const TrainingProgress& progress, int width, int lines) {
  SINOPIA_CHECK(width >= 20 && lines >= 1, InvalidArgument,
                "[progress] expected at least 20 columns and a line, got {} and {}", width, lines);
  const auto columns = static_cast<size_t>(width);
  std::vector<std::string> result(1);
  for (const std::string& field : fields_of(progress)) {
    std::string& line = result.back();
    if (line.empty() ? field.size() <= columns : line.size() + kBetween.size() + field.size() <= columns) {
      if (!line.empty()) line += kBetween;
      line += field;
    } else if (result.size() < static_cast<size_t>(lines) && field.size() <= columns) {
      result.push_back(field);
    }
  }
  constexpr size_t kLeastBar = 10, kMostBar = 40;
  std::string& first = result.front();
  if (progress.steps > 0 && first.size() + kBetween.size() + kLeastBar <= columns) {
    const size_t inside = std::min(kMostBar, columns - first.size() - kBetween.size()) - 2;
    const double share = static_cast<double>(progress.step) / static_cast<double>(progress.steps);
    const auto full = static_cast<size_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(inside));
    first += fmt::format("{}[{}{}]", kBetween, std::string(full, '='), std::string(inside - full, ' '));
  }
  return result;
}

}  // namespace sinopia
