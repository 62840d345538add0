// Client: the host's end of a conversation with the agent in a guest (docs/agent.md), over the Unix socket
// that `nacre boot --vsock` makes. One connection, one request.
//
//   auto client = TRY(agent::Client::connect("vm.sock"));
//   TRY(client.put("file", "/tmp", true, ""));
//
// Whatever the guest answers is bounded and shown only with its control characters taken out. Any one thread.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "agent/tree.hpp"
#include "agent/wire.hpp"
#include "base/result.hpp"
#include "host/fd.hpp"

namespace nacre::agent {

inline constexpr int kPatience = 10'000;  // ms, for what takes no time in a guest that runs

// The program for guests; to be installed as an executable and started by root.
std::span<const std::byte> agent_image();
inline constexpr const char* kAgentPath = "/usr/local/sbin/nacre-agent";
inline constexpr const char* kUnitPath = "/etc/systemd/system/nacre-agent.service";
extern const char* const kUnit;  // the text of a systemd unit for it

// A text from the guest as one may show it on a terminal.
std::string printable(const char* text);

struct ExecOptions {
  std::vector<std::string> words;        // none: the user's login shell
  std::vector<std::string> environment;  // NAME=VALUE, beside PATH, HOME, USER, LOGNAME, SHELL
  std::string user, folder;              // empty: root, the user's home
  bool terminal = false;
  WindowSize size;
};

struct CopyReport {
  u32 problems = 0;
  std::string first;  // a sentence about the first of them
};

class Client {
 public:
  // Waits up to `wait_ms` for the machine, its driver and the agent; 0: they must be there. `who` is what errors call it,
  // if not "guest at PATH".
  static Result<Client> connect(const std::string& path, int wait_ms = 0, const std::string& who = {});
  // The same over a socket that is connected to the agent itself.
  static Result<Client> greet(host::UniqueFd socket);

  Status ping();
  // The command runs; from now on the frames are the caller's. An Error with its `code` for exit statuses:
  // 126, 127, or 255 when it is not about the command.
  struct NotStarted {
    Error error;
    int code = 255;
  };
  Result<void, NotStarted> exec(const ExecOptions& options);
  // A file or directory. `to` is a directory into which it goes, or the name it gets.
  Result<CopyReport> put(const std::string& from, const std::string& to, bool into_directory,
                         const std::string& user);
  Result<CopyReport> get(const std::string& from, const std::string& to, bool into_directory,
                         const std::string& user);

  [[nodiscard]] Wire& wire() { return *wire_; }
  [[nodiscard]] int descriptor() const { return socket_.number(); }

 private:
  explicit Client(host::UniqueFd socket)
      : socket_(std::move(socket)), wire_(std::make_unique<Wire>(socket_.number())) {}
  Status expect_done();
  Error failure(const char* what);
  Result<CopyReport> report(const char* what);
  bool ask_copy(Frame type, const std::string& path, bool into_directory, const std::string& user);

  host::UniqueFd socket_;
  std::unique_ptr<Wire> wire_;
};

}  // namespace nacre::agent
