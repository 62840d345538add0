// The process in which a named machine's guest runs: a child of the supervisor's, one for each time the guest
// starts, confined like any other (docs/threat-model.md). What it may reach is the serial port's socket and
// the line to the supervisor.
#pragma once

#include "app/machine_options.hpp"
#include "life/config.hpp"
#include "life/folder.hpp"

namespace nacre::app {

// Messages on the line, one a packet. To the machine: a command's character, or a JSON object, perhaps with files:
//   {"do":"attach","id":N,"disk":PATH,…}     {"do":"attach","id":N,"net":TEXT}
//   {"do":"detach","slot":N,"surprise":BOOL}
// From it: "started", then "ended REASON MESSAGE"; nothing more comes of a machine that died otherwise. In between, of
// its slots (vm/slots.hpp):
//   {"event":"coming","id":N,"slot":N}       {"event":"plugged"|"in-use"|"gone"|"refused","slot":N,"why":TEXT}
namespace line {
inline constexpr char kPressPowerButton = 'p', kStop = 'q';
inline constexpr const char kStarted[] = "started", kEnded[] = "ended ";
inline constexpr const char kPowerOff[] = "power-off", kReset[] = "reset", kPanic[] = "panic",
                            kTripleFault[] = "triple-fault", kStopped[] = "stopped", kFailed[] = "failed";
inline constexpr usize kMostBytes = 8192;
}  // namespace line

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
