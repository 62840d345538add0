// ConsoleHub: a machine's serial port, seen by everybody who looks: the log, and any number of connections to
// console.sock. Nobody holds up the guest: a connection that does not read for too long is closed.
// Owned by the supervisor's thread.
#pragma once

#include <poll.h>

#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/types.hpp"
#include "host/fd.hpp"
#include "life/folder.hpp"

namespace nacre::app {

class ConsoleHub {
 public:
  static Result<ConsoleHub> create(const life::Folder& folder);

  // A connection gets first what the guest said last, so that the prompt is there.
  void add(host::UniqueFd connection);
  // From the guest.
  void output(std::span<const u8> bytes);
  // For the guest, and how much of it has gone.
  [[nodiscard]] std::span<const u8> input() const { return input_; }
  void input_taken(usize count) { input_.erase(input_.begin(), input_.begin() + static_cast<long>(count)); }
  // What was typed for a machine that is gone.
  void forget_input() { input_.clear(); }

  void wait_for(std::vector<pollfd>& entries) const;
  void ready(std::span<const pollfd> entries);

 private:
  struct Connection {
    host::UniqueFd socket;
    std::string waiting;  // output that it has not taken yet
    bool over = false;
    void send();
  };
  ConsoleHub(host::UniqueFd log, std::string path) : log_(std::move(log)), path_(std::move(path)) {}
  void write_log(std::span<const u8> bytes);
  void read_from(Connection& connection);

  host::UniqueFd log_;
  std::string path_;
  u64 log_bytes_ = 0;
  std::string last_;  // the newest output
  std::vector<u8> input_;
  std::vector<Connection> connections_;
};

}  // namespace nacre::app
