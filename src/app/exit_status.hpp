// What `nacre boot` tells by its exit status. Statuses of Nacre's own are even, as those of a guest's debug
// exit are odd (QEMU's isa-debug-exit: (value << 1) | 1), so the two cannot be mistaken for each other.
#pragma once

#include "vm/ending.hpp"

namespace nacre::app {

struct ExitStatus {
  static constexpr int power_off = 0;
  static constexpr int bad_input = 2;  // wrong options, unusable files; nothing was started
  static constexpr int reset = 4;
  static constexpr int triple_fault = 6;
  static constexpr int engine_failure = 8;
  static constexpr int output_failed = 10;  // what the guest printed could not be written
  static constexpr int quit = 12;           // by the user: Ctrl-A x
  static constexpr int diverged = 14;       // nacre verify
  static constexpr int panicked = 16;       // the guest's kernel, by its own word
  static constexpr int time_limit = 124;    // as timeout(1)
};

// `nacre run -- COMMAND` gives the command's own; these are for when there is none to give, as env(1) and its
// like have them.
struct RunStatus {
  static constexpr int nacre_failed = 125;
  static constexpr int not_executable = 126;
  static constexpr int not_found = 127;
};

// `nacre exec` gives the command's own, 126 and 127 as above; `nacre cp` its own.
struct ExecStatus {
  static constexpr int some_failed = 1;
  static constexpr int nacre_failed = 255;
};

constexpr int debug_exit_status(u32 value) {
  return static_cast<int>((value << 1 | 1) & 0xff);
}

}  // namespace nacre::app
