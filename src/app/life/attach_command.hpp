// `nacre attach` and `nacre detach`: devices of a named machine that come and go while it runs.
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
  Result<life::JsonObject> attach_disk(const life::Folder& folder) const;
  Result<life::JsonObject> attach_network(const life::Folder& folder) const;
  Status detach() const;
  Status list(const life::Folder& folder) const;

  CLI::App *attach_, *detach_;
  std::string name_, disk_, network_, device_;
  bool force_ = false;
  double timeout_ = 30;
};

}  // namespace nacre::app
