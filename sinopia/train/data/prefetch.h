#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "sinopia/base/error.h"
#include "sinopia/base/serial_section.h"

namespace sinopia {

/// make(first), make(first + 1), .., make(end - 1), one by one and in this order, on a thread of its own that
/// keeps up to `ahead` of them ready; with `ahead` = 0 there is no thread, and next() makes them. The same
/// items either way, as long as what `make` returns depends on its argument alone. On that thread
/// parallel_for runs on one core. next() is for one thread at a time; the destructor waits for the item that
/// is being made.
template <class Item>
class Prefetch {
 public:
  using Make = std::function<Item(int64_t)>;

  /// Throws InvalidArgument if `ahead` is negative or `end` is before `first`.
  Prefetch(int64_t first, int64_t end, int ahead, Make make)
      : next_(first), end_(end), ahead_(static_cast<size_t>(ahead)), make_(std::move(make)) {
    SINOPIA_CHECK(ahead >= 0 && first <= end, InvalidArgument,
                  "[prefetch] expected items {} to {} and 0 or more ahead, got {}", first, end, ahead);
    if (ahead > 0) thread_ = std::thread([this] { work(); });
  }
  ~Prefetch() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  Prefetch(const Prefetch&) = delete;
  Prefetch& operator=(const Prefetch&) = delete;

  /// The next item; nothing when there are no more. What `make` threw is thrown in that item's place, and by
  /// every call from then on.
  std::optional<Item> next() {
    if (ahead_ == 0) return make_here();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !ready_.empty() || ended_; });
    if (ready_.empty()) {
      if (error_) std::rethrow_exception(error_);
      return std::nullopt;
    }
    std::optional<Item> item(std::move(ready_.front()));
    ready_.pop_front();
    lock.unlock();
    changed_.notify_all();
    return item;
  }

 private:
  std::optional<Item> make_here() {
    if (error_) std::rethrow_exception(error_);
    if (next_ == end_) return std::nullopt;
    try {
      return make_(next_++);
    } catch (...) {
      error_ = std::current_exception();
      throw;
    }
  }

  void work() {
    const SerialSection serial;
    std::exception_ptr error;
    try {
      while (next_ < end_) {
        {
          std::unique_lock lock(mutex_);
          changed_.wait(lock, [this] { return stop_ || ready_.size() < ahead_; });
          if (stop_) break;
        }
        Item item = make_(next_++);
        std::lock_guard lock(mutex_);
        ready_.push_back(std::move(item));
        changed_.notify_all();
      }
    } catch (...) {
      error = std::current_exception();
    }
    std::lock_guard lock(mutex_);
    error_ = error;
    ended_ = true;
    changed_.notify_all();
  }

  int64_t next_;
  const int64_t end_;
  const size_t ahead_;
  const Make make_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<Item> ready_;
  std::exception_ptr error_;
  bool ended_ = false, stop_ = false;
  std::thread thread_;
};

}  // namespace sinopia
