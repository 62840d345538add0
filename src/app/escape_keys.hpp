// EscapeKeys: finds the user's commands to Nacre in what is typed on a raw terminal: Ctrl-A and a key. Pure;
// any thread.
#pragma once

#include <vector>

#include "base/types.hpp"

namespace nacre::app {

enum class KeyCommand : u8 { None, Quit, Help, PowerButton, Detach };

class EscapeKeys {
 public:
  static constexpr u8 kEscape = 1;  // Ctrl-A

  // One byte typed. What is for the guest is appended to `guest`.
  KeyCommand take(u8 byte, std::vector<u8>& guest);

 private:
  bool escaped_ = false;
};

inline constexpr const char* kKeyHelp =
    "\r\nnacre: Ctrl-A x  end the virtual machine at once\r\n"
    "       Ctrl-A p  press its power button (a guest with acpid or systemd shuts down)\r\n"
    "       Ctrl-A h  this help\r\n"
    "       Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n";

}  // namespace nacre::app
