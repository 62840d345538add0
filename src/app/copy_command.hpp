// `nacre cp`: files and directories into and out of a guest that runs, through its agent.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "agent/client.hpp"

namespace nacre::app {

class CopyCommand {
 public:
  explicit CopyCommand(CLI::App& app);
  [[nodiscard]] bool chosen() const { return command_->parsed(); }
  // The exit status.
  int run();

 private:
  Result<int> try_run();
  // Turns NAME:PATH into :PATH, and the name into the socket.
  Status take_name();

  CLI::App* command_;
  std::string socket_, user_;
  std::vector<std::string> paths_;
  double wait_ = 0;
};

}  // namespace nacre::app
