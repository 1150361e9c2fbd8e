#include <algorithm>
#include <cstdint>
#include <limits>

#include "sinopia/base/error.h"
#include "sinopia/text/prompt.h"
#include "sinopia/text/prompt_scan.h"

namespace sinopia {
namespace {

constexpr size_t kMaxScheduleBytes = size_t{32} << 20;

enum class TokenKind : uint8_t { Plain, Open, Close, Colon, Bar };

struct Token {
  TokenKind kind;
  uint32_t begin, end;  // bytes of the text
  int32_t choice = -1;  // of an opening bracket: the index of its Choice
};

// A schedule or an alternation: its options are the tokens between neighbouring bounds, bounds themselves
// left out.
struct Choice {
  bool alternates = false;
  std::vector<uint32_t> bounds;
  std::optional<double> when;  // of a schedule: the number as written
  bool fraction = false;       // it has a point
  int last_step = 0;           // of a schedule: the last step of its first option
};

struct Structure {
  std::vector<Token> tokens;
  std::vector<Choice> choices;
};

// Reads the structure of a text. A pair of brackets is structure only if everything inside it is, so that any
// bracket or separator out of place turns all brackets around it into literal text, but none inside.
class ScheduleParser {
 public:
  explicit ScheduleParser(std::string_view text) : text_(text) {}

  // Nothing: the whole text is literal.
  std::optional<Structure> parse() {
    if (!read_tokens()) return std::nullopt;
    for (uint32_t i = 0; i < tokens().size(); ++i) {
      switch (tokens()[i].kind) {
        case TokenKind::Plain:
          break;
        case TokenKind::Open:
          open_.push_back({i, separators_.size(), false});
          break;
        case TokenKind::Colon:
          if (!open_.empty()) separators_.push_back(i);
          break;
        case TokenKind::Bar:
          if (open_.empty()) return std::nullopt;
          open_.back().has_bar = true;
          separators_.push_back(i);
          break;
        case TokenKind::Close:
          if (open_.empty()) break;
          if (close(i)) {
            separators_.resize(open_.back().first_separator);
            open_.pop_back();
          } else if (!make_open_literal()) {
            return std::nullopt;
          }
          break;
      }
    }
    if (!make_open_literal()) return std::nullopt;
    return std::move(structure_);
  }

 private:
  struct OpenBracket {
    uint32_t token;
    size_t first_separator;
    bool has_bar;
  };

  std::vector<Token>& tokens() { return structure_.tokens; }

  bool read_tokens() {
    for (size_t i = 0; i < text_.size();) {
      const size_t start = i;
      while (i < text_.size() && std::string_view("()[]:|").find(text_[i]) == std::string_view::npos) {
        if (text_[i] == '\\' && (++i >= text_.size() || text_[i] == '\n')) return false;
        ++i;
      }
      if (i > start) {
        add(TokenKind::Plain, start, i);
        continue;
      }
      const char c = text_[i];
      add(c == '(' || c == '[' ? TokenKind::Open
          : c == ':'           ? TokenKind::Colon
          : c == '|'           ? TokenKind::Bar
                               : TokenKind::Close,
          i, i + 1);
      ++i;
    }
    return true;
  }

  void add(TokenKind kind, size_t begin, size_t end) {
    tokens().push_back({kind, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
  }

  // A bar may stand nowhere but in an alternation.
  bool make_open_literal() {
    const bool bars = std::any_of(open_.begin(), open_.end(), [](const OpenBracket& b) { return b.has_bar; });
    open_.clear();
    separators_.clear();
    return !bars;
  }

  // Whether token i closes the innermost open bracket; notes the choice that they make.
  bool close(uint32_t i) {
    const OpenBracket& bracket = open_.back();
    const size_t count = separators_.size() - bracket.first_separator;
    const bool round = text_[tokens()[bracket.token].begin] == '(';
    if (round != (text_[tokens()[i].begin] == ')')) return false;
    if (round) return count <= 1 && !bracket.has_bar;
    if (count == 0) return true;

    Choice choice;
    choice.alternates = bracket.has_bar;
    choice.bounds.push_back(bracket.token);
    choice.bounds.insert(choice.bounds.end(),
                         separators_.begin() + static_cast<std::ptrdiff_t>(bracket.first_separator),
                         separators_.end());
    const auto is_bar = [&](uint32_t token) { return tokens()[token].kind == TokenKind::Bar; };
    if (choice.alternates) {
      if (!std::all_of(choice.bounds.begin() + 1, choice.bounds.end(), is_bar)) return false;
      choice.bounds.push_back(i);
    } else {
      const uint32_t last = choice.bounds.back();
      if (count > 2 || i != last + 2 || tokens()[last + 1].kind != TokenKind::Plain) return false;
      const Token& number = tokens()[last + 1];
      const std::string_view spelled =
          trim_start(trim_end(text_.substr(number.begin, number.end - number.begin)));
      choice.when = parse_finite(spelled);
      if (!choice.when) return false;
      choice.fraction = spelled.find('.') != std::string_view::npos;
    }
    tokens()[bracket.token].choice = static_cast<int32_t>(structure_.choices.size());
    structure_.choices.push_back(std::move(choice));
    return true;
  }

  std::string_view text_;
  Structure structure_;
  std::vector<OpenBracket> open_;
  std::vector<uint32_t> separators_;  // of all open brackets, those of the innermost last
};

class Schedule {
 public:
  Schedule(std::string_view text, int steps, std::optional<int> first_pass_steps) : text_(text) {
    last_steps_.push_back(steps);
    auto structure = ScheduleParser(text).parse();
    if (!structure) {
      structure_.tokens.push_back({TokenKind::Plain, 0, static_cast<uint32_t>(text.size())});
      return;
    }
    structure_ = std::move(*structure);
    bool alternates = false;
    for (Choice& choice : structure_.choices) {
      alternates |= choice.alternates;
      if (choice.alternates) continue;
      const double when = choice.fraction ? (*choice.when - (first_pass_steps ? 1.0 : 0.0)) * steps
                                          : *choice.when - first_pass_steps.value_or(0);
      choice.last_step = static_cast<int>(std::clamp<double>(when, -1.0, steps));
      if (choice.last_step >= 1) last_steps_.push_back(choice.last_step);
    }
    if (alternates) {
      check_size(static_cast<size_t>(steps), sizeof(ScheduledText));
      for (int step = 1; step <= steps; ++step) last_steps_.push_back(step);
    }
    std::sort(last_steps_.begin(), last_steps_.end());
    last_steps_.erase(std::unique(last_steps_.begin(), last_steps_.end()), last_steps_.end());
  }

  std::vector<ScheduledText> texts() const {
    std::vector<ScheduledText> result;
    size_t bytes = 0;
    for (const int step : last_steps_) {
      result.push_back({step, text_at(step)});
      bytes += result.back().text.size() + sizeof(ScheduledText);
      if (last_steps_.size() > 1) check_size(bytes, 1);
    }
    return result;
  }

 private:
  static void check_size(size_t count, size_t bytes) {
    SINOPIA_CHECK(count <= kMaxScheduleBytes / bytes, InvalidArgument,
                  "[prompt] expected the texts of all steps to take at most 32 MiB, got more: shorten the "
                  "prompt or use "
                  "fewer schedules");
  }

  std::string text_at(int step) const {
    struct Option {
      uint32_t end, resume;
    };
    std::vector<Option> inside;
    std::string result;
    for (uint32_t i = 0;;) {
      if (!inside.empty() && i == inside.back().end) {
        i = inside.back().resume;
        inside.pop_back();
        continue;
      }
      if (i == structure_.tokens.size()) return result;
      const Token& token = structure_.tokens[i];
      if (token.choice < 0) {
        result.append(text_, token.begin, token.end - token.begin);
        ++i;
        continue;
      }
      const Choice& choice = structure_.choices[static_cast<size_t>(token.choice)];
      const std::vector<uint32_t>& bounds = choice.bounds;
      if (choice.alternates) {
        const size_t option = static_cast<size_t>(step - 1) % (bounds.size() - 1);
        inside.push_back({bounds[option + 1], bounds.back() + 1});
        i = bounds[option] + 1;
        continue;
      }
      // [b:N] has the bounds "[" and ":", [a:b:N] one ":" more; the number and the "]" follow the last.
      const uint32_t resume = bounds.back() + 3;
      const bool before = step <= choice.last_step;
      if (bounds.size() == 2 && before) {
        i = resume;
      } else {
        const size_t option = bounds.size() == 2 || before ? 0 : 1;
        inside.push_back({bounds[option + 1], resume});
        i = bounds[option] + 1;
      }
    }
  }

  std::string_view text_;
  Structure structure_;
  std::vector<int> last_steps_;
};

}  // namespace

std::vector<ScheduledText> resolve_schedule(std::string_view text, int steps,
                                            std::optional<int> first_pass_steps) {
  SINOPIA_CHECK(steps >= 1, InvalidArgument, "[prompt] expected at least one step, got {}", steps);
  SINOPIA_CHECK(text.size() < static_cast<size_t>(std::numeric_limits<int32_t>::max()), InvalidArgument,
                "[prompt] expected less than 2 GiB of text, got {} bytes", text.size());
  return Schedule(text, steps, first_pass_steps).texts();
}

}  // namespace sinopia
