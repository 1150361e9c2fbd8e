#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sinopia/models/checkpoint/parts.h"
#include "sinopia/models/clip/clip_text.h"
#include "sinopia/models/taesd/tiny_decoder.h"
#include "sinopia/models/unet/unet.h"
#include "sinopia/models/vae/autoencoder.h"
#include "sinopia/nn/placement.h"

namespace sinopia {

struct LoadOptions {
  std::optional<std::string> prediction =
      {};                            ///< "epsilon", "v_prediction" or "sample", whatever the file says
  std::filesystem::path vae = {};    ///< a file, or a folder with config.json, instead of the model's own
  std::filesystem::path taesd = {};  ///< a tiny decoder beside the autoencoder, as load_tiny_decoder reads it
  std::string variant = {};          ///< of a folder's weight files, such as "fp16"
  Placement placement = {};          ///< of every network
  std::optional<DType> vae_dtype = {};  ///< on a GPU, of the autoencoder: the placement's unless given
};

/// Weights that lie in a mapped file, by network. Their pages may be dropped while other networks work; they
/// come back when they are read again.
struct MappedWeights {
  std::vector<Tensor> text, unet, vae;

  static size_t bytes(const std::vector<Tensor>& weights);
  static void drop_pages(const std::vector<Tensor>& weights);
};

/// A model that is ready to run: its networks share the mapped file's weights. Immutable.
class StableDiffusion {
 public:
  /// A single file or a diffusers folder. Strict: every key is used once and every parameter filled. Throws
  /// NotFound, Corrupt or Unsupported as the readers do, NotFound if there is no autoencoder, and
  /// InvalidArgument for one that does not suit the UNet.
  static StableDiffusion load(const std::filesystem::path& path, const LoadOptions& options = {});
  /// The networks of parts that were read or made otherwise.
  static StableDiffusion build(CheckpointParts parts, const LoadOptions& options = {});

  struct TextEncoder {
    ClipTextModel model;
    int32_t padding_id;  ///< what texts are padded with
  };
  const UNet& unet() const { return *unet_; }
  const Autoencoder& vae() const { return *vae_; }
  /// The same autoencoder in f32, for pictures that it cannot make in f16; null where it computes in f32 or
  /// bf16, whose numbers go as far.
  const Autoencoder* precise_vae() const { return precise_vae_.get(); }
  const Placement& placement() const { return placement_; }
  /// Null unless one was loaded.
  const TinyDecoder* tiny_decoder() const { return tiny_decoder_.get(); }
  /// In the order in which their outputs are joined.
  const std::vector<TextEncoder>& text_encoders() const { return text_encoders_; }
  const MappedWeights& mapped_weights() const { return mapped_weights_; }
  const ScheduleInfo& schedule() const { return schedule_; }
  /// See CheckpointParts::class_names.
  const std::vector<std::string>& class_names() const { return class_names_; }
  Family family() const { return family_; }
  const std::string& variant() const { return variant_; }
  const std::string& description() const { return description_; }

 private:
  Placement placement_;
  Family family_ = Family::Unknown;
  std::string variant_, description_;
  std::unique_ptr<UNet> unet_;
  std::unique_ptr<Autoencoder> vae_, precise_vae_;
  std::unique_ptr<TinyDecoder> tiny_decoder_;
  std::vector<TextEncoder> text_encoders_;
  MappedWeights mapped_weights_;
  ScheduleInfo schedule_;
  std::vector<std::string> class_names_;
};

/// The parts of a single file or a diffusers folder, whichever the path is.
CheckpointParts read_checkpoint(const std::filesystem::path& path, std::string_view variant = "");

/// An autoencoder alone: a file of one (or of a whole model), or a folder with config.json.
AutoencoderPart read_autoencoder_part(const std::filesystem::path& path);

}  // namespace sinopia
