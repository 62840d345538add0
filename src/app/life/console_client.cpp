#include "app/life/console_client.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "app/escape_keys.hpp"
#include "app/life/control_client.hpp"
#include "app/machine_options.hpp"
#include "host/error.hpp"
#include "host/terminal.hpp"

namespace nacre::app {
namespace {

constexpr const char* kHelp =
    "\r\nnacre: Ctrl-A d  leave; the machine runs on\r\n"
    "       Ctrl-A p  press its power button\r\n"
    "       Ctrl-A h  this help\r\n"
    "       Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n";

class ConsoleClient {
 public:
  ConsoleClient(const life::Folder& folder, host::UniqueFd socket)
      : folder_(folder), socket_(std::move(socket)) {}

  Status run() {
    if (isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0)
      terminal_.emplace(TRY(host::RawTerminal::enter(STDIN_FILENO)));
    if (terminal_) tell("\r\nnacre: Ctrl-A d leaves the console; Ctrl-A h for help.\r\n");
    while (!over_) {
      pollfd entries[] = {{in_, POLLIN, 0}, {socket_.number(), POLLIN, 0}};
      if (poll(entries, 2, -1) < 0 && errno != EINTR) return host::errno_error("Cannot wait for the console");
      if (in_ >= 0 && entries[0].revents != 0) read_input();
      if (entries[1].revents != 0) read_machine();
    }
    if (terminal_) tell("\r\n");
    terminal_.reset();
    return {};
  }

 private:
  static void tell(const char* text) {
    host::write_all(STDERR_FILENO, {reinterpret_cast<const u8*>(text), strlen(text)});
  }

  void read_machine() {
    u8 bytes[16 * kKiB];
    const ssize_t got = read(socket_.number(), bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) return;
    over_ = got <= 0 || !host::write_all(STDOUT_FILENO, {bytes, static_cast<usize>(got)});
  }

  void read_input() {
    u8 bytes[1024];
    const ssize_t got = read(STDIN_FILENO, bytes, sizeof bytes);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got <= 0) {
      in_ = -1;
      shutdown(socket_.number(), SHUT_WR);
      return;
    }
    std::vector<u8> typed;
    for (ssize_t i = 0; i < got && !over_; ++i) take(bytes[i], typed);
    if (!host::write_all(socket_.number(), typed)) over_ = true;
  }

  void take(u8 byte, std::vector<u8>& typed) {
    if (!terminal_) return typed.push_back(byte);
    switch (keys_.take(byte, typed)) {
      case KeyCommand::None:
        break;
      case KeyCommand::Detach:
      case KeyCommand::Quit:  // elsewhere it ends the machine; here fingers that are used to it only leave
        over_ = true;
        break;
      case KeyCommand::PowerButton:
        if (const auto answer = ask(folder_, life::JsonObject().set("do", "power-button")); !answer)
          complain(answer.error());
        break;
      case KeyCommand::Help:
        tell(kHelp);
        break;
    }
  }

  const life::Folder& folder_;
  host::UniqueFd socket_;
  std::optional<host::RawTerminal> terminal_;
  EscapeKeys keys_;
  int in_ = STDIN_FILENO;
  bool over_ = false;
};

}  // namespace

Status attach_console(const life::Folder& folder) {
  return ConsoleClient(folder, TRY(life::connect_to(folder, "console.sock"))).run();
}

}  // namespace nacre::app
