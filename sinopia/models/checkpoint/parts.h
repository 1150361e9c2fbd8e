#pragma once

#include <map>
#include <string>
#include <vector>

#include "sinopia/io/tensor_map.h"
#include "sinopia/models/clip/clip_text.h"
#include "sinopia/models/unet/config.h"
#include "sinopia/models/vae/autoencoder.h"

namespace sinopia {

enum class Family { Unknown, StableDiffusion1, StableDiffusion2, X4Upscaler, Sdxl, SdxlRefiner };

/// How the noise was scheduled in training, in the words of diffusers' scheduler_config.json.
struct ScheduleInfo {
  std::string prediction = "epsilon";  ///< or "v_prediction", "sample", "flow_prediction"
  double beta_start = 0.00085, beta_end = 0.012;
  std::string beta_schedule = "scaled_linear";
  int64_t train_timesteps = 1000;
  bool zero_terminal_snr = false;
  std::string timestep_spacing = "leading";
  int64_t steps_offset = 1;
  double flow_shift = 1;                    ///< of flow_prediction alone
  std::string scheduler = "PNDMScheduler";  ///< diffusers' class, kept for writing

  friend bool operator==(const ScheduleInfo&, const ScheduleInfo&) = default;
};

/// A network of a checkpoint: tensors under diffusers' or transformers' names, in the file's axis order and
/// dtype, and what they are to be built as. No tensors: the checkpoint does not have it.
struct UNetPart {
  TensorMap tensors;
  UNetConfig config;
};
struct AutoencoderPart {
  TensorMap tensors;
  AutoencoderConfig config;
};
struct TextEncoderPart {
  TensorMap tensors;
  ClipTextConfig config;
  int32_t padding_id = 49407;  ///< what its texts were padded with in training
};

/// A whole model, the same whether it came as one file or as a folder.
struct CheckpointParts {
  Family family = Family::Unknown;
  std::string variant;      ///< row of the table of variants: "sd1", "sd1-inpaint", "sdxl-refiner", ...
  std::string description;  ///< for people: "Stable Diffusion 1, inpainting"
  UNetPart unet;
  AutoencoderPart vae;
  std::vector<TextEncoderPart> text_encoders;
  ScheduleInfo schedule;
  std::vector<std::string> class_names;  ///< of the rows of the UNet's class table, as far as they are known
  std::vector<std::string> dropped;      ///< keys that carry nothing for inference and were left out
  std::map<std::string, std::string> metadata;
};

}  // namespace sinopia
