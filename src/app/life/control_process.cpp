#include "app/life/control_process.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "app/life/attachments.hpp"
#include "app/life/control_server.hpp"
#include "host/error.hpp"
#include "host/passed_files.hpp"
#include "host/tsc_clock.hpp"
#include "vsock/listener.hpp"

namespace nacre::app {
namespace {

u64 clock_now() {
  return host::ClockPair::read().monotonic_ns;
}

class ControlProcess {
 public:
  ControlProcess(host::UniqueFd listener, host::UniqueFd line, unsigned slots)
      : listener_(std::move(listener)),
        line_(std::move(line)),
        control_([this](const life::JsonObject& request, ControlServer::Caller caller) {
          return handle(request, std::move(caller));
        }),
        attachments_(
            slots,
            [this](const life::JsonObject& request, std::span<const host::UniqueFd> files) {
              return send(request.line(), files);
            },
            [this](u64 caller, const life::JsonObject& answer) { control_.answer(caller, answer); }) {}

  // Until the machine is gone.
  void run() {
    while (line_) {
      std::vector<pollfd> entries = {{line_.number(), POLLIN, 0}, {listener_.number(), POLLIN, 0}};
      control_.wait_for(entries);
      if (poll(entries.data(), entries.size(), wait_milliseconds()) < 0) continue;
      if (entries[0].revents != 0) read_line();
      control_.ready(std::span(entries).subspan(2));
      if (entries[1].revents != 0) accept_all();
      attachments_.tick(clock_now());
    }
    attachments_.life_ends();
  }

 private:
  [[nodiscard]] int wait_milliseconds() const {
    const u64 at = attachments_.next_time(), now = clock_now();
    if (at == ~u64{0}) return -1;
    return now >= at ? 0 : static_cast<int>(std::min<u64>((at - now) / 1'000'000 + 1, 1'000'000));
  }
  void accept_all() {
    for (;;) {
      host::UniqueFd connection(accept4(listener_.number(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!connection) return;
      control_.add(std::move(connection));
    }
  }
  void read_line() {
    char bytes[line::kMostBytes];
    const ssize_t got = recv(line_.number(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got <= 0) {
      line_ = host::UniqueFd();
    } else if (const auto event = life::JsonObject::parse({bytes, static_cast<usize>(got)})) {
      if (event->text("event") == "stat") return control_.answer(static_cast<u64>(event->number("id")), counts_answer(*event));
      attachments_.heard(*event);
    }
  }
  bool send(std::string_view text, std::span<const host::UniqueFd> files) {
    const std::span<const u8> bytes(reinterpret_cast<const u8*>(text.data()), text.size());
    return line_ && text.size() <= line::kMostBytes &&
           host::send_with_files(line_.number(), bytes, files, MSG_DONTWAIT) >= 0;
  }
  ControlServer::Answer handle(const life::JsonObject& request, ControlServer::Caller caller) {
    const std::string what = request.text("do");
    life::JsonObject answer;
    if (what == "attach")
      return attachments_.attach(request, std::move(caller.files), caller.id, clock_now());
    if (what == "detach") return attachments_.detach(request, caller.id, clock_now());
    if (what == "devices") return attachments_.list();
    if (what == "stat") {
      life::JsonObject question;
      question.set("do", "stat").set("id", static_cast<i64>(caller.id)).set("processor", request.number("processor"));
      if (send(question.line(), {})) return {};
      return answer.set("ok", false).set("error", "The machine does not run just now.");
    }
    if (what == "status") return answer.set("ok", true).set("state", "running");
    if (what == "power-button") {
      send({&line::kPressPowerButton, 1}, {});
      return answer.set("ok", true);
    }
    return answer.set("ok", false)
        .set("error", "There is no request \"" + what +
                          "\"; there are status, power-button, attach, detach, devices and stat.");
  }

  host::UniqueFd listener_, line_;
  ControlServer control_;
  Attachments attachments_;
};

// Only the listener and the line stay open, by these numbers.
constexpr int kListener = 3, kLine = 4;

void close_all_but(int listener, int line) {
  const int high_listener = fcntl(listener, F_DUPFD, 10), high_line = fcntl(line, F_DUPFD, 10);
  const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int standard = 0; standard < 3; ++standard) dup2(nowhere, standard);
  dup2(high_listener, kListener);
  dup2(high_line, kLine);
  syscall(SYS_close_range, kLine + 1, ~0U, 0);
}

[[noreturn]] void serve(int inherited_listener, int inherited_line, const std::string& path, dev_t device,
                        ino_t inode, unsigned slots) {
  // Signals to the machine's group (Ctrl-C) are the machine's, whose end is seen at the line.
  setpgid(0, 0);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  prctl(PR_SET_NAME, "nacre-control");
  close_all_but(inherited_listener, inherited_line);
  ControlProcess(host::UniqueFd(kListener), host::UniqueFd(kLine), slots).run();
  // Not another's who has put his own there in the meantime.
  struct stat found = {};
  if (lstat(path.c_str(), &found) == 0 && found.st_dev == device && found.st_ino == inode)
    unlink(path.c_str());
  _exit(0);
}

}  // namespace

Result<std::unique_ptr<Control>> Control::start(const std::string& path, unsigned slots) {
  auto listener = TRY(vsock::Listener::create(path, "--control"));
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    const int error = errno;
    unlink(path.c_str());
    return host::error_with_number(error, "Cannot make a pair of sockets");
  }
  host::UniqueFd ours(ends[0]);
  const host::UniqueFd theirs(ends[1]);
  const pid_t process = fork();
  if (process < 0) {
    const int error = errno;
    unlink(path.c_str());
    return host::error_with_number(error, "Cannot start a process");
  }
  if (process == 0)
    serve(listener.socket.number(), theirs.number(), path, listener.device, listener.inode, slots);
  return std::unique_ptr<Control>(new Control(std::move(ours), process));
}

Control::~Control() {
  line_ = host::UniqueFd();
  while (waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace nacre::app
