#include "sinopia/backend/cuda/packed_weights.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "sinopia/backend/cuda/reclaim.h"
#include "sinopia/backend/cuda/recording.h"
#include "sinopia/backend/cuda/runtime.h"

namespace sinopia::cuda::packed_weights {
namespace {

/// Whose bytes they are. The address of a storage may be that of another one later, hence Kept::owner.
struct Key {
  const Storage* storage;
  size_t offset;
  DType from, to;
  std::array<int64_t, 4> shape;
  auto operator<=>(const Key&) const = default;
};

struct Kept {
  std::weak_ptr<Storage> owner;
  Tensor packed;
  uint64_t last_use = 0;
};

struct State {
  std::mutex mutex;  // never held while memory is asked for or given back: that may call give_up()
  std::map<Key, Kept> kept;
  size_t bytes = 0;
  uint64_t uses = 0;
};

size_t give_up(State& s, size_t wanted);

State& state() {
  static auto* const all = [] {
    auto* const made = new State;  // never freed: the allocator may be gone before statics are
    register_reclaimer([made](size_t wanted) { return give_up(*made, wanted); });
    return made;
  }();
  return *all;
}

Tensor in_use(const Tensor& packed) {
  keep_while_recorded(packed.storage());
  return packed;
}

/// Takes those out for which `goes` holds; they are freed by the caller, without the lock.
template <class Goes>
std::vector<Tensor> taken_out(State& s, Goes goes) {
  std::vector<Tensor> gone;
  for (auto i = s.kept.begin(); i != s.kept.end();) {
    if (goes(i->first, i->second)) {
      s.bytes -= i->second.packed.bytes();
      gone.push_back(std::move(i->second.packed));
      i = s.kept.erase(i);
    } else {
      ++i;
    }
  }
  return gone;
}

/// The longest unused ones of the current device.
size_t give_up(State& s, size_t wanted) {
  std::vector<Tensor> gone;
  const std::lock_guard lock(s.mutex);
  std::vector<std::pair<uint64_t, size_t>> candidates;  // last use and bytes
  for (const auto& [key, kept] : s.kept)
    if (kept.packed.device().index == current_device())
      candidates.emplace_back(kept.last_use, kept.packed.bytes());
  std::ranges::sort(candidates);
  size_t bytes = 0;
  uint64_t latest = 0;
  for (size_t i = 0; i < candidates.size() && bytes < wanted; ++i) {
    bytes += candidates[i].second;
    latest = candidates[i].first;
  }
  gone = taken_out(s, [&](const Key&, const Kept& kept) {
    return kept.packed.device().index == current_device() && kept.last_use <= latest;
  });
  return bytes;
}

bool overlaps(const Key& key, const Kept& kept, const Tensor& w) {
  if (key.storage != w.storage().get() || kept.owner.expired()) return false;
  const auto [O, I, KH, KW] = key.shape;
  const size_t bytes = static_cast<size_t>(O * I * KH * KW) * size_of(key.from);
  return key.offset < w.byte_offset() + w.bytes() && w.byte_offset() < key.offset + bytes;
}

Tensor packed_anew(const Tensor& w, DType dtype) {
  Tensor packed = Tensor::empty({w.dim(0), w.dim(2), w.dim(3), w.dim(1)}, dtype, w.device());
  pack_weights(w, packed);
  return packed;
}

}  // namespace

Tensor of(const Tensor& w, DType dtype) {
  const bool same_bytes = w.dtype() == dtype && (w.dim(2) * w.dim(3) == 1 || w.dim(1) == 1);
  if (same_bytes) return w.reshape({w.dim(0), w.dim(2), w.dim(3), w.dim(1)});
  const Key key{
      w.storage().get(), w.byte_offset(), w.dtype(), dtype, {w.dim(0), w.dim(1), w.dim(2), w.dim(3)}};
  State& s = state();
  {
    const std::lock_guard lock(s.mutex);
    const auto found = s.kept.find(key);
    if (found != s.kept.end() && found->second.owner.lock() == w.storage()) {
      found->second.last_use = ++s.uses;
      return in_use(found->second.packed);
    }
  }
  const Tensor packed = packed_anew(w, dtype);
  if (is_recording()) return in_use(packed);  // nothing is in it before a replay
  std::vector<Tensor> gone;
  {
    const std::lock_guard lock(s.mutex);
    gone = taken_out(
        s, [&](const Key& other, const Kept& kept) { return kept.owner.expired() || other == key; });
    s.kept[key] = {w.storage(), packed, ++s.uses};
    s.bytes += packed.bytes();
  }
  return packed;
}

void forget(const Tensor& w) {
  if (!w) return;
  std::vector<Tensor> gone;
  State& s = state();
  const std::lock_guard lock(s.mutex);
  gone = taken_out(s, [&](const Key& key, const Kept& kept) { return overlaps(key, kept, w); });
}

void repack(const Tensor& w) {
  if (!w) return;
  std::vector<std::pair<Tensor, Tensor>> todo;
  {
    State& s = state();
    const std::lock_guard lock(s.mutex);
    for (auto& [key, kept] : s.kept) {
      if (!overlaps(key, kept, w)) continue;
      const auto [O, I, KH, KW] = key.shape;
      todo.emplace_back(Tensor({O, I, KH, KW}, key.from, w.storage(), key.offset), kept.packed);
    }
  }
  for (auto& [from, to] : todo) pack_weights(from, to);
}

void clear() {
  State& s = state();
  std::vector<Tensor> gone;
  const std::lock_guard lock(s.mutex);
  gone = taken_out(s, [](const Key&, const Kept&) { return true; });
}

size_t bytes() {
  const std::lock_guard lock(state().mutex);
  return state().bytes;
}

}  // namespace sinopia::cuda::packed_weights
