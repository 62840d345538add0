#include "host/error.hpp"

#include <cerrno>
#include <cstring>

namespace nacre::host {

Error error_with_number(int number, const char* what, const char* subject) {
  Error error(what);
  if (subject != nullptr) error.append(" ").append(subject);
  const char* description = strerrordesc_np(number);
  return error.append(": ").append(description != nullptr ? description : "unknown error").append(".");
}

Error errno_error(const char* what, const char* subject) {
  return error_with_number(errno, what, subject);
}

}  // namespace nacre::host
