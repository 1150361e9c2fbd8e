#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace sinopia::cli {

/// A wrong command line; ends the program with code 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Numbers are taken whole or not at all: no signs, spaces, "nan", "inf" or hexadecimal, within [low,high].
/// Throws UsageError naming the flag, the range and what came.
int64_t parse_integer(const std::string& flag, const std::string& text, int64_t low, int64_t high);
uint64_t parse_unsigned(const std::string& flag, const std::string& text);
double parse_number(const std::string& flag, const std::string& text, double low, double high);
/// "900M", "1.6G": thousands of thousands of bytes, or a thousand times that.
size_t parse_size(const std::string& flag, const std::string& text);

template <class T>
CLI::Option* add_integer(CLI::App& app, const std::string& flags, T& value, int64_t low, int64_t high,
                         const std::string& help) {
  const std::string flag = CLI::detail::split_up(flags, ',').back();
  return app
      .add_option_function<std::string>(
          flags,
          [&value, flag, low, high](const std::string& text) {
            value = static_cast<T>(parse_integer(flag, text, low, high));
          },
          help)
      ->type_name("N");
}

/// T is double or std::optional<double>.
template <class T>
CLI::Option* add_number(CLI::App& app, const std::string& flags, T& value, double low, double high,
                        const std::string& help) {
  const std::string flag = CLI::detail::split_up(flags, ',').back();
  return app
      .add_option_function<std::string>(
          flags,
          [&value, flag, low, high](const std::string& text) { value = parse_number(flag, text, low, high); },
          help)
      ->type_name("X");
}

/// -1 stands for a random one.
CLI::Option* add_seed(CLI::App& app, const std::string& flags, uint64_t& value, const std::string& help);

/// One of a few names; `set` gets the one that was chosen.
CLI::Option* add_choice(CLI::App& app, const std::string& flags, const std::vector<std::string>& names,
                        const std::function<void(const std::string&)>& set, const std::string& help);

}  // namespace sinopia::cli
