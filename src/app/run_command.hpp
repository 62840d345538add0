// `nacre run`: the user's door: a shell, or one command, in a small Linux guest.
#pragma once

#include <string>
#include <vector>

#include "app/guest_assets.hpp"
#include "app/machine_options.hpp"

namespace nacre::app {

class RunCommand {
 public:
  explicit RunCommand(CLI::App& app);
  [[nodiscard]] bool chosen() const { return command_->parsed(); }
  // The exit status.
  int run(const host::ClockPair& early);

 private:
  [[nodiscard]] Result<std::string> kernel_path() const;
  Status load(vm::Vm& vm, const vm::Config& config);
  Result<int> try_run(const host::ClockPair& early);
  Result<int> run_shell(vm::Vm& vm, const class SignalEvents& signals);
  Result<int> run_words(vm::Vm& vm, const class SignalEvents& signals);
  [[nodiscard]] Result<GuestContent> content() const;
  [[nodiscard]] std::string command_line() const;

  CLI::App* command_;
  MachineOptions machine_;
  std::string kernel_, append_;
  std::vector<std::string> added_, networks_, shares_, words_;
  bool no_input_ = false;
};

}  // namespace nacre::app
