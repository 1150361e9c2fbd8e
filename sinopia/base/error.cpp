#include "sinopia/base/error.h"

namespace sinopia {

const char* to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::InvalidArgument:
      return "invalid argument";
    case ErrorKind::NotFound:
      return "not found";
    case ErrorKind::Corrupt:
      return "corrupt data";
    case ErrorKind::Unsupported:
      return "unsupported";
    case ErrorKind::OutOfMemory:
      return "out of memory";
    case ErrorKind::Backend:
      return "backend failure";
    case ErrorKind::Cancelled:
      return "cancelled";
  }
  return "unknown error";
}

}  // namespace sinopia
