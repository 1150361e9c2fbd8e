#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sinopia/pipelines/parameters_text.h"
#include "sinopia/pipelines/request.h"

namespace sinopia {

/// The version of this library, "0.1.0".
std::string_view version();

/// What a request leaves open and a picture settled.
struct PictureFacts {
  std::string model;      ///< the name of its file or folder, without the ending
  std::string sampler;    ///< registry name
  std::string scheduler;  ///< registry name; empty: the model's own scheduler, as diffusers has it
  uint64_t seed = 0;
  uint64_t variation_seed = 0;
  int width = 0, height = 0;
};

/// The settings of a picture under the names that AUTOMATIC1111 has for them, and names of our own for the
/// rest.
ParametersText describe_picture(const GenerationRequest& request, const PictureFacts& facts);

/// A request out of a picture's settings.
struct ReadRequest {
  GenerationRequest request;
  std::string model;              ///< its name; empty if the settings do not say
  bool needs_init_image = false;  ///< it was made from a picture, which its text does not hold
  bool needs_mask = false;
  bool needs_semantic_map = false;
  std::vector<std::string> ignored;  ///< names of fields that mean nothing here
};

/// The reverse of describe_picture; also reads what AUTOMATIC1111 writes, where no RNG stands for its GPU's
/// noise and the schedule "Automatic" for the sampler's own. Throws InvalidArgument naming a field whose
/// value cannot be read or that names an unknown sampler, and for settings without steps, sampler or seed.
ReadRequest read_request(const ParametersText& parameters);

}  // namespace sinopia
