// `nacre exec`: a command in a guest that runs, through its agent.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace nacre::app {

class ExecCommand {
 public:
  explicit ExecCommand(CLI::App& app);
  [[nodiscard]] bool chosen() const { return command_->parsed(); }
  // The exit status.
  int run();

 private:
  Result<int> try_run();

  CLI::App* command_;
  std::string name_, socket_, user_, folder_;
  std::vector<std::string> words_, environment_;
  bool no_input_ = false, terminal_ = false, no_terminal_ = false;
  double wait_ = -1;  // seconds; less than 0: not told
};

}  // namespace nacre::app
