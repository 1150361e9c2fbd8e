#pragma once

#include <cstddef>

#include "sinopia/tensor/tensor.h"

namespace sinopia::cuda::packed_weights {

/// w [O,I,KH,KW], f32, f16 or bf16, as convolutions read it: [O,KH,KW,I] in `dtype`. That is w itself where
/// the bytes are the same; otherwise a copy, kept for the next call for as long as w's storage lives, memory
/// is not short and nothing below is called. A recording keeps the copies that it reads; what is not there
/// when it is made is packed anew in each replay.
Tensor of(const Tensor& w, DType dtype);

/// To be called after elements of `w` were written in place: what was packed of its bytes goes.
void forget(const Tensor& w);
/// The same, but what was packed is packed again at once, in its place: recordings that read it see the
/// change.
void repack(const Tensor& w);
/// Gives back all copies.
void clear();
/// Of all copies kept.
size_t bytes();

}  // namespace sinopia::cuda::packed_weights

namespace sinopia::cuda {

/// packed [O,KH,KW,I] = w [O,I,KH,KW], rounded to packed's dtype.
void pack_weights(const Tensor& w, Tensor& packed);
/// The other way round.
void unpack_weights(const Tensor& packed, Tensor& w);

}  // namespace sinopia::cuda
