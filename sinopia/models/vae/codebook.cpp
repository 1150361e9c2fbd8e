#include "sinopia/models/vae/codebook.h"

#include "sinopia/ops/embedding.h"
#include "sinopia/ops/nearest.h"

namespace sinopia {

Codebook::Codebook(const Scope& scope, int64_t entries, int64_t width)
    : table_((scope / "embedding")
                 .parameter("weight", {entries, width},
                            Initialiser::uniform(1.0f / static_cast<float>(entries)))) {}

Tensor Codebook::nearest(const Tensor& z) const { return nearest_rows(z, table_); }

Tensor Codebook::entries(const Tensor& codes) const { return embedding(table_, codes); }

Tensor Codebook::quantise(const Tensor& z) const { return straight_through(entries(nearest(z)), z); }

}  // namespace sinopia
