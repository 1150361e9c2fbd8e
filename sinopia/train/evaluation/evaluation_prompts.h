#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "sinopia/train/evaluation/scene.h"

namespace sinopia {

/// A prompt, and what a picture of it ought to show.
struct EvaluationPrompt {
  std::string id;  ///< letters, digits, '-' and '_': the name of its picture
  std::string prompt;
  std::string seen;  ///< the split that such a scene belongs to
  Scene expected;
};

/// JSON Lines as tools/datasets/evaluation_prompts.jsonl has them. Throws NotFound, and Corrupt or
/// InvalidArgument naming the line for what is not as it ought to be, two prompts of one id, or none.
std::vector<EvaluationPrompt> read_evaluation_prompts(const std::filesystem::path& file);

}  // namespace sinopia
