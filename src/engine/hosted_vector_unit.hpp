// The hosted owner of a VectorUnit: a page of stubs mapped twice (written here, executed there) and the
// bounce page between its guards; host faults inside a stub are turned into guest exceptions.
//
//   auto vector = TRY(HostedVectorUnit::create());
//   host::FaultScope scope(*vector);        on the vCPU's thread, as long as the unit is used there
//   Interpreter interpreter(…, vector->unit(), …);
//
// Owned by the vCPU's thread.
#pragma once

#include <memory>

#include "base/result.hpp"
#include "host/mapping.hpp"
#include "host/signals.hpp"
#include "interp/vector_unit.hpp"

namespace nacre::engine {

class HostedVectorUnit final : public host::FaultHandler {
 public:
  static Result<std::unique_ptr<HostedVectorUnit>> create();

  [[nodiscard]] interp::VectorUnit& unit() { return unit_; }
  bool handle(int signal, siginfo_t* info, ucontext_t* context) override;

 private:
  HostedVectorUnit(host::Mapping writable, host::Mapping executable, host::Mapping bounce);

  host::Mapping writable_, executable_, bounce_;
  interp::VectorUnit unit_;
};

}  // namespace nacre::engine
