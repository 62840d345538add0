// `nacre start`, `stop`, `rm`, `ls`, `console`, `logs`: the lives of named machines.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "host/tsc_clock.hpp"
#include "life/folder.hpp"

namespace nacre::app {

class LifeCommands {
 public:
  explicit LifeCommands(CLI::App& app);
  [[nodiscard]] bool chosen() const;
  int run(const host::ClockPair& early);

 private:
  Result<int> dispatch(const host::ClockPair& early);
  Result<int> start(const host::ClockPair& early);
  Result<int> supervise(const life::Folder& folder, life::RunLock lock, host::UniqueFd ready,
                        const host::ClockPair& early);
  Result<int> stop();
  Result<int> remove();
  Result<int> list();
  Result<int> console();
  Result<int> logs();
  [[nodiscard]] Result<life::Folder> folder() const;

  CLI::App *start_, *stop_, *remove_, *list_, *console_, *logs_;
  std::string name_;
  bool attach_ = false, foreground_ = false, force_ = false, json_ = false, follow_ = false;
  double timeout_ = -1;
};

}  // namespace nacre::app
