#include "output_name.h"

#include <filesystem>
#include <optional>

#include <fmt/format.h>

#include "options.h"

namespace sinopia::cli {
namespace {

struct Number {
  size_t begin, end;
  int digits;
};

// The first "%d" or "%0Nd" from `from` on.
std::optional<Number> find_number(const std::string& text, size_t from) {
  const size_t begin = text.find('%', from);
  if (begin == std::string::npos) return std::nullopt;
  size_t end = begin + 1;
  int digits = 1;
  if (end + 1 < text.size() && text[end] == '0' && text[end + 1] >= '1' && text[end + 1] <= '9') {
    digits = text[end + 1] - '0';
    end += 2;
  }
  if (end < text.size() && text[end] == 'd') return Number{begin, end + 1, digits};
  throw UsageError(fmt::format("--output: expected %d, %0Nd or {{seed}} in '{}'", text));
}

}  // namespace

std::string output_name(const std::string& pattern, int index, int count, uint64_t seed) {
  std::string name = pattern;
  bool numbered = false;
  for (size_t from = 0; const auto number = find_number(name, from);) {
    const std::string digits = fmt::format("{:0{}}", index + 1, number->digits);
    name.replace(number->begin, number->end - number->begin, digits);
    from = number->begin + digits.size();
    numbered = true;
  }
  constexpr std::string_view kSeed = "{seed}";
  for (size_t at; (at = name.find(kSeed)) != std::string::npos; numbered = true)
    name.replace(at, kSeed.size(), fmt::format("{}", seed));
  if (numbered || index == 0 || count == 1) return name;
  const std::filesystem::path path(name);
  const std::string file = fmt::format("{}_{}{}", path.stem().string(), index + 1, path.extension().string());
  return (path.parent_path() / file).string();
}

}  // namespace sinopia::cli
