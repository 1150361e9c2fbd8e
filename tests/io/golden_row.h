#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <zlib.h>

#include "sinopia/tensor/tensor.h"

namespace sinopia::testing_io {

inline uint32_t checksum(const Tensor& x) {
  if (x.bytes() == 0) return 0;
  return static_cast<uint32_t>(crc32(0, static_cast<const Bytef*>(x.raw()), static_cast<uInt>(x.bytes())));
}

/// Expects the dtype, shape and CRC-32 of the bytes that a row of a golden table names.
inline void expect_row(const Tensor& x, const nlohmann::json& row) {
  const auto dims = row[1].get<std::vector<int64_t>>();
  EXPECT_EQ(to_string(x.dtype()), row[0].get<std::string>());
  EXPECT_EQ(x.shape(), Shape(std::span<const int64_t>(dims)));
  EXPECT_EQ(checksum(x), row[2].get<uint32_t>());
}

}  // namespace sinopia::testing_io
