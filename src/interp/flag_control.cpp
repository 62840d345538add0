// Single flags. SDM vol. 2; STI's shadow: vol. 3, 6.8.3.
#include "interp/handlers.hpp"

namespace nacre::interp::handlers {
namespace {

bool may_change_if(const Core& core) {
  return core.state->cpl() <= (core.state->rflags >> 12 & 3);
}

// stac and clac are for CPL 0 only, and raise #UD rather than #GP.
bool set_ac(Core& core, bool on) {
  if (core.state->cpl() != 0) return core.undefined();
  core.set_flag(Rflags::AC, on);
  return true;
}

bool set(Core& core, u64 flag, bool on) {
  core.set_flag(flag, on);
  return true;
}

}  // namespace

bool clc(Core& core, const Instruction&) {
  return set(core, Rflags::CF, false);
}
bool stc(Core& core, const Instruction&) {
  return set(core, Rflags::CF, true);
}
bool cmc(Core& core, const Instruction&) {
  return set(core, Rflags::CF, !core.has_flag(Rflags::CF));
}
bool cld(Core& core, const Instruction&) {
  return set(core, Rflags::DF, false);
}
bool std_(Core& core, const Instruction&) {
  return set(core, Rflags::DF, true);
}

bool cli(Core& core, const Instruction&) {
  if (!may_change_if(core)) return core.general_protection();
  return set(core, Rflags::IF, false);
}

bool sti(Core& core, const Instruction&) {
  if (!may_change_if(core)) return core.general_protection();
  if (!core.has_flag(Rflags::IF)) core.state->interrupt_shadow = true;
  return set(core, Rflags::IF, true);
}

bool stac(Core& core, const Instruction&) {
  return set_ac(core, true);
}
bool clac(Core& core, const Instruction&) {
  return set_ac(core, false);
}

}  // namespace nacre::interp::handlers
