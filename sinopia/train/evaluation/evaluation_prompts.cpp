#include "sinopia/train/evaluation/evaluation_prompts.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "sinopia/base/error.h"
#include "sinopia/io/file.h"
#include "sinopia/io/json_file.h"

namespace sinopia {
namespace {

bool is_plain(const std::string& id) {
  const auto plain = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_'; };
  return !id.empty() && std::ranges::all_of(id, plain);
}

EvaluationPrompt parse(const std::string& line) {
  const auto json = parse_json(line);
  SINOPIA_CHECK(json.is_object(), Corrupt, "expected a JSON object");
  EvaluationPrompt prompt;
  for (const auto& [name, text] : {std::pair<const char*, std::string*>{"id", &prompt.id},
                                   {"prompt", &prompt.prompt},
                                   {"seen", &prompt.seen}}) {
    SINOPIA_CHECK(json.contains(name) && json[name].is_string(), InvalidArgument,
                  "expected a text under '{}'", name);
    *text = json[name].get<std::string>();
  }
  SINOPIA_CHECK(is_plain(prompt.id), InvalidArgument, "expected an id of letters, digits, - and _, got '{}'",
                prompt.id);
  SINOPIA_CHECK(json.contains("expect"), InvalidArgument, "expected a scene under 'expect'");
  prompt.expected = parse_scene(json["expect"]);
  return prompt;
}

}  // namespace

std::vector<EvaluationPrompt> read_evaluation_prompts(const std::filesystem::path& file) {
  constexpr size_t kLargest = size_t{64} << 20;
  std::istringstream lines(read_text_file(file, kLargest));
  std::vector<EvaluationPrompt> prompts;
  std::set<std::string> ids;
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.empty()) continue;
    try {
      prompts.push_back(parse(line));
    } catch (const Error& error) {
      fail(error.kind(), "[evaluation] {}:{}: {}", file.filename().string(), number, error.what());
    }
    SINOPIA_CHECK(ids.insert(prompts.back().id).second, InvalidArgument,
                  "[evaluation] {}:{}: the id {} is there twice", file.filename().string(), number,
                  prompts.back().id);
  }
  SINOPIA_CHECK(!prompts.empty(), InvalidArgument, "[evaluation] no prompts in '{}'", file.string());
  return prompts;
}

}  // namespace sinopia
