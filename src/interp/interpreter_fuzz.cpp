// No guest can hurt the interpreter: whatever bytes a guest executes, in whatever mode and with whatever
// registers, tables and descriptors, a step ends, and nothing outside the guest's memory is touched.
#include <cstdint>

#include "engine/hosted_vector_unit.hpp"
#include "interp/fuzz_machine.hpp"

namespace nacre::interp {
namespace {

engine::HostedVectorUnit& vector_unit() {
  static const auto unit = engine::HostedVectorUnit::create().take();
  return *unit;
}

}  // namespace
}  // namespace nacre::interp

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nacre;
  using interp::Machine;
  auto& vector = interp::vector_unit();
  const host::FaultScope scope(vector);
  interp::Input input(data, size);
  Machine m(&vector.unit());
  interp::choose_machine(m, input);
  for (unsigned steps = 0; steps < 256; ++steps) {
    if (m.step() != interp::StepResult::Executed) break;
  }
  return 0;
}
