#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "sinopia/train/data/captioned_pictures.h"
#include "sinopia/train/data/picture_preparation.h"
#include "sinopia/train/recipe/recipe.h"

namespace sinopia {

/// Throws InvalidArgument unless pictures of a recipe fall into whole latent cells of `factor` pixels.
void check_picture_sizes(const DataRecipe& recipe, int64_t factor);

/// The pictures of a run: those that are trained on, in batches, and those that validation takes. What is
/// drawn depends on the seed and a batch's number alone. Thread safe.
class TrainingSet {
 public:
  /// Opens the sets. Those of the validation split are validated on, as many as asked for; where no set names
  /// that split, examples chosen by a hash of their names are. Throws as CaptionedPictures::open does,
  /// NotFound if nothing is left to train on, InvalidArgument if there are fewer examples than a batch
  /// takes and incomplete batches are dropped.
  TrainingSet(const DataRecipe& recipe, int64_t batch, uint64_t seed);

  struct Batch {
    PictureSize size;
    std::vector<int64_t> examples;
  };
  /// Number 0 is the first of the run; epochs follow each other.
  Batch batch(int64_t number) const;
  int64_t batches_per_epoch() const { return batches_per_epoch_; }
  /// How many are trained on.
  int64_t size() const { return static_cast<int64_t>(trained_.size()); }
  /// Those for validation, in an order that mixes sets.
  const std::vector<int64_t>& validation() const { return validation_; }

  const CaptionedPicture& operator[](int64_t example) const;
  /// As batch `number` has it at place `index`.
  PreparedPicture picture(int64_t example, PictureSize size, int64_t number, int64_t index) const;
  /// Whether that one is mirrored.
  bool mirrored(int64_t example, int64_t number, int64_t index) const;
  /// One of its captions, drawn likewise.
  const std::string& caption(int64_t example, int64_t number, int64_t index) const;
  /// See CaptionedPictures::semantic_map.
  Image semantic_map(int64_t example) const;
  /// The classes of all examples in byte order.
  std::vector<std::string> labels() const;
  /// In the middle, not mirrored, on white.
  PreparedPicture validation_picture(int64_t example) const;

  /// A hash of the picture's file, and of what is made of it if is_fixed().
  std::string content_key(int64_t example, PictureSize size, bool is_mirrored) const;
  /// Whether a picture depends on nothing that is drawn but the mirroring.
  bool is_fixed() const;

 private:
  struct Place {
    size_t set;
    int64_t index;
  };
  const Place& place(int64_t example) const { return places_[static_cast<size_t>(example)]; }

  DataRecipe recipe_;
  int64_t batch_, batches_per_epoch_ = 0;
  uint64_t seed_;
  PicturePreparation preparation_;
  std::vector<CaptionedPictures> sets_;
  std::vector<Place> places_;
  std::vector<int64_t> trained_, validation_;
  std::vector<PictureSize> sizes_;
  std::vector<int> bucket_of_;  // of trained_
  mutable std::mutex mutex_;    // guards what follows
  mutable int64_t epoch_ = -1;
  mutable std::vector<BucketBatch> batches_;  // of epoch_
};

}  // namespace sinopia
