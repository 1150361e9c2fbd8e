#include "sinopia/train/trainers/training_set.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "sinopia/base/error.h"
#include "sinopia/io/sha256.h"

namespace sinopia {

void check_picture_sizes(const DataRecipe& recipe, int64_t factor) {
  SINOPIA_CHECK(recipe.width % factor == 0 && recipe.height % factor == 0 &&
                    (!recipe.buckets || recipe.bucket_multiple % factor == 0),
                InvalidArgument, "[train] expected pictures of multiples of {} pixels, got {}x{}", factor,
                recipe.width, recipe.height);
}

TrainingSet::TrainingSet(const DataRecipe& recipe, int64_t batch, uint64_t seed)
    : recipe_(recipe), batch_(batch), seed_(seed) {
  preparation_.cropping = recipe.crop;
  preparation_.shorter_side = static_cast<int>(recipe.shorter_side);
  preparation_.flip_probability = recipe.flip;
  if (recipe.random_background) preparation_.background.reset();

  bool names_split = false;
  for (const std::string& path : recipe.paths) {
    sets_.push_back(CaptionedPictures::open(
        path,
        {.allow_missing_captions = recipe.allow_missing_captions, .split = {}, .language = recipe.language}));
    const CaptionedPictures& set = sets_.back();
    for (int64_t i = 0; i < set.size(); ++i) {
      places_.push_back({sets_.size() - 1, i});
      names_split = names_split || (!set[i].split.empty() && set[i].split == recipe.validation_split);
    }
  }

  const bool by_split = names_split;
  std::vector<std::pair<std::string, int64_t>> candidates;
  for (int64_t i = 0; i < static_cast<int64_t>(places_.size()); ++i) {
    const CaptionedPicture& example = (*this)[i];
    const bool validates = by_split && example.split == recipe.validation_split;
    if (validates || !by_split) candidates.emplace_back(sha256_hex_of_text(example.name), i);
    if (!validates && (recipe.split.empty() || example.split == recipe.split)) trained_.push_back(i);
  }
  std::ranges::sort(candidates);
  const auto taken = std::min(candidates.size(), static_cast<size_t>(recipe.validation_examples));
  for (size_t i = 0; i < taken; ++i) validation_.push_back(candidates[i].second);
  if (!by_split) {
    const std::string last = taken > 0 ? candidates[taken - 1].first : "";
    std::erase_if(trained_, [&](int64_t i) { return sha256_hex_of_text((*this)[i].name) <= last; });
  }
  SINOPIA_CHECK(!trained_.empty(), NotFound,
                "[data] {} pictures, but none of the split '{}' beside the {} for validation", places_.size(),
                recipe.split, validation_.size());

  sizes_ = {{static_cast<int>(recipe.height), static_cast<int>(recipe.width)}};
  bucket_of_.assign(trained_.size(), 0);
  if (recipe.buckets) {
    sizes_ = aspect_buckets({.area = recipe.width * recipe.height,
                             .multiple = static_cast<int>(recipe.bucket_multiple),
                             .max_aspect = recipe.bucket_max_aspect});
    for (size_t i = 0; i < trained_.size(); ++i) {
      const Place& at = place(trained_[i]);
      bucket_of_[i] = nearest_bucket(sizes_, sets_[at.set].size_of(at.index));
    }
  }
  batches_per_epoch_ =
      static_cast<int64_t>(bucket_batches(bucket_of_, batch, recipe.last_batch, seed, 0).size());
  SINOPIA_CHECK(batches_per_epoch_ > 0, InvalidArgument,
                "[data] {} pictures to train on do not fill a batch of {}: take smaller batches, or "
                "data.last_batch: fill or keep",
                trained_.size(), batch);
}

TrainingSet::Batch TrainingSet::batch(int64_t number) const {
  const std::lock_guard lock(mutex_);
  const int64_t epoch = number / batches_per_epoch_;
  if (epoch != epoch_) {
    batches_ = bucket_batches(bucket_of_, batch_, recipe_.last_batch, seed_, static_cast<uint32_t>(epoch));
    epoch_ = epoch;
  }
  const BucketBatch& chosen = batches_[static_cast<size_t>(number % batches_per_epoch_)];
  Batch result{sizes_[static_cast<size_t>(chosen.bucket)], chosen.examples};
  for (int64_t& example : result.examples) example = trained_[static_cast<size_t>(example)];
  return result;
}

const CaptionedPicture& TrainingSet::operator[](int64_t example) const {
  return sets_[place(example).set][place(example).index];
}

PreparedPicture TrainingSet::picture(int64_t example, PictureSize size, int64_t number, int64_t index) const {
  const Place& at = place(example);
  return prepare_picture(sets_[at.set].picture(at.index), size, preparation_, (*this)[example].mirror, seed_,
                         static_cast<uint32_t>(number), static_cast<uint32_t>(index));
}

const std::string& TrainingSet::caption(int64_t example, int64_t number, int64_t index) const {
  const std::vector<std::string>& captions = (*this)[example].captions;
  Draws draws(seed_, Purpose::Caption, static_cast<uint32_t>(number), static_cast<uint32_t>(index));
  return captions[static_cast<size_t>(draws.integer(static_cast<int64_t>(captions.size())))];
}

PreparedPicture TrainingSet::validation_picture(int64_t example) const {
  const Place& at = place(example);
  const PictureSize size{static_cast<int>(recipe_.height), static_cast<int>(recipe_.width)};
  return prepare_picture(sets_[at.set].picture(at.index), size, {.shorter_side = preparation_.shorter_side},
                         false, seed_, 0);
}

Image TrainingSet::semantic_map(int64_t example) const {
  return sets_[place(example).set].semantic_map(place(example).index);
}

std::vector<std::string> TrainingSet::labels() const {
  std::set<std::string> labels;
  for (const std::vector<int64_t>* examples : {&trained_, &validation_})
    for (const int64_t example : *examples) labels.insert((*this)[example].label);
  return {labels.begin(), labels.end()};
}

bool TrainingSet::mirrored(int64_t example, int64_t number, int64_t index) const {
  return draws_flip(preparation_, (*this)[example].mirror, seed_, static_cast<uint32_t>(number),
                    static_cast<uint32_t>(index));
}

std::string TrainingSet::content_key(int64_t example, PictureSize size, bool is_mirrored) const {
  return sha256_hex_of_text(
      fmt::format("{} {}x{} of {}{}", sets_[place(example).set].content_hash(place(example).index),
                  size.width, size.height, preparation_.shorter_side, is_mirrored ? " mirrored" : ""));
}

bool TrainingSet::is_fixed() const {
  return preparation_.background.has_value() && preparation_.cropping == Cropping::Center;
}

}  // namespace sinopia
