#pragma once

namespace sinopia {

/// While it lives, parallel_for on this thread runs on this thread alone. For a thread in the background: the
/// others are those of whoever works in the foreground.
class SerialSection {
 public:
  SerialSection();
  ~SerialSection();
  SerialSection(const SerialSection&) = delete;
  SerialSection& operator=(const SerialSection&) = delete;

 private:
  bool before_;
};

}  // namespace sinopia
