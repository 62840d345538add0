// Runs cases on the host's own processor: in a forked child that may make no system call but sigreturn. A
// signal handler loads a case into the interrupted context, returns into it, and is entered again by whatever
// ends it. Hosted; tests only; one thread.
#pragma once

#include <sys/types.h>

#include <span>

#include "base/result.hpp"
#include "cpu/xsave_layout.hpp"
#include "engine/conformance/test_case.hpp"

namespace nacre::conformance {

class Native {
 public:
  static constexpr usize kBatch = 64;

  static Result<Native> start();
  Native(Native&& other) noexcept;
  Native& operator=(Native&&) = delete;
  ~Native();

  // Up to kBatch cases; outcomes[i] belongs to cases[i]. An Error when the child died.
  Status run(std::span<const Case> cases, std::span<Outcome> outcomes);

  struct Shared;

 private:
  Native() = default;

  Shared* shared_ = nullptr;
  pid_t child_ = -1;
  int to_child_ = -1, from_child_ = -1;
};

}  // namespace nacre::conformance
