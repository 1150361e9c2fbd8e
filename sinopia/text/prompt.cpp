#include "sinopia/text/prompt.h"

#include <algorithm>
#include <utility>

#include "sinopia/base/error.h"
#include "sinopia/text/prompt_scan.h"
#include "sinopia/text/unicode.h"

namespace sinopia {
namespace {

constexpr size_t npos = std::string_view::npos;

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == npos) return parts;
    text.remove_prefix(end + 1);
  }
}

ExtraNetwork make_network(std::string_view kind, std::string_view arguments) {
  ExtraNetwork network;
  network.kind = kind;
  for (std::string& item : split(arguments, ':')) {
    const size_t equals = item.find('=');
    if (equals != npos && item.find('=', equals + 1) == npos) {
      network.named[item.substr(0, equals)] = item.substr(equals + 1);
    } else {
      network.positional.push_back(std::move(item));
    }
  }
  return network;
}

// Moves every `<word:anything but >>` of the text into networks.
std::string take_networks(std::string_view text, std::vector<ExtraNetwork>& networks) {
  std::string rest;
  size_t copied = 0;
  for (size_t open = text.find('<'); open != npos;) {
    size_t colon = open + 1;
    for (size_t next = colon; next < text.size(); colon = next) {
      if (!unicode::is_python_word(unicode::next_code_point(text, next))) break;
    }
    if (colon == open + 1 || colon >= text.size() || text[colon] != ':') {
      open = text.find('<', open + 1);
      continue;
    }
    const size_t close = text.find('>', colon);
    if (close == npos) break;  // nor will a later one find it
    if (close == colon + 1) {
      open = text.find('<', close);
      continue;
    }
    networks.push_back(
        make_network(text.substr(open + 1, colon - open - 1), text.substr(colon + 1, close - colon - 1)));
    rest.append(text, copied, open - copied);
    copied = close + 1;
    open = text.find('<', copied);
  }
  return rest.append(text, copied);
}

// `text : 1.5 ` -> text and 1.5; the number has neither an exponent nor anything behind it.
SubPrompt parse_subprompt(std::string_view text) {
  text = trim_end(text);
  const size_t colon = text.rfind(':');
  if (colon != npos) {
    const std::string_view number = trim_start(text.substr(colon + 1));
    const bool plain = std::all_of(number.begin(), number.end(), [](char c) {
      return (c >= '0' && c <= '9') || c == '.' || c == '+' || c == '-';
    });
    if (plain) {
      if (const auto weight = parse_finite(number))
        return {*weight, std::string(trim_end(text.substr(0, colon)))};
    }
  }
  return {1.0, std::string(text)};
}

double lora_weight(const ExtraNetwork& network, const char* name, size_t position, double fallback) {
  const auto named = network.named.find(name);
  const std::string* text = nullptr;
  if (named != network.named.end()) {
    text = &named->second;
  } else if (position < network.positional.size()) {
    text = &network.positional[position];
  }
  if (!text) return fallback;
  const auto weight = parse_finite(trim_start(trim_end(*text)));
  SINOPIA_CHECK(weight, InvalidArgument, "[prompt] expected a number as the {} weight of <lora:{}>, got '{}'",
                name, network.positional.front(), *text);
  return *weight;
}

}  // namespace

std::string strip_comments(std::string_view text) {
  // A line that is nothing but a comment goes with the newline before it, unless that one ended another
  // comment.
  std::string lines;
  for (size_t i = 0; i < text.size();) {
    const bool newline = text[i] == '\n';
    const size_t hash = i + (newline ? 1 : 0);
    if ((newline || i == 0) && hash < text.size() && text[hash] == '#') {
      const size_t end = text.find('\n', hash);
      lines += '\n';
      i = end == npos ? text.size() : end + 1;
    } else {
      lines += text[i++];
    }
  }
  std::string result;
  for (size_t i = 0; i < lines.size();) {
    const size_t hash = std::min(lines.find('#', i), lines.size());
    result.append(lines, i, hash - i);
    i = hash;
    if (hash < lines.size()) {
      const size_t end = lines.find('\n', hash);
      result += '\n';
      i = end == npos ? lines.size() : end + 1;
    }
  }
  return result;
}

Prompt parse_prompt(std::string_view text) {
  Prompt prompt;
  const std::string rest = take_networks(strip_comments(text), prompt.extra_networks);
  size_t start = 0;
  for (;;) {
    const size_t end = find_word(rest, "AND", start);
    prompt.subprompts.push_back(parse_subprompt(std::string_view(rest).substr(start, end - start)));
    if (end == npos) return prompt;
    start = end + 3;
  }
}

LoraReference lora_reference(const ExtraNetwork& network) {
  SINOPIA_CHECK(!network.positional.empty() && !network.positional.front().empty(), InvalidArgument,
                "[prompt] expected <{}:name>, got no name", network.kind);
  LoraReference lora;
  lora.name = network.positional.front();
  const bool unsafe =
      lora.name == "." || lora.name == ".." || std::any_of(lora.name.begin(), lora.name.end(), [](char c) {
        return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
      });
  SINOPIA_CHECK(!unsafe, InvalidArgument, "[prompt] expected the plain name of a LoRA, got '{}'", lora.name);
  lora.text_encoder = lora_weight(network, "te", 1, 1.0);
  lora.unet = lora_weight(network, "unet", 2, lora.text_encoder);
  return lora;
}

}  // namespace sinopia
