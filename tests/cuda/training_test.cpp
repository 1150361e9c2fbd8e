#include "sinopia/autograd/tape.h"
#include "sinopia/models/unet/unet.h"
#include "sinopia/models/vae/autoencoder.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/reduce.h"
#include "sinopia/train/trainers/trained_network.h"
#include "sinopia/train/trainers/training_run.h"
#include "tests/cuda/on_gpu.h"
#include "tests/models/golden.h"
#include "tests/train/small_run.h"

namespace sinopia {
namespace {

using namespace testing;

class TrainingOnGpu : public OnGpu {
 protected:
  /// The gradients of all of a network's parameters, on the CPU, of a loss that `loss_of` makes with it.
  template <class Model, class Config, class Loss>
  static TensorMap gradients(const Golden& golden, const Config& config, const Placement& placement,
                             double scale, const Loss& loss_of) {
    TensorMap leaves;
    const auto model = trainable_network<Model>(golden.weights(), config, "golden", placement, leaves);
    const RecordGradients on;
    backward(loss_of(model) * scale);
    TensorMap result;
    for (const auto& [name, gradient] : take_gradients(leaves)) result[name] = copy_to(gradient, Device{});
    return result;
  }

  // Of the norm of all gradients together, and of each one's, to which small ones of the same layer count too
  // little to be held: those of norms far from the loss.
  static void expect_near(const TensorMap& got, const TensorMap& want, double scale, double tolerance) {
    ASSERT_EQ(got.size(), want.size());
    double difference = 0, norm = 0;
    for (const auto& [name, expected] : want) {
      const std::vector<double> a = doubles(got.at(name)), b = doubles(expected);
      for (size_t i = 0; i < b.size(); ++i) {
        difference += (a[i] / scale - b[i]) * (a[i] / scale - b[i]);
        norm += b[i] * b[i];
      }
    }
    EXPECT_GT(norm, 0);
    EXPECT_LE(std::sqrt(difference / norm), tolerance);
  }

  // As of whole networks forward, twice the layers.
  static double tolerance(DType dtype) {
    return dtype == DType::F32 ? 1e-5 : 4 * std::sqrt(60.0) * epsilon_of(dtype);
  }
};

TEST_F(TrainingOnGpu, DenoisersHaveTheGradientsOfTheCpu) {
  const Golden golden("unet_sd1");
  const UNetConfig config = unet_config_from_json(golden.config());
  const auto loss_of = [&](const UNet& unet) {
    return mean(square(unet.forward(golden.in("sample"), golden.in("t"), golden.in("text")) -
                       golden.out("sample") * 0.5));
  };
  const TensorMap want = gradients<UNet>(golden, config, {}, 1, loss_of);
  for (const DType dtype : kFloats) {
    const double scale = dtype == DType::F16 ? 1024 : 1;
    expect_near(gradients<UNet>(golden, config, {device(), dtype}, scale, loss_of), want, scale,
                tolerance(dtype));
  }
}

TEST_F(TrainingOnGpu, AutoencodersHaveTheGradientsOfTheCpu) {
  const Golden golden("vae_attention");
  const AutoencoderConfig config = autoencoder_config_from_json(golden.config());
  const auto loss_of = [&](const Autoencoder& vae) {
    const DiagonalGaussian latent = vae.encode(golden.in("picture"));
    return mean(square(vae.decode(latent.mean) * 0.5)) + mean(square(latent.logvar)) * 0.1;
  };
  const TensorMap want = gradients<Autoencoder>(golden, config, {}, 1, loss_of);
  for (const DType dtype : kFloats) {
    const double scale = dtype == DType::F16 ? 1024 : 1;
    expect_near(gradients<Autoencoder>(golden, config, {device(), dtype}, scale, loss_of), want, scale,
                tolerance(dtype));
  }
}

constexpr const char* kAutoencoder = R"(
model: autoencoder
steps: 4
autoencoder:
  config: vae.json
  discriminator_width: 8
  discriminator_layers: 1
  loss: {perceptual: 0, kl: 1.0e-3, feature_matching: 0.1, adversarial: 0.5, adversarial_from: 1}
optimizer: {rate: {peak: 2.0e-3}, clip: 1}
ema: {decay: 0.9}
report: {validation_every: 0, samples_every: 0}
checkpoints: {every: 2, keep: 2}
)";

double loss_of(const TrainingResult& result) {
  for (const auto& [name, value] : result.validation)
    if (name == "validation/l1" || name == "validation/loss") return value;
  ADD_FAILURE() << "no loss";
  return 0;
}

// Four steps move the loss by some per cent, so that a step in a wrong direction shows.
TEST_F(TrainingOnGpu, RunsEndWhereTheyDoOnTheCpu) {
  const SmallRun small;
  const std::string yaml = kAutoencoder;
  const double want = loss_of(run_training(small.recipe("autoencoder", yaml + "device: cpu\n")));
  for (const DType dtype : kFloats) {
    const std::string name = to_string(dtype), place = "device: cuda\nprecision: " + name + "\n";
    const double got = loss_of(run_training(small.recipe(name, yaml + place)));
    EXPECT_NEAR(got, want, want * (dtype == DType::F32 ? 1e-4 : 8 * epsilon_of(dtype))) << name;
  }
  const std::string diffusion = std::string(kSmallDiffusion) + "steps: 4\n";
  const double expected = loss_of(run_training(small.recipe("diffusion", diffusion + "device: cpu\n")));
  for (const DType dtype : kFloats) {
    const std::string name = to_string(dtype), place = "device: cuda\nprecision: " + name + "\n";
    const double got = loss_of(run_training(small.recipe("diffusion-" + name, diffusion + place)));
    EXPECT_NEAR(got, expected, expected * (dtype == DType::F32 ? 1e-4 : 8 * epsilon_of(dtype))) << name;
  }
}

TEST_F(TrainingOnGpu, RunsGoOnWithTheSameBits) {
  const SmallRun small;
  const std::string yaml = std::string(kAutoencoder) + "device: cuda\nprecision: f16\n";
  const TrainingResult expected = run_training(small.recipe("whole", yaml));
  TrainingRunOptions options;
  options.stop_at = 2;
  run_training(small.recipe("parts", yaml), options);
  EXPECT_EQ(run_training(small.recipe("parts", yaml)).validation, expected.validation);
}

}  // namespace
}  // namespace sinopia
