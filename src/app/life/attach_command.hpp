// `nacre attach` and `nacre detach`: devices of a machine that come and go while it runs.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "base/result.hpp"
#include "life/folder.hpp"
#include "life/json.hpp"

namespace nacre::app {

class AttachCommand {
 public:
  explicit AttachCommand(CLI::App& app);
  [[nodiscard]] bool chosen() const { return attach_->parsed() || detach_->parsed(); }
  int run();

 private:
  Status attach() const;
  Result<life::JsonObject> attach_disk() const;
  Result<life::JsonObject> attach_network() const;
  Status detach();
  Status list() const;
  // The machine with a name, or the one at a socket.
  [[nodiscard]] Result<life::JsonObject> ask_machine(const life::JsonObject& request,
                                                     std::span<const host::UniqueFd> files = {}) const;
  [[nodiscard]] Result<life::Folder> folder() const;

  CLI::App *attach_, *detach_;
  std::string name_, socket_, disk_, network_, device_;
  bool force_ = false;
  double timeout_ = 30;
};

}  // namespace nacre::app
