#include <cmath>

#include <nlohmann/json.hpp>

#include "sinopia/autograd/tape.h"
#include "sinopia/io/safetensors.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/train/ema.h"
#include "sinopia/train/gradients.h"
#include "sinopia/train/optimizers/optimizer.h"
#include "tests/instruction_sets.h"
#include "tests/reference.h"

namespace sinopia {
namespace {

using namespace testing;

const std::vector<std::string> kNames = {"bias", "kernel", "matrix"};  // in the order of a map
constexpr int64_t kSteps = 12;

const TensorFile& golden() {
  static const TensorFile file =
      read_safetensors(std::string(SINOPIA_TEST_DATA) + "/train/optimizers.safetensors");
  return file;
}

Tensor copy_of(const Tensor& x) { return Tensor::from(x.shape(), x.to_vector<float>()); }

TensorMap start() {
  TensorMap result;
  for (const std::string& name : kNames) result[name] = copy_of(golden().tensors.at("start." + name));
  return result;
}

std::vector<Tensor> gradients(int64_t step) {
  std::vector<Tensor> result;
  for (const std::string& name : kNames) {
    const Tensor all = golden().tensors.at("gradient." + name);
    const Tensor one = all.slice(step - 1, step);
    const auto dims = all.shape().dims();
    result.push_back(one.reshape(Shape(std::vector<int64_t>(dims.begin() + 1, dims.end()))));
  }
  return result;
}

double rate(int64_t step) { return 1e-2 / static_cast<double>(step); }

OptimizerOptions options_of(const nlohmann::json& json) {
  OptimizerOptions options = optimizer(json.at("name").get<std::string>()).defaults;
  options.beta1 = json.value("beta1", options.beta1);
  options.beta2 = json.value("beta2", options.beta2);
  options.eps = json.value("eps", options.eps);
  options.weight_decay = json.value("weight_decay", options.weight_decay);
  options.scale_by_parameter = json.value("scale_by_parameter", false);
  return options;
}

void expect_near_golden(const TensorMap& got, const std::string& prefix) {
  for (const std::string& name : kNames) {
    SCOPED_TRACE(prefix + name);
    const std::vector<double> want = doubles(golden().tensors.at(prefix + name));
    double largest = 0;
    for (const double v : want) largest = std::max(largest, std::abs(v));
    expect_close(got.at(name), want, 4e-6 * largest, 0);
  }
}

TEST(Optimizers, AreTheReferences) {
  const auto cases = nlohmann::json::parse(golden().metadata.at("cases"));
  EXPECT_EQ(cases.size(), 5u);
  for_each_instruction_set([&] {
    for (const auto& [name, options] : cases.items()) {
      const TensorMap parameters = start();
      const auto optimizer =
          sinopia::optimizer(options.at("name").get<std::string>()).make(parameters, options_of(options));
      for (int64_t step = 1; step <= kSteps; ++step) {
        optimizer->step(gradients(step), rate(step));
        if (golden().tensors.contains(fmt::format("{}.{}.bias", name, step)))
          expect_near_golden(parameters, fmt::format("{}.{}.", name, step));
      }
    }
  });
}

TEST(Optimizers, ScaleOfGradientsIsTheGradientsScaled) {
  for (const OptimizerEntry& entry : optimizers()) {
    const TensorMap parameters = start(), others = start();
    const auto one = entry.make(parameters, entry.defaults), two = entry.make(others, entry.defaults);
    for (int64_t step = 1; step <= 3; ++step) {
      std::vector<Tensor> doubled = gradients(step);
      for (Tensor& g : doubled) g = g * 2.0;
      one->step(doubled, rate(step), 0.5f);
      two->step(gradients(step), rate(step));
    }
    for (const std::string& name : kNames)
      EXPECT_EQ(parameters.at(name).to_vector<float>(), others.at(name).to_vector<float>()) << entry.name;
  }
}

TEST(Optimizers, RestoredStateGoesOnBitForBit) {
  for (const OptimizerEntry& entry : optimizers()) {
    SCOPED_TRACE(entry.name);
    OptimizerOptions options = entry.defaults;
    options.beta1 = 0.9;
    const TensorMap straight = start(), stopped = start();
    const auto one = entry.make(straight, options);
    auto two = entry.make(stopped, options);
    for (int64_t step = 1; step <= 8; ++step) {
      one->step(gradients(step), rate(step));
      two->step(gradients(step), rate(step));
      if (step % 3 != 0) continue;
      TensorMap saved;
      for (const auto& [name, tensor] : two->state())
        saved[name] = tensor.dtype() == DType::F32 ? copy_of(tensor) : tensor;
      two = entry.make(stopped, options);
      two->restore(saved);
      EXPECT_EQ(two->steps(), step);
    }
    for (const std::string& name : kNames)
      EXPECT_EQ(straight.at(name).to_vector<float>(), stopped.at(name).to_vector<float>());
  }
}

TEST(Optimizers, RefuseWhatDoesNotFit) {
  const TensorMap parameters = start();
  const auto optimizer = make_adamw(parameters, {});
  optimizer->step(gradients(1), 0.1);
  const auto kind_of = [](const auto& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::Cancelled;
  };
  TensorMap state = optimizer->state();
  state.erase("mean.bias");
  EXPECT_EQ(kind_of([&] { optimizer->restore(state); }), ErrorKind::Corrupt);
  state = optimizer->state();
  state["mean.other"] = Tensor::empty({1});
  EXPECT_EQ(kind_of([&] { optimizer->restore(state); }), ErrorKind::Corrupt);
  state = optimizer->state();
  state["square.bias"] = Tensor::empty({8});
  EXPECT_EQ(kind_of([&] { optimizer->restore(state); }), ErrorKind::Corrupt);
  std::vector<Tensor> wrong = gradients(1);
  std::swap(wrong[0], wrong[1]);
  const auto before = parameters.at("matrix").to_vector<float>();
  EXPECT_EQ(kind_of([&] { optimizer->step(wrong, 0.1); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(parameters.at("matrix").to_vector<float>(), before);
  EXPECT_EQ(optimizer->steps(), 1);
  EXPECT_EQ(kind_of([&] { make_adamw(parameters, {.beta1 = 1}); }), ErrorKind::InvalidArgument);
  EXPECT_EQ(kind_of([] { sinopia::optimizer("sgd"); }), ErrorKind::NotFound);
}

TEST(Optimizers, LeaveAloneWhatHasNoGradient) {
  for (const OptimizerEntry& entry : optimizers()) {
    const TensorMap parameters = start();
    std::vector<Tensor> some = gradients(1);
    some[1] = {};
    entry.make(parameters, entry.defaults)->step(some, 0.1);
    EXPECT_EQ(parameters.at("kernel").to_vector<float>(), start().at("kernel").to_vector<float>());
    EXPECT_NE(parameters.at("bias").to_vector<float>(), start().at("bias").to_vector<float>());
  }
}

TEST(Optimizers, SameBitsForAnyThreads) {
  const Shape shape{70001};
  for (const OptimizerEntry& entry : optimizers()) {
    expect_same_for_any_thread_count([&] {
      const Tensor x = random_tensor(shape, 1);
      const auto optimizer = entry.make({{"x", x}}, entry.defaults);
      for (unsigned step = 2; step < 5; ++step) optimizer->step({random_tensor(shape, step)}, 0.01);
      return x;
    });
  }
}

TEST(Gradients, NormAndClipping) {
  const std::vector<Tensor> all = {random_tensor({70001}, 1), Tensor(), random_tensor({3, 5}, 2, 100)};
  double squares = 0;
  for (const Tensor& g : all) {
    if (!g) continue;
    for (const double v : doubles(g)) squares += v * v;
  }
  EXPECT_NEAR(gradient_norm(all), std::sqrt(squares), 1e-7 * std::sqrt(squares));
  EXPECT_EQ(clipping_factor(5, 0), 1);
  EXPECT_EQ(clipping_factor(5, 6), 1);
  EXPECT_NEAR(clipping_factor(5, 2), 0.4, 1e-7);
  EXPECT_TRUE(std::isnan(gradient_norm({Tensor::from(Shape{2}, std::vector<float>{1, NAN})})));
}

TEST(Gradients, SumOfPassesIsThatOfOne) {
  const Tensor w = make_leaf(random_tensor({5}, 1)), unused = make_leaf(random_tensor({2}, 9));
  GradientSum sum({w, unused});
  std::vector<double> want(5);
  for (unsigned pass = 2; pass < 5; ++pass) {
    const Tensor x = random_tensor({5}, pass);
    const RecordGradients on;
    backward(sinopia::sum(w * x));
    sum.add();
    for (size_t i = 0; i < 5; ++i) want[i] += doubles(x)[i];
  }
  const std::vector<Tensor> got = sum.take();
  expect_close(got[0], want, 1e-6, 0);
  EXPECT_FALSE(got[1]);
  EXPECT_FALSE(sum.take()[0]) << "starts anew";
}

TEST(Ema, IsDiffusers) {
  const auto cases = nlohmann::json::parse(golden().metadata.at("emas"));
  for (const auto& [name, json] : cases.items()) {
    const EmaSchedule schedule{.decay = json.at("decay"),
                               .least = json.value("min_decay", 0.0),
                               .warm_up = json.value("use_ema_warmup", false),
                               .inverse_gamma = json.value("inv_gamma", 1.0),
                               .power = json.value("power", 2.0 / 3),
                               .from_step = json.value("update_after_step", int64_t{0})};
    const TensorMap parameters = start();
    const auto optimizer = make_adamw(parameters, {});
    auto ema = std::make_unique<Ema>(parameters, schedule);
    for (int64_t step = 1; step <= kSteps; ++step) {
      optimizer->step(gradients(step), rate(step));
      ema->update();
      if (step != 5) continue;
      TensorMap saved;
      for (const auto& [parameter, tensor] : ema->average()) saved[parameter] = copy_of(tensor);
      ema = std::make_unique<Ema>(parameters, schedule);
      ema->restore(saved, step);
    }
    expect_near_golden(ema->average(), "ema." + name + ".");
    const auto parameter = parameters.at("bias").to_vector<float>(),
               average = ema->average().at("bias").to_vector<float>();
    EXPECT_NE(parameter, average);
    ema->swap();
    EXPECT_EQ(parameters.at("bias").to_vector<float>(), average);
    ema->swap();
    EXPECT_EQ(parameters.at("bias").to_vector<float>(), parameter);
  }
}

}  // namespace
}  // namespace sinopia
