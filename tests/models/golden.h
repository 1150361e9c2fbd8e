#pragma once

#include <algorithm>
#include <cmath>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sinopia/backend/conv2d_method.h"
#include "sinopia/io/safetensors.h"
#include "sinopia/nn/parameters.h"

namespace sinopia {

inline std::string golden_path(const std::string& name) {
  return std::string(SINOPIA_TEST_DATA) + "/models/" + name;
}

/// One file of tools/golden/models.py.
class Golden {
 public:
  explicit Golden(const std::string& name) : file_(read_safetensors(golden_path(name + ".safetensors"))) {}

  TensorMap weights() const {
    TensorMap result;
    for (const auto& [key, x] : file_.tensors) {
      if (key.starts_with("w.")) result[key.substr(2)] = x;
    }
    return result;
  }
  Tensor in(const std::string& name) const { return file_.tensors.at("x." + name); }
  Tensor out(const std::string& name) const { return file_.tensors.at("y." + name); }
  bool has(const std::string& name) const { return file_.tensors.contains("x." + name); }
  const std::string& config() const { return file_.metadata.at("config"); }

  /// Builds Model(scope, args...) from the weights and checks that it took every one.
  template <class Model, class... Args>
  Model build(const Args&... args) const {
    CheckpointParameters parameters(weights(), "golden");
    Model model(Scope(parameters), args...);
    parameters.finish();
    return model;
  }

 private:
  TensorFile file_;
};

/// The largest difference in units of the largest reference value.
inline double relative_error(const Tensor& got, const Tensor& want) {
  if (got.shape() != want.shape()) {
    ADD_FAILURE() << "expected " << describe(want) << ", got " << describe(got);
    return INFINITY;
  }
  double difference = 0, largest = 0;
  const auto g = got.values<float>(), w = want.values<float>();
  for (size_t i = 0; i < g.size(); ++i) {
    const double d = std::abs(static_cast<double>(g[i]) - w[i]);
    difference = std::isnan(d) ? INFINITY : std::max(difference, d);
    largest = std::max(largest, std::abs(static_cast<double>(w[i])));
  }
  return difference / largest;
}

constexpr double kGoldenTolerance = 1e-5;  // as the manifest says

inline void expect_golden(const Tensor& got, const Tensor& want, const std::string& what) {
  const double error = relative_error(got, want);
  ::testing::Test::RecordProperty(what, fmt::format("{:.1e}", error));
  EXPECT_LE(error, kGoldenTolerance) << what;
}

/// Every way to compute 3x3 convolutions in turn, for the process; Auto again at the end.
class EachConv2dMethod : public ::testing::TestWithParam<Conv2dMethod> {
 protected:
  void SetUp() override { set_conv2d_method(GetParam()); }
  void TearDown() override { set_conv2d_method(Conv2dMethod::Auto); }
};

inline std::string conv2d_method_name(const ::testing::TestParamInfo<Conv2dMethod>& method) {
  return std::string(kConv2dMethodNames[static_cast<size_t>(method.param)]);
}

#define SINOPIA_FOR_EACH_CONV2D_METHOD(suite)                                                   \
  INSTANTIATE_TEST_SUITE_P(Methods, suite,                                                      \
                           ::testing::Values(Conv2dMethod::Auto, Conv2dMethod::Direct,          \
                                             Conv2dMethod::Winograd2, Conv2dMethod::Winograd4), \
                           conv2d_method_name)

}  // namespace sinopia
