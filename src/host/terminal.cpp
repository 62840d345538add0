#include "host/terminal.hpp"

#include <sys/ioctl.h>
#include <termios.h>

#include <atomic>
#include <cerrno>

#include "host/error.hpp"
#include "host/signals.hpp"

namespace nacre::host {
namespace {

// Reached from signal handlers. Written before `raw_file` is set.
termios before, raw;
std::atomic<int> raw_file = -1;

}  // namespace

Result<RawTerminal> RawTerminal::enter(int file) {
  if (raw_file.load() >= 0) return Error{"The terminal is in raw mode already."};
  if (tcgetattr(file, &before) != 0) return errno_error("Cannot read the terminal's settings");
  raw = before;
  cfmakeraw(&raw);
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  SignalDispatcher::on_death(&RawTerminal::put_back);
  raw_file.store(file);
  if (tcsetattr(file, TCSADRAIN, &raw) != 0) {
    raw_file.store(-1);
    return errno_error("Cannot set the terminal to raw mode");
  }
  return RawTerminal();
}

RawTerminal::~RawTerminal() {
  if (!owner_) return;
  put_back();
  raw_file.store(-1);
}

void RawTerminal::put_back() {
  const int saved = errno;
  if (const int file = raw_file.load(); file >= 0) tcsetattr(file, TCSANOW, &before);
  errno = saved;
}

void RawTerminal::again() {
  const int saved = errno;
  if (const int file = raw_file.load(); file >= 0) tcsetattr(file, TCSANOW, &raw);
  errno = saved;
}

TerminalSize terminal_size(int file) {
  winsize size = {};
  if (ioctl(file, TIOCGWINSZ, &size) != 0) return {};
  return {size.ws_row, size.ws_col};
}

}  // namespace nacre::host
