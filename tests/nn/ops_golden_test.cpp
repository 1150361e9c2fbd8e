// The ops against PyTorch's numbers; here, because reading them takes the io layer, which is above the ops.
#include <string>

#include "sinopia/io/safetensors.h"
#include "sinopia/ops/activation.h"
#include "sinopia/ops/embedding.h"
#include "sinopia/ops/norm.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/ops/resize.h"
#include "tests/instruction_sets.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

class OpsGolden : public ::testing::Test {
 protected:
  const Tensor& golden(const std::string& name) const { return file_.tensors.at(name); }
  // Both sides round: the tolerance counts units of 2^-24 of the value and of 1.
  void expect_golden(const Tensor& got, const std::string& name, double roundings) const {
    SCOPED_TRACE(name);
    EXPECT_EQ(got.shape(), golden(name).shape());
    expect_close(got, doubles(golden(name)), roundings * kEpsilon, roundings * kEpsilon);
  }
  const TensorFile file_ = read_safetensors(SINOPIA_TEST_DATA "/ops/ops.safetensors");
};

TEST_F(OpsGolden, Resize) {
  struct Mode {
    std::string name;
    ResizeFilter filter;
    bool antialias;
  };
  const Mode modes[] = {{"nearest", ResizeFilter::Nearest, false},
                        {"area", ResizeFilter::Area, false},
                        {"bilinear", ResizeFilter::Bilinear, false},
                        {"bicubic", ResizeFilter::Bicubic, false},
                        {"bilinear_antialias", ResizeFilter::Bilinear, true},
                        {"bicubic_antialias", ResizeFilter::Bicubic, true}};
  const Tensor& x = golden("resize.x");
  for_each_instruction_set([&] {
    for (const Mode& mode : modes) {
      for (const auto& [height, width] : {std::pair{22, 28}, {5, 7}, {17, 9}, {3, 33}, {11, 14}, {1, 1}}) {
        const std::string name =
            "resize." + mode.name + "." + std::to_string(height) + "x" + std::to_string(width);
        const double roundings = mode.filter == ResizeFilter::Nearest ? 0 : 32;
        expect_golden(resize(x, height, width, mode.filter, mode.antialias), name, roundings);
      }
    }
  });
}

TEST_F(OpsGolden, Activations) {
  const Tensor& x = golden("activation.x");
  for_each_instruction_set([&] {
    expect_golden(silu(x), "activation.silu", 6);
    expect_golden(gelu(x), "activation.gelu", 12);
    expect_golden(gelu_tanh(x), "activation.gelu_tanh", 12);
    expect_golden(quick_gelu(x), "activation.quick_gelu", 24);
    expect_golden(relu(x), "activation.relu", 0);
    expect_golden(tanh(x), "activation.tanh", 6);
    expect_golden(sigmoid(x), "activation.sigmoid", 6);
    expect_golden(geglu(golden("geglu.x")), "geglu.y", 24);
  });
}

TEST_F(OpsGolden, Norms) {
  const Tensor &x = golden("norm.x"), &w = golden("norm.weight"), &b = golden("norm.bias");
  for_each_instruction_set([&] {
    expect_golden(group_norm(x, 8, w, b, 1e-6f), "norm.group", 24);
    expect_golden(group_norm(x, 8, w, b, 1e-6f, Activation::Silu), "norm.group_silu", 24);
    expect_golden(layer_norm(x, w, b, 1e-5f), "norm.layer", 24);
    expect_golden(rms_norm(x, w, 1e-6f), "norm.rms", 16);
    expect_golden(softmax(x), "softmax.y", 24);
  });
  const Moments got = moments(x);
  expect_golden(got.mean, "moments.mean", 8);
  expect_golden(got.variance, "moments.variance", 8);
}

TEST_F(OpsGolden, TimestepEmbedding) {
  const Tensor& t = golden("timestep.t");
  // exp differs by a unit in the last place between libraries, which the angle multiplies by t up to 999.
  constexpr double kRoundings = 2 * 999;
  expect_golden(timestep_embedding(t, {.dim = 320}), "timestep.sd", kRoundings);
  expect_golden(timestep_embedding(t, {.dim = 32, .cos_first = false, .shift = 1}), "timestep.ldm",
                kRoundings);
  expect_golden(timestep_embedding(t, {.dim = 33}), "timestep.odd", kRoundings);
}

}  // namespace
}  // namespace sinopia
