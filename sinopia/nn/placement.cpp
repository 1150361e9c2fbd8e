#include "sinopia/nn/placement.h"

#include "sinopia/backend/parameter_store.h"
#include "sinopia/ops/shape.h"

namespace sinopia {

Tensor PlacedParameters::take(const std::string& name, const Shape& shape, const Initialiser& initialiser) {
  const Tensor given = from_.take(name, shape, initialiser);
  return given.device() == placement_.device ? given : store_parameter(given, placement_.device, stored_);
}

Tensor Place::enter(const Tensor& x) const {
  if (!x || placement_.device.is_cpu()) return x;
  return to_dtype(to_device(x, placement_.device), placement_.dtype);
}

Tensor Place::bring(const Tensor& x) const { return x ? to_device(x, placement_.device) : x; }

Tensor Place::leave(const Tensor& y, Device device, DType dtype) const {
  if (placement_.device.is_cpu()) return y;
  return to_device(to_dtype(y, dtype), device);
}

}  // namespace sinopia
