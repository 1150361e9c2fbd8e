#include "sinopia/train/trainers/conditions/labels.h"

#include <map>
#include <string>
#include <utility>

#include "sinopia/base/error.h"
#include "sinopia/train/trainers/conditions/low_resolution.h"

namespace sinopia {
namespace {

class Labels final : public Condition {
 public:
  Labels(const TrainingSet& data, std::map<std::string, int32_t> rows, int32_t none, double dropout)
      : data_(data), rows_(std::move(rows)), none_(none), dropout_(dropout) {}

  void prepare(const ConditionSource& source, TensorMap& prepared) const override {
    std::vector<int32_t> rows;
    for (size_t i = 0; i < source.examples.size(); ++i) {
      const bool dropped = source.trained_on && source.draws(Purpose::LabelDropout, i).chance(dropout_);
      rows.push_back(dropped ? none_ : rows_.at(data_[source.examples[i].example].label));
    }
    prepared["label"] = Tensor::from(Shape{static_cast<int64_t>(rows.size())}, rows);
  }

  void apply(const TensorMap& prepared, const Autoencoder&, ConditionedInput& input) const override {
    input.conditions.class_labels = prepared.at("label");
  }

  bool request(int64_t example, GenerationRequest& request) const override {
    request.class_label = data_[example].label;
    return true;
  }

 private:
  const TrainingSet& data_;
  std::map<std::string, int32_t> rows_;
  int32_t none_;
  double dropout_;
};

}  // namespace

bool wants_labels(const ConditionContext& context) {
  return context.unet.class_embedding == UNetClassEmbedding::Table && !wants_low_resolution(context);
}

std::unique_ptr<Condition> make_labels(const ConditionContext& context) {
  const auto classes = static_cast<int64_t>(context.class_names.size());
  std::map<std::string, int32_t> rows;  // of two classes of one name (ImageNet has them), the first
  for (int64_t i = 0; i < classes; ++i)
    rows.emplace(context.class_names[static_cast<size_t>(i)], static_cast<int32_t>(i));
  for (const std::string& label : context.data.labels()) {
    SINOPIA_CHECK(!label.empty(), InvalidArgument,
                  "[train] the denoiser takes classes, but there are pictures without one");
    SINOPIA_CHECK(rows.contains(label), InvalidArgument,
                  "[train] the denoiser's {} classes do not have \"{}\" among them", classes, label);
  }
  const double dropout = context.recipe.diffusion.caption_dropout;
  const int64_t needed = classes + (dropout > 0 ? 1 : 0);
  SINOPIA_CHECK(needed <= context.unet.num_class_embeds, InvalidArgument,
                "[train] {} classes{} need as many rows, the denoiser's table has {}", classes,
                dropout > 0 ? " and none at all" : "", context.unet.num_class_embeds);
  return std::make_unique<Labels>(context.data, std::move(rows),
                                  static_cast<int32_t>(context.unet.num_class_embeds - 1), dropout);
}

}  // namespace sinopia
