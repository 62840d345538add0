// NACRE_CHECK: our own bugs, and nothing else. No guest, image or file may ever make one fail; what
// comes from outside is answered with a guest fault or a Result. Stays on in release builds.
#pragma once

namespace nacre {

// Called with the failed expression; must not return. The default aborts by an illegal instruction;
// the hosted build installs one that writes a line to stderr first.
using CheckHandler = void (*)(const char* expression, const char* file, int line);
void set_check_handler(CheckHandler handler);

[[noreturn]] void check_failed(const char* expression, const char* file, int line);

}  // namespace nacre

#define NACRE_CHECK(expression) \
  ((expression) ? static_cast<void>(0) : ::nacre::check_failed(#expression, __FILE__, __LINE__))
