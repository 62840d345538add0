// `nacre disk`: makes, describes, checks, copies and enlarges disk images.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "storage/tools.hpp"

namespace nacre::app {

class DiskCommand {
 public:
  explicit DiskCommand(CLI::App& app);
  [[nodiscard]] bool chosen() const { return command_->parsed(); }
  // The exit status.
  int run();

 private:
  void add_create(CLI::App& disk);
  void add_geometry(CLI::App& command);
  Status set_geometry(storage::CreateRequest& request) const;

  Result<int> create();
  Result<int> info();
  Result<int> check();
  Result<int> convert();
  Result<int> resize();

  CLI::App* command_;
  CLI::App *create_, *info_, *check_, *convert_, *resize_;
  std::string file_, target_, size_, format_, target_format_ = "qcow2", backing_, backing_format_, snapshot_;
  std::string cluster_size_ = "64K", repair_;
  unsigned compat_ = 3, refcount_bits_ = 16;
  bool lazy_refcounts_ = false, json_ = false;
};

}  // namespace nacre::app
