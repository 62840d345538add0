// The options that every command which starts a machine has, and what they become.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "engine/factory.hpp"
#include "host/tsc_clock.hpp"
#include "vm/vm.hpp"

namespace nacre::app {

struct MachineOptions {
  std::string memory = "512M";
  std::string engine = "auto";
  CLI::Option* engine_option = nullptr;  // whether it was given
  std::string cpu = "host";
  unsigned processors = 1;
  std::string direct = "auto";
  std::string log;
  std::string log_file;
  bool rng = true;
  bool balloon = true;
  double timeout = 0;  // seconds; 0: none
  bool verbose = false;

  void add_to(CLI::App& command);
  // Says on stderr, when verbose, which engine was chosen and why.
  Result<vm::Config> config(const host::ClockPair& early) const;
};

// The engine a name means; "auto" is the choice for this machine.
Result<engine::Choice> engine_named(const std::string& name);

// "nacre: <sentence>" on stderr.
void complain(const char* sentence);
inline void complain(const Error& error) {
  complain(error.message());
}

}  // namespace nacre::app
