#include "sinopia/train/trainers/conditions/semantic_maps.h"

#include "sinopia/base/error.h"
#include "sinopia/pipelines/semantic_map.h"
#include "sinopia/train/trainers/batches.h"

namespace sinopia {
namespace {

MapPart part_of(const PreparedExample& one) {
  const SizeConditioning& size = one.size;
  const double width = size.resized.width, height = size.resized.height;
  return {.left = size.crop_left / width,
          .top = size.crop_top / height,
          .right = (size.crop_left + size.target.width) / width,
          .bottom = (size.crop_top + size.target.height) / height,
          .mirrored = one.mirrored};
}

class SemanticMaps final : public Condition {
 public:
  SemanticMaps(const TrainingSet& data, int64_t classes, int64_t factor)
      : data_(data), classes_(classes), factor_(factor) {}
  int64_t channels() const override { return classes_; }

  void prepare(const ConditionSource& source, TensorMap& prepared) const override {
    std::vector<Tensor> maps;
    for (const PreparedExample& one : source.examples) {
      const Image map = data_.semantic_map(one.example);
      try {
        maps.push_back(semantic_channels(map, part_of(one), one.size.target.height / factor_,
                                         one.size.target.width / factor_, classes_));
      } catch (const Error& error) {
        fail(error.kind(), "{} of '{}'", error.what(), data_[one.example].name);
      }
    }
    prepared["semantic_map"] = stacked(maps);
  }

  void apply(const TensorMap& prepared, const Autoencoder&, ConditionedInput& input) const override {
    input.concatenated.push_back(prepared.at("semantic_map"));
  }

  bool request(int64_t example, GenerationRequest& request) const override {
    request.semantic_map = data_.semantic_map(example);
    return true;
  }

 private:
  const TrainingSet& data_;
  int64_t classes_, factor_;
};

}  // namespace

bool wants_semantic_maps(const ConditionContext& context) { return context.unet.semantic_classes > 0; }

std::unique_ptr<Condition> make_semantic_maps(const ConditionContext& context) {
  return std::make_unique<SemanticMaps>(context.data, context.unet.semantic_classes,
                                        context.autoencoder.factor());
}

}  // namespace sinopia
