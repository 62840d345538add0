// RawTerminal: the user's terminal in raw mode (every key reaches the guest) for as long as it lives, and
// put back whatever ends the program: destruction, a signal, a failed check. One at a time.
#pragma once

#include "base/result.hpp"

namespace nacre::host {

class RawTerminal {
 public:
  // `file` must be a terminal. What is put back is what was set before.
  static Result<RawTerminal> enter(int file);
  RawTerminal(RawTerminal&& other) noexcept : owner_(other.owner_) { other.owner_ = false; }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  RawTerminal& operator=(RawTerminal&&) = delete;
  ~RawTerminal();

  // Puts the terminal back now, and into raw mode again: around a stop of the process (SIGTSTP).
  // Async-signal-safe.
  static void put_back();
  static void again();

 private:
  RawTerminal() = default;
  bool owner_ = true;
};

struct TerminalSize {
  unsigned rows = 0;
  unsigned columns = 0;
};
// 0 by 0 when `file` is not a terminal or does not know.
TerminalSize terminal_size(int file);

}  // namespace nacre::host
