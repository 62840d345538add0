#include "app/signal_events.hpp"

#include <sys/signalfd.h>
#include <unistd.h>

#include "host/error.hpp"

namespace nacre::app {

Result<SignalEvents> SignalEvents::create() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH}) {
    struct sigaction current = {};
    // What nohup(1) and the like have had ignored stays so.
    if (sigaction(signal, nullptr, &current) == 0 && current.sa_handler == SIG_IGN) continue;
    sigaddset(&set, signal);
  }
  signal(SIGPIPE, SIG_IGN);
  if (pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) return host::errno_error("Cannot block signals");
  host::UniqueFd file(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!file) return host::errno_error("Cannot watch for signals");
  return SignalEvents(std::move(file));
}

int SignalEvents::next() const {
  signalfd_siginfo info = {};
  if (read(file_.number(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return 0;
  return static_cast<int>(info.ssi_signo);
}

void die_by(int signal) {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  raise(signal);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  _exit(128 + signal);
}

}  // namespace nacre::app
