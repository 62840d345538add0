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
  // Turns NAME:PATH into :PATH.
  Status take_name();

  CLI::App* command_;
  std::string name_, socket_, user_;
  std::vector<std::string> paths_;
  double wait_ = -1;  // seconds; less than 0: not told
};

}  // namespace nacre::app
