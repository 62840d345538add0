// `nacre attach` and `nacre detach`: devices of a named machine that come and go while it runs.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "base/result.hpp"
#include "life/folder.hpp"

namespace nacre::app {

class AttachCommand {
 public:
  explicit AttachCommand(CLI::App& app);
  [[nodiscard]] bool chosen() const { return attach_->parsed() || detach_->parsed(); }
  int run();

 private:
  Status attach() const;
  Status detach() const;
  Status list(const life::Folder& folder) const;

  CLI::App *attach_, *detach_;
  std::string name_, disk_, device_;
  bool force_ = false;
  double timeout_ = 30;
};

}  // namespace nacre::app
