#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "sinopia/pipelines/request.h"

namespace sinopia {

/// What a run of the program adds to a generation's own figures.
struct RunFacts {
  std::string model;                              ///< path
  std::string description;                        ///< "Stable Diffusion 1"
  std::string device = "cpu", precision = "f32";  ///< where the networks ran and in which type
  double load_seconds = 0;
  std::vector<std::string> files;  ///< written, one a picture
};

/// A generation as a JSON object: request, what was chosen, seeds, files, seconds per stage and step, peak
/// memory in bytes of tensors and of the process.
std::string report_json(const GenerationRequest& request, const GenerationResult& result,
                        const RunFacts& facts);

/// The most memory that the process has ever had resident, mapped files included; 0 where the system does not
/// say.
size_t peak_resident_bytes();

}  // namespace sinopia
