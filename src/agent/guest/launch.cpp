#include "agent/guest/launch.hpp"

#include <sys/signalfd.h>

#include <initializer_list>

#include "agent/guest/process.hpp"

namespace nacre::agent {
namespace {

char login_name[260];

Failure open_terminal(const WindowSize& wanted, int& inner, Launched& launched) {
  const long outer = sys::openat(AT_FDCWD, "/dev/ptmx", O_RDWR | O_NOCTTY);
  if (outer < 0) return {outer, "/dev/ptmx"};
  const int unlock = 0;
  const winsize size = {wanted.rows, wanted.columns, 0, 0};
  sys::ioctl(static_cast<int>(outer), TIOCSPTLCK, &unlock);
  sys::ioctl(static_cast<int>(outer), TIOCSWINSZ, &size);
  // Not by its name in /dev/pts, which need not be mounted there.
  const long opened = sys::call(SYS_ioctl, outer, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (opened < 0) return {opened, "terminal"};
  inner = static_cast<int>(opened);
  launched.in = launched.out = static_cast<int>(outer);
  return {};
}

// The command's ends in `streams`, ours in `launched`.
Failure open_pipes(int (&streams)[3], Launched& launched) {
  int* const ours[3] = {&launched.in, &launched.out, &launched.err};
  for (int i = 0; i < 3; ++i) {
    int ends[2];
    if (const long error = sys::pipe2(ends, O_CLOEXEC); error < 0) return {error, "pipe"};
    streams[i] = ends[i == 0 ? 0 : 1];
    *ours[i] = ends[i == 0 ? 1 : 0];
  }
  return {};
}

[[noreturn]] void execute(const CommandRequest& request, int report) {
  const char* program = request.words[0];
  if (program == nullptr) {
    // A dash before the name makes it a login shell.
    const char* name = request.user.shell;
    for (const char* at = name; *at != 0; ++at) name = *at == '/' ? at + 1 : name;
    request.words[0] = join(login_name, "-", name);
    program = request.user.shell;
  }
  long error = -ENOENT;
  bool slash = false;
  for (const char* at = program; *at != 0; ++at) slash = slash || *at == '/';
  const char* folders = kUsualPath + 5;
  for (char** at = request.environment; *at != nullptr; ++at) {
    if (begins(*at, "PATH=")) {
      folders = *at + 5;
      break;
    }
  }
  if (slash) error = sys::execve(program, request.words, request.environment);
  while (!slash) {
    char path[4096];
    usize length = 0;
    while (folders[length] != 0 && folders[length] != ':') ++length;
    if (length + sys::length(program) + 2 <= sizeof path) {
      __builtin_memcpy(path, folders, length);
      path[length] = 0;
      join(path + length, length == 0 ? "" : "/", program);
      const long result = sys::execve(path, request.words, request.environment);
      if (result != -ENOENT && result != -ENOTDIR) error = result;
    }
    if (folders[length] == 0) break;
    folders += length + 1;
  }
  const int why[2] = {static_cast<int>(-error), 0};
  sys::write(report, why, sizeof why);
  sys::exit(error == -ENOENT ? 127 : 126);
}

[[noreturn]] void become_command(const CommandRequest& request, const int (&streams)[3], int report) {
  sys::setsid();
  if (request.terminal) sys::ioctl(streams[0], TIOCSCTTY, nullptr);
  for (int i = 0; i < 3; ++i) sys::dup2(streams[i], i);
  for (int signal = 1; signal < 65; ++signal) sys::set_signal(signal, false);
  sys::block_signals(0);
  int why[2] = {become(request.user), 2};
  if (why[0] == 0) {
    const bool asked = *request.folder != 0;
    const long error = sys::chdir(asked ? request.folder : request.user.home);
    why[1] = 1;
    if (error < 0 && asked) why[0] = static_cast<int>(-error);
    if (error < 0 && !asked) sys::chdir("/");
  }
  if (why[0] == 0) execute(request, report);
  sys::write(report, why, sizeof why);
  sys::exit(126);
}

}  // namespace

Failure launch(const CommandRequest& request, Launched& launched) {
  int streams[3] = {-1, -1, -1};
  const Failure no_streams =
      request.terminal ? open_terminal(request.size, streams[0], launched) : open_pipes(streams, launched);
  if (no_streams.error != 0) return no_streams;
  if (request.terminal) streams[1] = streams[2] = streams[0];
  int report[2];
  if (const long error = sys::pipe2(report, O_CLOEXEC); error < 0) return {error, "pipe"};
  // The child's end comes as something to read.
  const u64 mask = u64{1} << (SIGCHLD - 1);
  sys::set_signal(SIGCHLD, false);
  sys::block_signals(mask);
  launched.signals =
      static_cast<int>(sys::call(SYS_signalfd4, -1, sys::address(&mask), 8, SFD_CLOEXEC | SFD_NONBLOCK));
  const long child = sys::fork();
  if (child < 0) return {child, "fork"};
  if (child == 0) become_command(request, streams, report[1]);
  launched.process = static_cast<int>(child);
  sys::close(report[1]);
  for (int i = 0; i < (request.terminal ? 1 : 3); ++i) sys::close(streams[i]);
  for (const int ours : {launched.in, launched.out, launched.err}) {
    if (ours >= 0) sys::set_nonblocking(ours);
  }
  int why[2] = {};  // error, and whether it was the directory's
  const bool failed = sys::read(report[0], why, sizeof why) == static_cast<long>(sizeof why);
  sys::close(report[0]);
  if (!failed) return {};
  const char* const program = request.words[0] != nullptr ? request.words[0] : request.user.shell;
  return {why[0], why[1] == 1 ? request.folder : why[1] == 2 ? request.user.name : program};
}

}  // namespace nacre::agent
