// `nacre verify`: boots kernels under one engine with another following in lock step. docs/lock-step.md.
#pragma once

#include "app/boot_command.hpp"

namespace nacre::app {

class VerifyCommand : public BootCommand {
 public:
  explicit VerifyCommand(CLI::App& app);
  // The exit status.
  int run(const host::ClockPair& early);

 private:
  int verify(const host::ClockPair& early, const std::string& kernel);

  std::vector<std::string> kernels_;
  std::string engines_ = "soft,interp";
  lockstep::Options options_;
};

}  // namespace nacre::app
