#include "sinopia/train/codebook_use.h"

#include <algorithm>
#include <cmath>

namespace sinopia {

void CodebookUse::add(const Tensor& codes) {
  const auto entries = static_cast<int32_t>(counts_.size());
  for (const int32_t code : copy_to(codes, {}).to_vector<int32_t>()) {
    SINOPIA_CHECK(code >= 0 && code < entries, InvalidArgument,
                  "[codebook use] expected codes in [0,{}), got {}", entries, code);
    ++counts_[static_cast<size_t>(code)];
    ++total_;
  }
}

double CodebookUse::perplexity() const {
  if (total_ == 0) return 0;
  double entropy = 0;
  for (const int64_t count : counts_) {
    const double p = static_cast<double>(count) / static_cast<double>(total_);
    if (count > 0) entropy -= p * std::log(p);
  }
  return std::exp(entropy);
}

double CodebookUse::share_used() const {
  const auto used = std::count_if(counts_.begin(), counts_.end(), [](int64_t count) { return count > 0; });
  return static_cast<double>(used) / static_cast<double>(std::max<size_t>(counts_.size(), 1));
}

}  // namespace sinopia
