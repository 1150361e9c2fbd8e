#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sinopia {

/// Guidance on a part of the steps, Kynkäänniemi et al. 2024: of N steps those from int(from * N) to before
/// int(to * N), as diffusers' guiders count. On the others the guidance scale is 1, which needs no negative
/// text unless texts are weighed with AND.
struct GuidanceInterval {
  double from = 0, to = 1;  ///< 0 <= from <= to <= 1

  bool all() const { return from == 0 && to == 1; }
  /// step: 0-based, of `steps` that are run.
  bool contains(int step, int steps) const;
};

/// DeepCache, Ma et al. 2024. Counted are a text's evaluations, not steps, for samplers that need several a
/// step; a change of the texts begins anew.
struct DeepCacheChoice {
  int interval = 1;  ///< 1 to 1000: the whole network every so many evaluations; 1: always
  int depth = 0;     ///< how many skips below the first are computed in any case
};

/// What gives up likeness to the full picture for time. All off by default: the picture is then the full one.
struct Savings {
  GuidanceInterval guidance_interval;
  /// Castillo et al. 2023: guidance ends after the first step in which the predictions with the prompt and
  /// without it have at least this cosine, 0 to 1.
  std::optional<double> adaptive_guidance;
  DeepCacheChoice deep_cache;
  double token_merging = 0;   ///< 0 to 1: share of the tokens, see TokenMerging
  bool tiny_decoder = false;  ///< the picture is decoded by the tiny decoder that the model was loaded with
};

/// Throws InvalidArgument naming the field, its range and what came.
void validate(const Savings& savings);

/// "0.2:0.8" and "3:1" (or "3"), as the command line and the pictures' text have them. Throw InvalidArgument
/// for another form or a value out of range.
GuidanceInterval parse_guidance_interval(std::string_view text);
DeepCacheChoice parse_deep_cache(std::string_view text);
std::string to_string(const GuidanceInterval& interval);
std::string to_string(const DeepCacheChoice& choice);

}  // namespace sinopia
