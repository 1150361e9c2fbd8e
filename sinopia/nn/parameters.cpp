#include "sinopia/nn/parameters.h"

#include <cmath>
#include <numbers>
#include <vector>

#include <fmt/ranges.h>

#include "sinopia/autograd/tape.h"
#include "sinopia/backend/kernels.h"
#include "sinopia/ops/shape.h"

namespace sinopia {
namespace {

bool is_weight_dtype(DType dtype) {
  return dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16;
}

// [O,I,1,1] and [O,I] hold the same numbers in the same order.
Shape without_unit_kernel(const Shape& s) {
  return s.rank() == 4 && s.dim(2) == 1 && s.dim(3) == 1 ? Shape{s.dim(0), s.dim(1)} : s;
}

// splitmix64, Steele, Lea and Flood 2014: the state is a counter, so that equal seeds give equal streams
// everywhere.
class SplitMix {
 public:
  explicit SplitMix(uint64_t state) : state_(state) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// Uniform in [0,1), 53 bits.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  uint64_t state_;
};

// FNV-1a over the name, mixed with the seed.
uint64_t hash(uint64_t seed, std::string_view name) {
  uint64_t h = 0xcbf29ce484222325u;
  for (char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return SplitMix(h ^ SplitMix(seed).next()).next();
}

Tensor initial_values(const Shape& shape, const Initialiser& initialiser, uint64_t stream) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  SplitMix random(stream);
  switch (initialiser.kind) {
    case Initialiser::Kind::Zeros:
      break;
    case Initialiser::Kind::Ones:
      values.assign(values.size(), 1.0f);
      break;
    case Initialiser::Kind::Uniform:
      for (float& v : values) {
        v = static_cast<float>((2 * random.uniform() - 1) * static_cast<double>(initialiser.scale));
      }
      break;
    case Initialiser::Kind::Normal:  // Box and Muller 1958, the cosine alone
      for (float& v : values) {
        const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
        const double angle = 2 * std::numbers::pi * random.uniform();
        v = static_cast<float>(radius * std::cos(angle) * static_cast<double>(initialiser.scale));
      }
      break;
  }
  return Tensor::from(shape, values);
}

}  // namespace

CheckpointParameters::CheckpointParameters(TensorMap tensors, std::string what)
    : tensors_(std::move(tensors)), what_(std::move(what)) {}

Tensor CheckpointParameters::take(const std::string& name, const Shape& shape, const Initialiser&) {
  SINOPIA_CHECK(!taken_.contains(name), InvalidArgument, "[{}] {} was taken twice", what_, name);
  const auto found = tensors_.find(name);
  SINOPIA_CHECK(found != tensors_.end(), NotFound, "[{}] expected a parameter {} {}, found none", what_, name,
                to_string(shape));
  const Tensor stored = found->second;
  SINOPIA_CHECK(without_unit_kernel(stored.shape()) == without_unit_kernel(shape), Corrupt,
                "[{}] expected {} to be {}, found {}", what_, name, to_string(shape),
                to_string(stored.shape()));
  taken_.insert(name);
  tensors_.erase(found);

  // Only matrices are used as they are when quantised.
  const bool matrix = stored.rank() == 2 && stored.shape() == shape;
  if (is_weight_dtype(stored.dtype()) || (is_quantised(stored.dtype()) && matrix))
    return stored.reshape(shape);
  const Tensor widened = to_dtype(stored, DType::F32).reshape(shape);
  stored.drop_pages();
  return widened;
}

bool CheckpointParameters::has(const std::string& name) const { return tensors_.contains(name); }

void CheckpointParameters::finish() const {
  if (tensors_.empty()) return;
  constexpr size_t kShown = 5;
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) {
    if (names.size() == kShown) break;
    names.push_back(name);
  }
  fail(ErrorKind::Corrupt, "[{}] {} key(s) that no part of the model uses: {}{}", what_, tensors_.size(),
       fmt::join(names, ", "), tensors_.size() > kShown ? ", ..." : "");
}

Tensor RandomParameters::take(const std::string& name, const Shape& shape, const Initialiser& initialiser) {
  SINOPIA_CHECK(!taken_.contains(name), InvalidArgument, "[random parameters] {} was taken twice", name);
  Tensor values = initial_values(shape, initialiser, hash(seed_, name));
  taken_.emplace(name, values);
  return values;
}

Tensor TrainableParameters::take(const std::string& name, const Shape& shape,
                                 const Initialiser& initialiser) {
  const Tensor given = from_.take(name, shape, initialiser);
  if (trains_ && !trains_(name)) return given;
  Tensor own = Tensor::empty(given.shape(), DType::F32, given.device());
  kernels(given.device()).convert(given, own);
  return leaves_[name] = make_leaf(own);
}

Tensor ParameterShapes::take(const std::string& name, const Shape& shape, const Initialiser&) {
  SINOPIA_CHECK(shapes_.emplace(name, shape).second, InvalidArgument, "[parameter shapes] {} was taken twice",
                name);
  return {};
}

}  // namespace sinopia
