#include "options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <random>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace sinopia::cli {
namespace {

template <class T>
bool read(const std::string& text, T& value) {
  if (text.empty() || text.front() < '0' || text.front() > '9') return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

uint64_t random_seed() {
  std::random_device device;
  return device();
}

}  // namespace

int64_t parse_integer(const std::string& flag, const std::string& text, int64_t low, int64_t high) {
  int64_t value = 0;
  if (!read(text, value) || value < low || value > high)
    throw UsageError(
        fmt::format("{}: expected a whole number from {} to {}, got '{}'", flag, low, high, text));
  return value;
}

uint64_t parse_unsigned(const std::string& flag, const std::string& text) {
  uint64_t value = 0;
  if (!read(text, value))
    throw UsageError(
        fmt::format("{}: expected a whole number from 0 to {}, got '{}'", flag, UINT64_MAX, text));
  return value;
}

double parse_number(const std::string& flag, const std::string& text, double low, double high) {
  double value = 0;
  if (!read(text.starts_with('.') ? "0" + text : text, value) || !std::isfinite(value) || value < low ||
      value > high)
    throw UsageError(fmt::format("{}: expected a number from {} to {}, got '{}'", flag, low, high, text));
  return value;
}

size_t parse_size(const std::string& flag, const std::string& text) {
  const char unit = text.empty() ? '\0' : text.back();
  double value = 0;
  if ((unit != 'M' && unit != 'G') || !read(text.substr(0, text.size() - 1), value) || !(value > 0) ||
      !(value <= 1e6))
    throw UsageError(fmt::format("{}: expected a size such as 900M or 1.6G, got '{}'", flag, text));
  return static_cast<size_t>(value * (unit == 'G' ? 1e9 : 1e6));
}

CLI::Option* add_seed(CLI::App& app, const std::string& flags, uint64_t& value, const std::string& help) {
  const std::string flag = CLI::detail::split_up(flags, ',').back();
  return app
      .add_option_function<std::string>(
          flags,
          [&value, flag](const std::string& text) {
            value = text == "-1" ? random_seed() : parse_unsigned(flag, text);
          },
          help)
      ->type_name("N");
}

CLI::Option* add_choice(CLI::App& app, const std::string& flags, const std::vector<std::string>& names,
                        const std::function<void(const std::string&)>& set, const std::string& help) {
  const std::string flag = CLI::detail::split_up(flags, ',').back();
  return app
      .add_option_function<std::string>(
          flags,
          [set, flag, names](const std::string& text) {
            if (std::find(names.begin(), names.end(), text) == names.end())
              throw UsageError(
                  fmt::format("{}: expected one of {}, got '{}'", flag, fmt::join(names, ", "), text));
            set(text);
          },
          help)
      ->type_name("NAME");
}

}  // namespace sinopia::cli
