#include "sinopia/pipelines/savings.h"

#include <charconv>
#include <cmath>

#include "sinopia/base/error.h"

namespace sinopia {
namespace {

// A number without sign, from the front of `text`, which it is taken off.
template <class T>
std::optional<T> take_number(std::string_view& text) {
  T value{};
  if (text.empty() || text.front() < '0' || text.front() > '9') return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

bool take_colon(std::string_view& text) {
  if (!text.starts_with(':')) return false;
  text.remove_prefix(1);
  return true;
}

void check_share(const char* field, double value) {
  SINOPIA_CHECK(std::isfinite(value) && value >= 0 && value <= 1, InvalidArgument,
                "[request] expected {} from 0 to 1, got {}", field, value);
}

void check_interval(const GuidanceInterval& interval) {
  SINOPIA_CHECK(interval.from >= 0 && interval.from <= interval.to && interval.to <= 1, InvalidArgument,
                "[request] expected a guidance interval with 0 <= from <= to <= 1, got {}",
                to_string(interval));
}

void check_deep_cache(const DeepCacheChoice& choice) {
  SINOPIA_CHECK(choice.interval >= 1 && choice.interval <= 1000, InvalidArgument,
                "[request] expected a DeepCache interval from 1 to 1000, got {}", choice.interval);
  SINOPIA_CHECK(choice.depth >= 0, InvalidArgument, "[request] expected a DeepCache depth from 0, got {}",
                choice.depth);
}

}  // namespace

bool GuidanceInterval::contains(int step, int steps) const {
  return step >= static_cast<int>(from * steps) && step < static_cast<int>(to * steps);
}

void validate(const Savings& savings) {
  check_interval(savings.guidance_interval);
  if (savings.adaptive_guidance) check_share("adaptive_guidance", *savings.adaptive_guidance);
  check_deep_cache(savings.deep_cache);
  check_share("token_merging", savings.token_merging);
}

GuidanceInterval parse_guidance_interval(std::string_view text) {
  std::string_view rest = text;
  const auto from = take_number<double>(rest);
  const bool colon = take_colon(rest);
  const auto to = take_number<double>(rest);
  SINOPIA_CHECK(from && colon && to && rest.empty(), InvalidArgument,
                "[request] expected a guidance interval FROM:TO, such as 0.2:0.8, got \"{}\"", text);
  const GuidanceInterval interval{*from, *to};
  check_interval(interval);
  return interval;
}

DeepCacheChoice parse_deep_cache(std::string_view text) {
  std::string_view rest = text;
  const auto interval = take_number<int>(rest);
  std::optional<int> depth = 0;
  if (take_colon(rest)) depth = take_number<int>(rest);
  SINOPIA_CHECK(interval && depth && rest.empty(), InvalidArgument,
                "[request] expected INTERVAL or INTERVAL:DEPTH for DeepCache, such as 3:0, got \"{}\"", text);
  const DeepCacheChoice choice{*interval, *depth};
  check_deep_cache(choice);
  return choice;
}

std::string to_string(const GuidanceInterval& interval) {
  return fmt::format("{}:{}", interval.from, interval.to);
}

std::string to_string(const DeepCacheChoice& choice) {
  return fmt::format("{}:{}", choice.interval, choice.depth);
}

}  // namespace sinopia
