#pragma once

#include <array>
#include <span>
#include <string_view>

#include "sinopia/io/image.h"

namespace sinopia {

/// Lightness in 0..1 and the two chroma axes (Björn Ottosson, OKLab, 2020).
using OkLab = std::array<float, 3>;

OkLab to_oklab(Color colour);
float squared_distance(const OkLab& a, const OkLab& b);

/// The eleven words that captions use (tools/datasets/colours.py).
std::span<const std::string_view> colour_words();

/// The colour that a word has as a background.
Color palette_colour(size_t word);

/// Index into colour_words() of the shade nearest in OKLab.
size_t nearest_colour_word(const OkLab& colour);

}  // namespace sinopia
