#include "net/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstdio>

#include "host/confine.hpp"
#include "host/error.hpp"
#include "net/cable.hpp"

namespace nacre::net {
namespace {

// The first message: it is there, or why not.
struct Ready {
  bool ok = false;
  char why[500] = {};
};

constexpr int kCable = 3;  // the one descriptor that stays open

void close_all_but(int cable, int log) {
  const int high_cable = fcntl(cable, F_DUPFD, 10);
  const int high_log = fcntl(log, F_DUPFD, 10);
  const int nowhere = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(nowhere, STDIN_FILENO);
  dup2(nowhere, STDOUT_FILENO);
  dup2(high_log, STDERR_FILENO);
  dup2(high_cable, kCable);
  syscall(SYS_close_range, kCable + 1, ~0U, 0);
}

Result<std::unique_ptr<Port>> prepare(const NetConfig& config) {
  auto port = TRY(open(config));
  // Paths have been looked up: no file system is kept busy.
  if (chdir("/") != 0) return host::errno_error("Cannot go to /");
  TRY(host::confine(port->role()));
  return port;
}

[[noreturn]] void serve(int inherited_cable, int inherited_log, const NetConfig& config) {
  // Nobody's terminal, nobody's group: its end is that of the cable.
  setsid();
  sigset_t all;
  sigfillset(&all);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGTERM}) sigdelset(&all, own);
  signal(SIGTERM, SIG_DFL);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  prctl(PR_SET_NAME, "nacre-net");
  close_all_but(inherited_cable, inherited_log);
  Ready ready;
  const auto port = prepare(config);
  ready.ok = port.ok();
  if (!port) std::snprintf(ready.why, sizeof ready.why, "%s", port.error().message());
  if (write(kCable, &ready, sizeof ready) == static_cast<ssize_t>(sizeof ready) && ready.ok) {
    const auto server = std::make_unique<CableServer>(*port.value(), host::UniqueFd(kCable));
    server->run();
  }
  _exit(0);
}

}  // namespace

Result<host::UniqueFd> start_process(const NetConfig& config, const host::UniqueFd& log) {
  auto [ours, theirs] = TRY(make_cable());
  const pid_t process = fork();
  if (process < 0) return host::errno_error("Cannot start a process");
  if (process == 0) serve(theirs.number(), log.number(), config);
  theirs = host::UniqueFd();
  Ready ready;
  ssize_t got = 0;
  do {
    pollfd entry = {ours.number(), POLLIN, 0};
    poll(&entry, 1, -1);
    got = read(ours.number(), &ready, sizeof ready);
  } while (got < 0 && (errno == EINTR || errno == EAGAIN));
  if (got != static_cast<ssize_t>(sizeof ready)) return Error{"The network's process has not started."};
  ready.why[sizeof ready.why - 1] = '\0';
  if (!ready.ok) return Error(ready.why);
  return std::move(ours);
}

}  // namespace nacre::net
