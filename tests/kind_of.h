#pragma once

#include <optional>

#include "sinopia/base/error.h"

namespace sinopia::testing {

/// The kind of the Error that a call throws; nothing if it returns.
template <class Call>
std::optional<ErrorKind> kind_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.kind();
  }
  return std::nullopt;
}

}  // namespace sinopia::testing
