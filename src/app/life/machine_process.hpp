// The process in which a named machine's guest runs: a child of the supervisor's, one for each time the guest
// starts, confined like any other (docs/threat-model.md). What it may reach is the serial port's socket and
// the line to the supervisor.
#pragma once

#include "app/machine_options.hpp"
#include "life/config.hpp"
#include "life/folder.hpp"

namespace nacre::app {

struct MachineJob {
  const life::Folder& folder;
  const life::MachineConfig& config;
  host::ClockPair early;
  int console = -1;  // a stream: the serial port
  int line = -1;     // packets
};

// In the child. Never returns.
[[noreturn]] void run_machine(const MachineJob& job);

// Whether the machine's options are possible ones, before anything is started.
Result<vm::Config> machine_config(const life::Folder& folder, const life::MachineConfig& config,
                                  const host::ClockPair& early);

}  // namespace nacre::app
