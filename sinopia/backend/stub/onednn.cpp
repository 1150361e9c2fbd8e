#include "sinopia/backend/cpu/onednn.h"

#include "sinopia/base/error.h"

namespace sinopia {

std::string_view onednn_needs(MatmulPrecision precision) {
  return precision == MatmulPrecision::F32 ? "" : "a build with oneDNN (cmake -DSINOPIA_ONEDNN=ON)";
}

WeightProduct onednn_product(DType, const void*, int64_t, int64_t, int64_t, int64_t) {
  fail(ErrorKind::Unsupported, "[onednn] this build has no oneDNN");
}

}  // namespace sinopia
