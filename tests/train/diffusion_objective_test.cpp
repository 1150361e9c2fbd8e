#include "sinopia/train/diffusion_objective.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "sinopia/autograd/tape.h"
#include "sinopia/io/safetensors.h"
#include "sinopia/models/clip/clip_text.h"
#include "sinopia/models/unet/unet.h"
#include "sinopia/nn/parameters.h"
#include "sinopia/ops/shape.h"
#include "sinopia/train/optimizers/gradients.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;
using nlohmann::json;

const TensorFile& golden() {
  static const TensorFile file =
      read_safetensors(std::string(SINOPIA_TEST_DATA) + "/train/diffusion_training.safetensors");
  return file;
}

TensorMap part(const std::string& prefix) {
  TensorMap result;
  for (const auto& [name, tensor] : golden().tensors) {
    if (name.starts_with(prefix)) result[name.substr(prefix.size())] = tensor;
  }
  return result;
}

Tensor of_step(const std::string& name, int64_t step) {
  const Tensor all = golden().tensors.at(name);
  const auto dims = all.shape().dims();
  return all.slice(step, step + 1).reshape(Shape(std::vector<int64_t>(dims.begin() + 1, dims.end())));
}

DiffusionObjective objective_of(const json& c) {
  DiffusionObjective::Config config;
  config.schedule.prediction = c.at("prediction") == "flow_prediction"
                                   ? Prediction::Flow
                                   : parse_prediction(c.at("prediction").get<std::string>());
  config.schedule.rescale_zero_snr = c.value("zero_snr", false);
  config.loss = c.at("loss") == "l1"      ? LossKind::L1
                : c.at("loss") == "huber" ? LossKind::Huber
                                          : LossKind::Mse;
  config.huber_delta = c.value("delta", 0.1);
  if (c.contains("min_snr"))
    config.weighting = {.kind = LossWeighting::MinSnr, .min_snr_gamma = c.at("min_snr")};
  return DiffusionObjective(config);
}

class DiffusionTraining : public ::testing::TestWithParam<const char*> {};

TEST_P(DiffusionTraining, IsPyTorchs) {
  const json c = json::parse(golden().metadata.at("cases")).at(GetParam());
  CheckpointParameters unet_file(part("unet."), "unet"), text_file(part("text."), "text");
  TrainableParameters unet_parameters(unet_file), text_parameters(text_file);
  const UNet unet(Scope(unet_parameters), unet_config_from_json(golden().metadata.at("unet")));
  const ClipTextModel text(Scope(text_parameters), clip_text_config_from_json(golden().metadata.at("text")));

  TensorMap trained;
  for (const auto& [name, leaf] : unet_parameters.leaves()) trained["unet." + name] = leaf;
  for (const auto& [name, leaf] : text_parameters.leaves()) {
    if (c.value("text", false)) trained["text." + name] = leaf;
  }
  Optimizer optimizer = make_optimizer("adamw", trained);
  StepGuard guard(c.at("clip"));
  const DiffusionObjective objective = objective_of(c);

  const Tensor want = golden().tensors.at(std::string(GetParam()) + ".losses");
  for (int64_t step = 0; step < want.numel(); ++step) {
    std::vector<double> levels;
    for (const int32_t t : of_step("timesteps", step).to_vector<int32_t>())
      levels.push_back((t + 0.5) / 1000);
    const NoisedBatch batch = objective.noised(of_step("latents", step), of_step("noise", step), levels);
    double loss = 0;
    {
      const RecordGradients on;
      const Tensor hidden = text.forward(of_step("ids", step)).hidden;
      const Tensor y = objective.loss(unet.forward(batch.x, batch.timestep, hidden), batch);
      loss = static_cast<double>(y.values<float>()[0]);
      backward(y);
    }
    guard.step(optimizer, take_gradients(trained), c.at("rate"));
    EXPECT_NEAR(loss / want.values<double>()[static_cast<size_t>(step)], 1, 1e-4) << "step " << step;
  }
  double squares = 0;
  for (const auto& [name, leaf] : trained) {
    for (const double v : doubles(leaf)) squares += v * v;
  }
  EXPECT_NEAR(std::sqrt(squares) / golden().tensors.at(std::string(GetParam()) + ".norm").values<double>()[0],
              1, 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Cases, DiffusionTraining,
                         ::testing::Values("epsilon_mse", "v_min_snr", "sample_l1", "flow_huber"));

TEST(DiffusionObjective, RefusesWhatDoesNotFit) {
  const DiffusionObjective objective({});
  const Tensor x = random_tensor({2, 3}, 1);
  const std::vector<double> levels = {0.1, 0.9}, one = {0.5}, edge = {0.5, 1};
  EXPECT_THROW(objective.noised(x, x, one), Error);
  EXPECT_THROW(objective.noised(x, x, edge), Error);
  EXPECT_THROW(objective.noised(x, random_tensor({2, 4}, 1), levels), Error);
  EXPECT_THROW(objective.loss(random_tensor({2, 4}, 1), objective.noised(x, x, levels)), Error);
  EXPECT_THROW(DiffusionObjective({.huber_delta = 0}), Error);
  EXPECT_THROW(DiffusionObjective({.weighting = {.kind = LossWeighting::CosMap}}), Error);
}

TEST(DiffusionObjective, OffsetNoiseMovesWholeChannels) {
  const Tensor noise = random_tensor({2, 3, 4, 5}, 1), offset = random_tensor({2, 1, 1, 5}, 2);
  const auto got = doubles(with_offset_noise(noise, offset, 0.1)), a = doubles(noise), b = doubles(offset);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], a[i] + 0.1 * b[i / 60 * 5 + i % 5], 1e-6);
}

}  // namespace
}  // namespace sinopia
