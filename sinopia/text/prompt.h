#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sinopia {

/// How the weights of a prompt act on the output z of the text encoder. The encoder's layer applies them; the
/// prompt and chunk types here only carry them.
enum class EmphasisMode {
  Original,  ///< z * w, then scaled so that the mean of the chunk is what it was (AUTOMATIC1111's default)
  NoNorm,    ///< z * w
  Comfy,     ///< z_empty + (z - z_empty) * w, with z_empty of the empty prompt (ComfyUI)
  Ignore,    ///< brackets and weights are taken out of the text and have no effect
};

/// One `<kind:a:b:name=c>`: what is named, and in order what is not.
struct ExtraNetwork {
  std::string kind;
  std::vector<std::string> positional;
  std::map<std::string, std::string> named;
};

/// What `<lora:name:te:unet>` asks for.
struct LoraReference {
  std::string name;
  double text_encoder = 1.0;
  double unet = 1.0;
};

/// One side of an `AND`: the guided result is uncond + sum of weight_i * cfg * (cond_i - uncond).
struct SubPrompt {
  double weight = 1.0;
  std::string text;  ///< with its schedules and attention still in it
};

struct Prompt {
  std::vector<ExtraNetwork> extra_networks;
  std::vector<SubPrompt> subprompts;  ///< at least one
};

/// The text in force up to and including a step.
struct ScheduledText {
  int last_step = 0;  ///< 1-based
  std::string text;
};

/// A piece of text with one weight, or the mark that ends a chunk (then text is empty).
struct PromptPiece {
  std::string text;
  float weight = 1.0f;
  bool chunk_break = false;
};

// The functions below follow the grammar of AUTOMATIC1111's web UI 1.10. They take any bytes: what does not
// parse, and every number that is not finite, stays literal text. Time and memory are linear in the text, but
// for the products named below.

/// Takes out comments, from `#` to the end of the line. All there is to do for a negative prompt before its
/// schedule is resolved: it has neither extra networks nor `AND`.
std::string strip_comments(std::string_view text);

/// Takes comments and extra networks out of a positive prompt and splits it at the word `AND`. A trailing
/// `:w` of a part, or of a prompt without `AND`, is its weight.
Prompt parse_prompt(std::string_view text);

/// te defaults to 1, unet to te; both may be named.  Throws InvalidArgument for a missing or unsafe name (one
/// with a slash, a backslash, a control character, "." or "..") and for a weight that is not a finite number.
LoraReference lora_reference(const ExtraNetwork& network);

/// The texts of `[a:b:N]`, `[b:N]`, `[a::N]` and `[a|b]` over the steps 1..steps, each valid after the
/// last_step of the one before; the last ends at `steps`. Neighbours may be equal. N with a point is a
/// fraction of the steps, else a step; a holds while step <= N. One bare `|`, or a backslash before nothing
/// or a newline, makes all of it literal. Among unbalanced brackets, which the web UI reads differently from
/// run to run, every complete schedule or alternation counts. first_pass_steps: for the second pass of a
/// high-resolution fix, whose steps follow those of the first: N counts from the first pass on, and its
/// fractions from 1.0. Throws InvalidArgument if steps < 1, or if the texts of all steps would take more than
/// 32 MiB.
std::vector<ScheduledText> resolve_schedule(std::string_view text, int steps,
                                            std::optional<int> first_pass_steps = std::nullopt);

/// The deepest nesting of either bracket that changes a weight; brackets further in are literal.
inline constexpr int kMaxAttentionDepth = 256;

/// Attention: `(x)` times 1.1, `[x]` divided by 1.1, `(x:w)` times w; a backslash before a bracket or a
/// backslash makes it literal, any other one vanishes; an unclosed bracket reaches to the end. The word
/// `BREAK` is a piece of its own (within brackets too, where the web UI would take it for text). Neighbours
/// of equal weight are one piece, a text without any is one empty piece. Weights saturate at the largest
/// float. Time O(n * kMaxAttentionDepth).
std::vector<PromptPiece> parse_attention(std::string_view text);

}  // namespace sinopia
