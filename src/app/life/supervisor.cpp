#include "app/life/supervisor.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "app/life/machine_line.hpp"
#include "host/error.hpp"
#include "host/passed_files.hpp"

namespace nacre::app {
namespace {

using life::Why;

constexpr int kWatched[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT};
// A guest that falls over at once is not started again as fast as the host can.
constexpr u64 kShortLifeNs = 2'000'000'000;
// A guest that is still booting does not hear its power button; one that shuts down already does not mind.
constexpr u64 kPressAgainNs = 3'000'000'000;

u64 clock_now() {
  return host::ClockPair::read().monotonic_ns;
}

std::string death_of(int status) {
  if (WIFSIGNALED(status)) {
    return "Nacre's process was ended by signal " + std::to_string(WTERMSIG(status)) + " (" +
           strsignal(WTERMSIG(status)) + ").";
  }
  return "Nacre's process ended with status " + std::to_string(WEXITSTATUS(status)) +
         "; nacre.log may say more.";
}

}  // namespace

Supervisor::Supervisor(const life::Folder& folder, const life::MachineConfig& config, life::RunLock lock,
                       host::UniqueFd ready, const host::ClockPair& early)
    : folder_(folder),
      config_(config),
      lock_(std::move(lock)),
      ready_(std::move(ready)),
      early_(early),
      control_([this](const life::JsonObject& request, ControlServer::Caller caller) {
        return handle(request, std::move(caller));
      }),
      attachments_(
          config.slots,
          [this](const life::JsonObject& request, std::span<const host::UniqueFd> files) {
            return send_to_machine(request, files);
          },
          [this](u64 caller, const life::JsonObject& answer) { control_.answer(caller, answer); }) {}

Status Supervisor::run() {
  Status opened = open();
  if (opened) opened = start_machine();
  if (!opened) {
    tell_ready(opened.error().message());
    return opened;
  }
  for (;;) {
    serve_until_gone();
    if (!machine_ended()) break;
    if (clock_now() - began_ns_ < kShortLifeNs) {
      const timespec pause = {1, 0};
      nanosleep(&pause, nullptr);
    }
    ++record_.boots;
    Status saved = life::save(folder_, record_);
    if (saved) saved = start_machine();
    if (saved) continue;
    record_.why = Why::Failed;
    record_.message = saved.error().message();
    break;
  }
  const bool began = started_;
  finish();
  if (!began) return Error(record_.message.c_str());
  return {};
}

Status Supervisor::open() {
  prepare_signals();
  control_listener_ = TRY(life::listen_at(folder_, "control.sock"));
  console_listener_ = TRY(life::listen_at(folder_, "console.sock"));
  hub_.emplace(TRY(ConsoleHub::create(folder_)));
  record_.runs = true;
  record_.process = getpid();
  record_.since = ::time(nullptr);
  record_.boots = 1;
  return life::save(folder_, record_);
}

void Supervisor::prepare_signals() {
  signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  for (const int one : kWatched) sigaddset(&set, one);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_ = host::UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

Status Supervisor::start_machine() {
  int console[2], line[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, console) != 0 ||
      socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, line) != 0)
    return host::errno_error("Cannot make a socket");
  console_ = host::UniqueFd(console[0]);
  line_ = host::UniqueFd(line[0]);
  const host::UniqueFd other_console(console[1]), other_line(line[1]);
  last_message_.clear();
  gone_ = false;
  began_ns_ = clock_now();
  hub_->forget_input();
  machine_ = fork();
  if (machine_ < 0) return host::errno_error("Cannot make a process");
  if (machine_ == 0) become_machine(other_console.number(), other_line.number());
  attachments_.machine_begins();
  return {};
}

// All but what it needs is closed: a connection that the machine holds too would stay open after we closed
// it.
void Supervisor::become_machine(int console, int line) {
  std::vector<int> kept = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, console, line, lock_->descriptor()};
  std::sort(kept.begin(), kept.end());
  for (usize i = 0; i < kept.size(); ++i) {
    const unsigned first = static_cast<unsigned>(kept[i]) + 1;
    const unsigned last = i + 1 < kept.size() ? static_cast<unsigned>(kept[i + 1]) - 1 : ~0U;
    if (first <= last) close_range(first, last, 0);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  run_machine({folder_, config_, early_, console, line});
}

int Supervisor::wait_milliseconds() const {
  u64 at = attachments_.next_time();
  if (kill_at_ns_ != 0) at = std::min({at, kill_at_ns_, press_at_ns_});
  if (at == ~u64{0}) return -1;
  const u64 now = clock_now();
  return now >= at ? 0 : static_cast<int>(std::min<u64>((at - now) / 1'000'000 + 1, 1'000'000));
}

void Supervisor::serve_until_gone() {
  while (!gone_) {
    const bool types = !hub_->input().empty();
    std::vector<pollfd> entries = {
        {signals_.number(), POLLIN, 0},
        {control_listener_.number(), POLLIN, 0},
        {console_listener_.number(), POLLIN, 0},
        {line_.number(), POLLIN, 0},
        {console_.number(), static_cast<short>(types ? POLLIN | POLLOUT : POLLIN), 0}};
    const usize controls = entries.size();
    control_.wait_for(entries);
    const usize consoles = entries.size();
    hub_->wait_for(entries);
    if (poll(entries.data(), entries.size(), wait_milliseconds()) < 0 && errno != EINTR) return;
    const std::span all(entries);
    if (line_.number() >= 0 && entries[3].revents != 0) read_line();
    if (console_.number() >= 0 && (entries[4].revents & (POLLIN | POLLHUP | POLLERR)) != 0) read_console();
    if (console_.number() >= 0 && (entries[4].revents & POLLOUT) != 0) write_console();
    control_.ready(all.subspan(controls, consoles - controls));
    hub_->ready(all.subspan(consoles));
    if (entries[1].revents != 0) accept_all(control_listener_, false);
    if (entries[2].revents != 0) accept_all(console_listener_, true);
    if (entries[0].revents != 0) handle_signals();
    go_on_stopping();
    attachments_.tick(clock_now());
  }
  // What the machine had written before it ended.
  while (console_.number() >= 0) read_console();
  while (line_.number() >= 0) read_line();
}

void Supervisor::accept_all(const host::UniqueFd& listener, bool is_console) {
  for (;;) {
    host::UniqueFd connection(accept4(listener.number(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!connection) return;
    if (is_console) {
      hub_->add(std::move(connection));
    } else {
      control_.add(std::move(connection));
    }
  }
}

void Supervisor::read_console() {
  u8 bytes[16 * kKiB];
  const ssize_t got = recv(console_.number(), bytes, sizeof bytes, MSG_DONTWAIT);
  if (got > 0) hub_->output({bytes, static_cast<usize>(got)});
  if (got == 0 || (got < 0 && errno != EINTR && (errno != EAGAIN || gone_))) console_ = host::UniqueFd();
}

void Supervisor::write_console() {
  const auto input = hub_->input();
  const ssize_t sent = send(console_.number(), input.data(), input.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent > 0) hub_->input_taken(static_cast<usize>(sent));
}

void Supervisor::read_line() {
  char bytes[line::kMostBytes];
  const ssize_t got = recv(line_.number(), bytes, sizeof bytes, MSG_DONTWAIT);
  if (got < 0 && (errno == EINTR || (errno == EAGAIN && !gone_))) return;
  if (got <= 0) {
    line_ = host::UniqueFd();
    return;
  }
  const std::string message(bytes, static_cast<usize>(got));
  if (message == line::kStarted) {
    started_ = true;
    tell_ready("ok");
  } else if (message.starts_with(line::kEnded)) {
    last_message_ = message.substr(std::strlen(line::kEnded));
  } else if (const auto event = life::JsonObject::parse(message)) {
    if (event->text("event") == "stat") return control_.answer(static_cast<u64>(event->number("id")), counts_answer(*event));
    attachments_.heard(*event);
  }
}

void Supervisor::handle_signals() {
  signalfd_siginfo info = {};
  while (read(signals_.number(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    if (info.ssi_signo == SIGCHLD) {
      reap();
    } else {
      begin_stop(stopping_ ? 0 : config_.stop_timeout);  // twice: now
    }
  }
}

void Supervisor::reap() {
  if (machine_ != 0 && waitpid(machine_, &machine_status_, WNOHANG) == machine_) {
    machine_ = 0;
    gone_ = true;
  }
}

void Supervisor::command(char letter) {
  if (line_) static_cast<void>(send(line_.number(), &letter, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
}

// Not waited for: a machine that does not read its line does nothing else either.
bool Supervisor::send_to_machine(const life::JsonObject& request, std::span<const host::UniqueFd> files) {
  const std::string text = request.line();
  return line_ && text.size() <= line::kMostBytes &&
         host::send_with_files(line_.number(), {reinterpret_cast<const u8*>(text.data()), text.size()}, files,
                               MSG_DONTWAIT) >= 0;
}

void Supervisor::begin_stop(i64 seconds) {
  stopping_ = true;
  press_at_ns_ = clock_now();
  const u64 at = press_at_ns_ + static_cast<u64>(seconds) * 1'000'000'000;
  kill_at_ns_ = kill_at_ns_ == 0 ? at : std::min(kill_at_ns_, at);
}

void Supervisor::go_on_stopping() {
  const u64 now = clock_now();
  if (kill_at_ns_ == 0) return;
  if (now >= kill_at_ns_) {
    killed_ = true;
    kill_at_ns_ = 0;
    if (machine_ != 0) kill(machine_, SIGKILL);
  } else if (now >= press_at_ns_) {
    press_at_ns_ = now + kPressAgainNs;
    command(line::kPressPowerButton);
  }
}

bool Supervisor::machine_ended() {
  const usize space = last_message_.find(' ');
  const std::string reason = last_message_.substr(0, space);
  record_.message = space == std::string::npos ? "" : last_message_.substr(space + 1);
  if (reason == line::kPowerOff || reason == line::kReset) {
    if (reason == line::kReset && !stopping_ && config_.on_reboot == life::Then::Restart) return true;
    record_.why = stopping_ ? Why::Stopped : reason == line::kReset ? Why::Reset : Why::PoweredOff;
  } else if (reason == line::kPanic) {
    if (!stopping_ && config_.on_panic == life::Then::Restart) return true;
    record_.why = Why::Panicked;
  } else if (reason == line::kTripleFault) {
    record_.why = Why::Shutdown;
  } else if (killed_) {
    record_.why = Why::Killed;
  } else {
    record_.why = Why::Failed;
    if (record_.message.empty()) record_.message = death_of(machine_status_);
  }
  return false;
}

void Supervisor::finish() {
  record_.runs = false;
  record_.since = ::time(nullptr);
  const Status saved = life::save(folder_, record_);
  if (!saved) complain(saved.error());
  tell_ready(record_.message.empty()
                 ? std::string("The machine has ended: ") + life::name_of(record_.why) + "."
                 : record_.message);
  // First free, then told: who waits may start or remove it at once.
  lock_.reset();
  attachments_.life_ends();
  control_.answer_waiting(life::JsonObject()
                              .set("ok", true)
                              .set("why", life::name_of(record_.why))
                              .set("message", record_.message));
}

void Supervisor::tell_ready(const std::string& text) {
  if (ready_) host::write_all(ready_.number(), {reinterpret_cast<const u8*>(text.data()), text.size()});
  ready_ = host::UniqueFd();
}

ControlServer::Answer Supervisor::handle(const life::JsonObject& request, ControlServer::Caller caller) {
  life::JsonObject answer;
  const std::string what = request.text("do");
  if (what == "status") {
    answer.set("ok", true).set("state", stopping_ ? "stopping" : started_ ? "running" : "starting");
    return answer.set("process", i64{getpid()}).set("since", record_.since).set("boots", record_.boots);
  }
  if (what == "power-button") {
    command(line::kPressPowerButton);
    return answer.set("ok", true);
  }
  if (what == "stop") {
    begin_stop(std::clamp<i64>(request.number("timeout", config_.stop_timeout), 0, 86400));
    return {};
  }
  if (what == "attach") return attachments_.attach(request, std::move(caller.files), caller.id, clock_now());
  if (what == "detach") return attachments_.detach(request, caller.id, clock_now());
  if (what == "devices") return attachments_.list();
  if (what == "stat") {
    life::JsonObject question;
    question.set("do", "stat").set("id", static_cast<i64>(caller.id)).set("processor", request.number("processor"));
    if (send_to_machine(question, {})) return {};
    return answer.set("ok", false).set("error", "The machine does not run just now.");
  }
  return answer.set("ok", false)
      .set("error", "There is no request \"" + what +
                        "\"; there are status, power-button, stop, attach, detach, devices and stat.");
}

}  // namespace nacre::app
