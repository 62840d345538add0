#include "app/escape_keys.hpp"

namespace nacre::app {

KeyCommand EscapeKeys::take(u8 byte, std::vector<u8>& guest) {
  if (!escaped_) {
    if (byte == kEscape) {
      escaped_ = true;
    } else {
      guest.push_back(byte);
    }
    return KeyCommand::None;
  }
  escaped_ = false;
  switch (byte) {
    case 'x':
    case 'X':
    case 'q':
      return KeyCommand::Quit;
    case 'd':
    case 'D':
      return KeyCommand::Detach;
    case 'h':
    case '?':
      return KeyCommand::Help;
    case 'p':
      return KeyCommand::PowerButton;
    case kEscape:
      guest.push_back(byte);
      return KeyCommand::None;
    default:
      return KeyCommand::None;  // an unknown key is dropped, as a mistyped command should be
  }
}

}  // namespace nacre::app
