#include "base/check.hpp"

namespace nacre {
namespace {
CheckHandler installed_handler = nullptr;
}

void set_check_handler(CheckHandler handler) { installed_handler = handler; }

void check_failed(const char* expression, const char* file, int line) {
  if (installed_handler != nullptr) installed_handler(expression, file, line);
  __builtin_trap();
}

}  // namespace nacre
