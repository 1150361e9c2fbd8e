#include <algorithm>
#include <limits>

#include "sinopia/text/prompt.h"
#include "sinopia/text/prompt_scan.h"

namespace sinopia {
namespace {

constexpr size_t npos = std::string_view::npos;
constexpr std::string_view kSpecialCharacters = "\\()[]:";

struct Piece {
  std::string_view text;
  double weight = 1.0;
  bool chunk_break = false;
};

// Where the brackets of one shape were opened, as positions among the pieces.
struct Brackets {
  std::vector<size_t> open;
  size_t literal = 0;  // opened beyond the depth limit

  // False: the bracket is literal.
  bool push(size_t position) {
    if (open.size() < static_cast<size_t>(kMaxAttentionDepth)) {
      open.push_back(position);
      return true;
    }
    ++literal;
    return false;
  }
  // npos: the bracket is literal.
  size_t pop() {
    if (literal > 0) return --literal, npos;
    if (open.empty()) return npos;
    const size_t position = open.back();
    open.pop_back();
    return position;
  }
};

// The number of `: 1.3 )` and where it ends.
struct ClosingWeight {
  double value;
  size_t end;
};

std::optional<ClosingWeight> closing_weight(std::string_view text, size_t colon) {
  const std::string_view after = trim_start(text.substr(colon + 1));
  size_t end = !after.empty() && (after[0] == '+' || after[0] == '-') ? 1 : 0;
  while (end < after.size() && (after[end] == '.' || (after[end] >= '0' && after[end] <= '9'))) ++end;
  const std::string_view behind = trim_start(after.substr(end));
  if (behind.empty() || behind[0] != ')') return std::nullopt;
  const auto value = parse_finite(after.substr(0, end));
  if (!value) return std::nullopt;
  return ClosingWeight{*value, text.size() - behind.size() + 1};
}

class AttentionParser {
 public:
  explicit AttentionParser(std::string_view text) : text_(text) {}

  std::vector<PromptPiece> parse() {
    for (size_t i = 0; i < text_.size();) i = step(i);
    for (const size_t position : round_.open) multiply(position, kRound);
    for (const size_t position : square_.open) multiply(position, kSquare);
    return merged();
  }

 private:
  static constexpr double kRound = 1.1;
  static constexpr double kSquare = 1 / 1.1;

  // Reads what starts at i and returns where it ends.
  size_t step(size_t i) {
    switch (text_[i]) {
      case '\\': {
        const bool escape = i + 1 < text_.size() && std::string_view("()[]\\").find(text_[i + 1]) != npos;
        pieces_.push_back({text_.substr(i + 1, escape ? 1 : 0)});
        return i + (escape ? 2 : 1);
      }
      case '(':
        if (!round_.push(pieces_.size())) literal(text_.substr(i, 1));
        return i + 1;
      case '[':
        if (!square_.push(pieces_.size())) literal(text_.substr(i, 1));
        return i + 1;
      case ')':
        close(round_, kRound, text_.substr(i, 1));
        return i + 1;
      case ']':
        close(square_, kSquare, text_.substr(i, 1));
        return i + 1;
      case ':':
        if (const auto weight = closing_weight(text_, i)) {
          close(round_, weight->value, text_.substr(i, weight->end - i));
          return weight->end;
        }
        literal(text_.substr(i, 1));
        return i + 1;
      default: {
        const size_t end = std::min(text_.find_first_of(kSpecialCharacters, i), text_.size());
        literal(text_.substr(i, end - i));
        return end;
      }
    }
  }

  void close(Brackets& brackets, double multiplier, std::string_view spelled) {
    const size_t position = brackets.pop();
    if (position == npos) return literal(spelled);
    multiply(position, multiplier);
  }

  void multiply(size_t first, double multiplier) {
    constexpr double kMost = std::numeric_limits<float>::max();
    for (size_t i = first; i < pieces_.size(); ++i) {
      pieces_[i].weight = std::clamp(pieces_[i].weight * multiplier, -kMost, kMost);
    }
  }

  void literal(std::string_view text) {
    constexpr std::string_view kBreak = "BREAK";
    for (size_t at = find_word(text, kBreak, 0); at != npos; at = find_word(text, kBreak, 0)) {
      pieces_.push_back({trim_end(text.substr(0, at))});
      pieces_.push_back({{}, 1.0, true});
      text = trim_start(text.substr(at + kBreak.size()));
    }
    pieces_.push_back({text});
  }

  std::vector<PromptPiece> merged() const {
    std::vector<PromptPiece> result;
    const Piece* previous = nullptr;
    for (const Piece& piece : pieces_) {
      if (piece.chunk_break) {
        result.push_back({"", 1.0f, true});
      } else if (previous && !previous->chunk_break && previous->weight == piece.weight) {
        result.back().text += piece.text;
      } else {
        result.push_back({std::string(piece.text), static_cast<float>(piece.weight), false});
      }
      previous = &piece;
    }
    if (result.empty()) result.emplace_back();
    return result;
  }

  std::string_view text_;
  std::vector<Piece> pieces_;
  Brackets round_, square_;
};

}  // namespace

std::vector<PromptPiece> parse_attention(std::string_view text) { return AttentionParser(text).parse(); }

}  // namespace sinopia
