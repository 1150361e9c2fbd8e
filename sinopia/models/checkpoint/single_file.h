#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sinopia/models/checkpoint/parts.h"

namespace sinopia {

/// The tensors of a file by the network they belong to, prefixes taken off, names not yet translated.
struct FileContents {
  TensorMap unet, vae;
  std::vector<std::pair<std::string, TensorMap>> text_encoders;  ///< with the prefix they had
  std::vector<std::string> dropped;                              ///< known to carry nothing for inference
  std::vector<std::string> unknown;
};

/// Sorts a checkpoint, or a file with one network alone, in the original or in diffusers' names.
FileContents sort_by_network(const TensorMap& tensors);

/// What the UNet's names and shapes say, without the number of heads. Throws as unet_config_from_original.
UNetConfig unet_config_of(const FileContents& contents);

/// Reads a single file: CompVis' layout (Stable Diffusion 1, 2, x4 upscaler), Stability's (SDXL), or one
/// network alone in that or in diffusers' layout. The tensors are shared with the file's, except OpenCLIP's
/// projection, which is transposed. Whether a Stable Diffusion 2 predicts v or the noise cannot be seen: it
/// is v unless the metadata (modelspec.prediction_type) say otherwise; a key "v_pred" says v for any model.
/// Throws Corrupt naming a key that no network has a place for, or a network that lacks parts, Unsupported
/// for models that cannot be run, by name.
CheckpointParts split_checkpoint(const TensorFile& file);

/// The original layout of the family; the reverse of split_checkpoint. Layers of an OpenCLIP encoder that
/// diffusers leaves out, as nothing reads them, are written as zeros; a latent scale that is not the family's
/// is written as LDM's buffer scale_factor. Throws Unsupported for a family without such a layout, and for
/// networks that would be read as others, since a file says nothing of heads and groups of norms.
TensorFile join_checkpoint(const CheckpointParts& parts);

/// Every floating-point and quantised tensor in another dtype, which is not quantised.
void convert_dtype(CheckpointParts& parts, DType dtype);

/// A file in the original layout as GGUF holds it: without integers, which a model does not need, and with
/// one zero for an empty tensor, whose name alone says something.
TensorFile to_gguf(const TensorFile& file);

/// Quantises the matrices of linear layers as stable-diffusion.cpp does: not those of time and label
/// embeddings, tables of embeddings, projections of whole texts, or with rows that are not whole blocks.
/// Other weights of more than one axis become f16, vectors stay as they are.
void quantise_matrices(TensorFile& file, DType dtype);

}  // namespace sinopia
