#pragma once

#include <span>
#include <string_view>

#include "sinopia/models/checkpoint/parts.h"

namespace sinopia {

/// Which names a text encoder has in a single file.
enum class TextLayout { Transformers, OpenClip };

struct TextVariant {
  const char* prefix;  ///< in a single file
  const char* folder;  ///< in a diffusers folder
  TextLayout layout;
  Activation activation;
  int64_t skip_layers;  ///< in a single file, which has all layers
  bool final_norm;
  bool trimmed;  ///< diffusers' folder leaves out the skipped layers and the projection
  int32_t padding_id;
};

/// A kind of checkpoint: what its UNet's shape looks like, and what the shape does not say.
struct Variant {
  Family family;
  const char* name;
  const char* title;

  // told from names and shapes
  bool linear_projection;
  UNetClassEmbedding class_embedding;  ///< Projection also stands for SDXL's addition
  UNetAttention first, last;           ///< at full and at the lowest resolution
  int64_t in_channels;                 ///< where latents have 4; of other ones see unet_in_channels

  // not told
  bool supported;
  int64_t heads;  ///< of every level; 0: 64 channels a head, at least 1
  int64_t sample_size;
  int64_t addition_time_embed_dim;
  const char* vae;  ///< row of the autoencoders' table, for its scale
  ScheduleInfo schedule;
  const char* pipeline;  ///< diffusers' class
  std::span<const TextVariant> text_encoders;
};

std::span<const Variant> variants();

/// How many channels the variant's UNet takes if latents have C: all of in_channels / 4 latents, and the
/// masks or colours that remain.
int64_t unet_in_channels(const Variant& variant, int64_t latent_channels);

/// The row that a UNet's shape belongs to. Throws Unsupported describing a UNet that no row has, or that its
/// row says cannot be run.
const Variant& variant_of(const UNetConfig& config);

/// The row of that name. Throws NotFound naming the known ones.
const Variant& variant_named(std::string_view name);

/// Fills what the shapes do not say from a row.
void apply(const Variant& variant, UNetConfig& config);

}  // namespace sinopia
