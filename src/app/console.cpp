#include "app/console.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "host/fd.hpp"

namespace nacre::app {
namespace {

// No more than this is read ahead of the guest.
constexpr usize kMostPending = 4096;

}  // namespace

Result<std::unique_ptr<Console>> Console::create(int in, int out) {
  std::unique_ptr<Console> console(new Console(in, out));
  if (in >= 0 && out >= 0 && isatty(in) != 0 && isatty(out) != 0) {
    console->terminal_.emplace(TRY(host::RawTerminal::enter(in)));
  }
  return console;
}

usize Console::output(std::span<const u8> bytes) {
  const usize written = out_.write_some(bytes);
  stalled_ = written < bytes.size();
  return written;
}

void Console::input_taken(usize count) {
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<long>(count));
}

// The order of entries: input if it is read at all, then output while it is stalled.
void Console::wait_for(std::vector<pollfd>& entries) {
  const bool reads = in_ >= 0 && pending_.size() < kMostPending;
  entries.push_back({reads ? in_ : -1, POLLIN, 0});
  if (stalled_) entries.push_back(out_.wait_entry());
}

void Console::ready(std::span<const pollfd> entries) {
  if (entries[0].fd >= 0 && entries[0].revents != 0) read_input();
}

void Console::read_input() {
  u8 bytes[1024];
  const ssize_t got = read(in_, bytes, sizeof bytes);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got <= 0) {
    in_ = -1;  // the end of stdin is not the end of the machine
    return;
  }
  for (ssize_t i = 0; i < got; ++i) typed(bytes[i]);
}

void Console::typed(u8 byte) {
  if (!raw()) {
    pending_.push_back(byte);
    return;
  }
  switch (keys_.take(byte, pending_)) {
    case KeyCommand::None:
    case KeyCommand::Detach:  // of consoles that can be left
      break;
    case KeyCommand::Quit:
      quit_ = true;
      break;
    case KeyCommand::PowerButton:
      power_button_ = true;
      break;
    case KeyCommand::Help:
      host::write_all(STDERR_FILENO, {reinterpret_cast<const u8*>(kKeyHelp), strlen(kKeyHelp)});
      break;
  }
}

}  // namespace nacre::app
