// System calls of the agent alone: processes, signals, sockets, terminals. Freestanding; see
// agent/system.hpp.
#pragma once

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "agent/system.hpp"

namespace nacre::agent::sys {

inline long fork() {
  return call(SYS_fork);
}
inline long dup2(int from, int to) {
  return call(SYS_dup2, from, to);
}
inline long pipe2(int* ends, int flags) {
  return call(SYS_pipe2, address(ends), flags);
}
inline long setsid() {
  return call(SYS_setsid);
}
inline long chdir(const char* path) {
  return call(SYS_chdir, address(path));
}
inline long kill(int process, int signal) {
  return call(SYS_kill, process, signal);
}
inline long wait4(int process, int* status, int options) {
  return call(SYS_wait4, process, address(status), options);
}
inline long ioctl(int file, unsigned long request, const void* argument) {
  return call(SYS_ioctl, file, static_cast<long>(request), address(argument));
}
inline long execve(const char* path, char* const* words, char* const* environment) {
  return call(SYS_execve, address(path), address(words), address(environment));
}
inline void set_nonblocking(int file) {
  const long flags = call(SYS_fcntl, file, F_GETFL);
  call(SYS_fcntl, file, F_SETFL, flags | O_NONBLOCK);
}
// The kernel's own form of a signal set and action: 64 signals.
inline void set_signal(int signal, bool ignore) {
  const struct {
    u64 handler, flags, restorer, mask;  // SIG_DFL 0, SIG_IGN 1
  } action = {ignore ? u64{1} : 0, 0, 0, 0};
  call(SYS_rt_sigaction, signal, address(&action), 0, 8);
}
inline void block_signals(u64 mask) {
  call(SYS_rt_sigprocmask, SIG_SETMASK, address(&mask), 0, 8);
}
[[noreturn]] inline void exit(int status) {
  for (;;) call(SYS_exit_group, status);
}

}  // namespace nacre::agent::sys
