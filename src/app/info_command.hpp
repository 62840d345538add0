// `nacre info`: what Nacre would use here and why.
#pragma once

#include <CLI/CLI.hpp>

#include "host/tsc_clock.hpp"

namespace nacre::app {

class InfoCommand {
 public:
  explicit InfoCommand(CLI::App& app);
  [[nodiscard]] bool chosen() const { return command_->parsed(); }
  int run(const host::ClockPair& early);

 private:
  CLI::App* command_;
};

}  // namespace nacre::app
