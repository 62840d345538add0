// `nacre create`: a named machine from an image.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "app/life/image_store.hpp"
#include "life/folder.hpp"

namespace nacre::app {

class CreateCommand {
 public:
  explicit CreateCommand(CLI::App& app);
  [[nodiscard]] bool chosen() const { return command_->parsed(); }
  int run();

 private:
  Status create();
  Status fill(const std::string& folder, const Image& image) const;
  Status make_disk(const std::string& path, const Image& image) const;

  CLI::App* command_;
  std::vector<std::string> networks_ = {"user"};
  std::vector<std::string> shares_;
  std::string name_, from_ = "debian:12", disk_, memory_ = "1G";
  unsigned cpus_ = 1, slots_ = 0;
};

}  // namespace nacre::app
