// `nacre boot`: the low-level door: a kernel, its options, one serial port.
#pragma once

#include <string>
#include <vector>

#include "app/machine_options.hpp"

namespace nacre::app {

class BootCommand {
 public:
  explicit BootCommand(CLI::App& app);
  [[nodiscard]] bool chosen() const { return command_->parsed(); }
  // The exit status.
  int run(const host::ClockPair& early);

 protected:
  // For `nacre verify`, which boots too: the options but for the kernel's.
  explicit BootCommand(CLI::App* command);
  Result<int> try_run(const host::ClockPair& early, const std::string& kernel, const lockstep::Options* lock_step,
                      lockstep::Outcome* outcome);

  CLI::App* command_;

 private:
  [[nodiscard]] Status check_start(const std::string& kernel) const;
  Status load(vm::Vm& vm, const vm::Config& config, const std::string& kernel);

  MachineOptions machine_;
  std::vector<std::string> disks_;
  std::string vsock_;
  std::vector<std::string> networks_;
  std::vector<std::string> shares_;
  std::string kernel_, firmware_, post_port_;
  std::vector<std::string> debug_ports_;
  std::string initrd_, append_, serial_ = "stdio", console_;
  std::vector<std::string> modules_;
  std::string control_;
  unsigned slots_ = 0;
  bool debug_exit_ = false;
  bool test_device_ = false;
};

}  // namespace nacre::app
