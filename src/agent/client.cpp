#include "agent/client.hpp"

#include <poll.h>
#include <signal.h>
#include <time.h>

#include <cerrno>
#include <cstring>

#include "host/error.hpp"
#include "vsock/listener.hpp"

extern "C" {
extern const std::byte nacre_guest_agent_image[];
extern const std::byte nacre_guest_agent_image_end[];
}

namespace nacre::agent {
namespace {

i64 now_ms() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

bool readable(int file, i64 until) {
  for (;;) {
    const i64 left = until - now_ms();
    pollfd entry = {file, POLLIN, 0};
    const int found = poll(&entry, 1, left > 0 ? static_cast<int>(left) : 0);
    if (found >= 0 || errno != EINTR) return found == 1;
  }
}

enum class Dialled : u8 { Reached, Refused, Silent };

// "CONNECT port", "OK port": docs/virtio.md.
Dialled dial(int socket, i64 until) {
  const std::string line = "CONNECT " + std::to_string(kPort) + "\n";
  if (write(socket, line.data(), line.size()) != static_cast<ssize_t>(line.size())) return Dialled::Refused;
  std::string answer;
  for (char byte = 0; byte != '\n'; answer += byte) {
    if (!readable(socket, until)) return Dialled::Silent;
    const ssize_t got = read(socket, &byte, 1);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got != 1 || answer.size() > 32) return Dialled::Refused;
  }
  return answer.starts_with("OK ") ? Dialled::Reached : Dialled::Refused;
}

Error no_agent(const std::string& who, Dialled last) {
  if (last == Dialled::Silent) {
    return Error("The ")
        .append(who.c_str())
        .append(" does not answer: it is still starting (wait longer with --wait 60), or has no driver for virtio sockets.");
  }
  return Error("There is no nacre-agent in the ")
      .append(who.c_str())
      .append(", or it is not running yet (wait for it with --wait 60).");
}

std::string reason(u32 error) {
  return strerror(static_cast<int>(error & 0xfff));
}

void add(std::string& to, const std::string& text) {
  to.append(text.c_str(), text.size() + 1);
}

}  // namespace

const char* const kUnit =
    "[Unit]\n"
    "Description=Nacre's agent: commands and files for the host\n"
    "DefaultDependencies=no\n"
    "After=local-fs.target systemd-udevd.service\n"
    "Conflicts=shutdown.target\n"
    "Before=shutdown.target\n"
    "[Service]\n"
    "ExecStartPre=-/sbin/modprobe vmw_vsock_virtio_transport\n"
    "ExecStart=/usr/local/sbin/nacre-agent\n"
    "Restart=always\n"
    "RestartSec=1\n"
    "KillMode=process\n"
    "TasksMax=infinity\n"
    "[Install]\n"
    "WantedBy=multi-user.target\n";

std::span<const std::byte> agent_image() {
  return {nacre_guest_agent_image, nacre_guest_agent_image_end};
}

std::string printable(const char* text) {
  std::string result;
  for (; *text != 0 && result.size() < 200; ++text) {
    const u8 byte = static_cast<u8>(*text);
    result += byte < 32 || byte >= 127 ? '?' : *text;
  }
  return result;
}

Result<Client> Client::connect(const std::string& path, int wait_ms, const std::string& who) {
  const i64 until = now_ms() + wait_ms;
  for (;;) {
    const i64 patience = now_ms() + kPatience;
    auto socket = vsock::connect_to(path);
    Dialled dialled = Dialled::Refused;
    if (socket) {
      dialled = dial(socket.value().number(), patience < until || wait_ms == 0 ? patience : until);
      if (dialled == Dialled::Reached) return greet(socket.take());
    }
    if (now_ms() >= until) {
      if (!socket) return socket.error();
      return no_agent(who.empty() ? "guest at " + path : who, dialled);
    }
    const timespec pause = {0, 20'000'000};
    nanosleep(&pause, nullptr);
  }
}

Result<Client> Client::greet(host::UniqueFd socket) {
  signal(SIGPIPE, SIG_IGN);
  Client client(std::move(socket));
  if (!client.wire_->send_value(Frame::Hello, kVersion) || !client.wire_->receive(kPatience) ||
      client.wire_->type() != Frame::Welcome) {
    return Error{"What listens at port 620 of the guest is not a nacre-agent."};
  }
  const u32 version = Payload(*client.wire_).value<u32>();
  if (version != kVersion) {
    return Error("The guest's nacre-agent speaks version ")
        .append_number(version)
        .append(" of the protocol, this nacre version ")
        .append_number(kVersion)
        .append(": install this nacre's agent in the guest.");
  }
  return client;
}

// What the guest has said instead of what was awaited.
Error Client::failure(const char* what) {
  if (wire_->type() != Frame::Failed) return Error("The guest's agent broke off ").append(what).append(".");
  Payload payload(*wire_);
  const u32 error = payload.value<u32>();
  const std::string about = printable(payload.text());
  return Error("The guest says of ")
      .append(about.c_str())
      .append(": ")
      .append(reason(error).c_str())
      .append(".");
}

Status Client::expect_done() {
  if (wire_->receive(kPatience) && wire_->type() == Frame::Done) return {};
  return failure("without an answer");
}

Status Client::ping() {
  wire_->send(Frame::Ping);
  return expect_done();
}

Result<void, Client::NotStarted> Client::exec(const ExecOptions& options) {
  ExecRequest request;
  request.flags = options.terminal ? ExecFlag::terminal : 0;
  request.size = options.size;
  request.words = static_cast<u32>(options.words.size());
  request.variables = static_cast<u32>(options.environment.size());
  std::string texts;
  add(texts, options.user);
  add(texts, options.folder);
  for (const std::string& word : options.words) add(texts, word);
  for (const std::string& variable : options.environment) add(texts, variable);
  if (sizeof request + texts.size() > kMostPayload)
    return NotStarted{Error{"The command and its environment are longer than 128 KiB."}};
  wire_->send_value(Frame::Exec, request, {texts.data(), texts.size()});
  // A command may have to be read from a slow disk first.
  if (wire_->receive(6 * kPatience) && wire_->type() == Frame::Started) return {};
  NotStarted result{failure("before the command ran")};
  if (wire_->type() == Frame::Failed && !options.words.empty()) {
    Payload payload(*wire_);
    const u32 error = payload.value<u32>();
    if (options.words.front() == payload.text()) result.code = error == ENOENT ? 127 : 126;
  }
  return result;
}

bool Client::ask_copy(Frame type, const std::string& path, bool into_directory, const std::string& user) {
  const u32 flags = into_directory ? CopyFlag::into_directory : 0;
  std::string texts;
  add(texts, user);
  add(texts, path);
  return wire_->send_value(type, flags, {texts.data(), texts.size()});
}

Result<CopyReport> Client::report(const char* what) {
  if (wire_->type() != Frame::Done) return failure(what);
  Payload payload(*wire_);
  CopyReport report;
  report.problems = payload.value<u32>();
  const u32 error = payload.value<u32>();
  if (report.problems != 0) report.first = printable(payload.text()) + ": " + reason(error);
  return report;
}

Result<CopyReport> Client::put(const std::string& from, const std::string& to, bool into_directory,
                               const std::string& user) {
  constexpr const char* kWhat = "in the middle of a copy";
  ask_copy(Frame::Put, to, into_directory, user);
  if (!wire_->receive(kPatience) || wire_->type() != Frame::Started) return failure(kWhat);
  auto sender = std::make_unique<TreeSender>(*wire_);
  const int error = sender->send(from.c_str());
  if (error == EINVAL)
    return Error("Only files and directories with a name are copied, not ").append(from.c_str()).append(".");
  if (error > 0) return host::error_with_number(error, "Cannot read", from.c_str());
  // Whoever gave up in the middle may have said why.
  static_cast<void>(wire_->receive());
  return report(kWhat);
}

Result<CopyReport> Client::get(const std::string& from, const std::string& to, bool into_directory,
                               const std::string& user) {
  constexpr const char* kWhat = "in the middle of a copy";
  auto receiver = std::make_unique<TreeReceiver>();
  if (const int error = receiver->place(to.c_str(), into_directory); error != 0)
    return host::error_with_number(error, "Cannot copy to", to.c_str());
  ask_copy(Frame::Get, from, false, user);
  while (wire_->receive()) {
    if (receiver->complete() || wire_->type() == Frame::Failed) break;
    if (!receiver->take(wire_->type(), wire_->payload(), wire_->bytes())) return failure(kWhat);
  }
  if (!receiver->complete() || wire_->type() != Frame::Done) return failure(kWhat);
  const Problems& problems = receiver->problems();
  CopyReport report;
  report.problems = problems.count;
  if (problems.count != 0)
    report.first = printable(problems.first_name) + ": " + reason(problems.first_error);
  return report;
}

}  // namespace nacre::agent
