// `nacre stat`: what the processors of a machine that runs have counted: exits by kind, blocks made, TLB misses.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "life/json.hpp"

namespace nacre::app {

class StatCommand {
 public:
  explicit StatCommand(CLI::App& app);
  [[nodiscard]] bool chosen() const { return stat_->parsed(); }
  int run();

 private:
  Status show() const;
  [[nodiscard]] Result<life::JsonObject> ask_for(i64 processor) const;

  CLI::App* stat_;
  std::string name_, socket_;
  bool json_ = false;
};

// A table: a column for each processor's "NAME\tVALUE\n…", a row for each name that one of them has counted.
std::string table_of(const std::vector<std::string>& counts);

}  // namespace nacre::app
