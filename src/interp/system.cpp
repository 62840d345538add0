// Processor identification, time, randomness, segment bases, halting. SDM vol. 2.
#include "cpu/model.hpp"
#include "interp/control_registers.hpp"
#include "interp/handlers.hpp"
#include "interp/operands.hpp"

namespace nacre::interp::handlers {
namespace {

using x86::Cr4;

void write_pair(Core& core, u64 value) {
  core.set_gpr(x86::RAX, 4, value);
  core.set_gpr(x86::RDX, 4, value >> 32);
}

bool read_tsc(Core& core, u64& value) {
  const State& s = *core.state;
  if ((s.cr4 & Cr4::TSD) != 0 && s.cpl() != 0) return core.general_protection();
  value = core.platform.tsc() + s.tsc_offset;
  return true;
}

bool read_base(Core& core, const Instruction& i, SegmentIndex index) {
  if ((core.state->cr4 & Cr4::FSGSBASE) == 0) return core.undefined();
  return write_operand(core, i, 0, core.state->segment[index].base);
}

bool write_base(Core& core, const Instruction& i, SegmentIndex index) {
  if ((core.state->cr4 & Cr4::FSGSBASE) == 0) return core.undefined();
  u64 value = 0;
  if (!read_operand(core, i, 0, value)) return false;
  if (!is_canonical(value)) return core.general_protection();
  core.state->segment[index].base = value;
  return true;
}

// CF says that there was a number.
bool random(Core& core, const Instruction& i) {
  core.state->rflags = (core.state->rflags & ~Rflags::arithmetic) | Rflags::CF;
  return write_operand(core, i, 0, core.platform.random());
}

}  // namespace

bool cpuid(Core& core, const Instruction&) {
  State& s = *core.state;
  const cpu::CpuidLeaf leaf =
      core.model.cpuid(static_cast<u32>(s.gpr[x86::RAX]), static_cast<u32>(s.gpr[x86::RCX]), s);
  s.gpr[x86::RAX] = leaf.eax;
  s.gpr[x86::RBX] = leaf.ebx;
  s.gpr[x86::RCX] = leaf.ecx;
  s.gpr[x86::RDX] = leaf.edx;
  return true;
}

// KVM's convention for calls to the hypervisor: the number in RAX, arguments in RBX, RCX, RDX, RSI; 32 bits
// of each outside of 64-bit mode. Both vendors' instructions do, whatever the host's vendor.
bool hypercall(Core& core, const Instruction&) {
  if (!core.model.options().paravirtual) return core.undefined();
  const State& s = *core.state;
  const u64 mask = core.code64 ? ~u64{0} : 0xffffffff;
  const cpu::Platform::Hypercall call = {.number = s.gpr[x86::RAX] & mask,
                                         .argument = {s.gpr[x86::RBX] & mask, s.gpr[x86::RCX] & mask,
                                                      s.gpr[x86::RDX] & mask, s.gpr[x86::RSI] & mask},
                                         .wide = core.code64};
  core.set_gpr(x86::RAX, core.code64 ? 8 : 4,
               s.cpl() == 0 ? core.platform.hypercall(call) : cpu::Platform::Hypercall::kDenied);
  return true;
}

bool rdtsc(Core& core, const Instruction&) {
  u64 value = 0;
  if (!read_tsc(core, value)) return false;
  write_pair(core, value);
  return true;
}

bool rdtscp(Core& core, const Instruction&) {
  u64 value = 0;
  if (!read_tsc(core, value)) return false;
  write_pair(core, value);
  core.set_gpr(x86::RCX, 4, core.state->tsc_aux);
  return true;
}

bool rdpid(Core& core, const Instruction& i) {
  core.set_gpr(i.rm, core.code64 ? 8 : 4, core.state->tsc_aux & 0xffffffff);
  return true;
}

// No model has performance counters.
bool rdpmc(Core& core, const Instruction&) {
  return core.general_protection();
}

bool rdfsbase(Core& core, const Instruction& i) {
  return read_base(core, i, x86::FS);
}
bool rdgsbase(Core& core, const Instruction& i) {
  return read_base(core, i, x86::GS);
}
bool wrfsbase(Core& core, const Instruction& i) {
  return write_base(core, i, x86::FS);
}
bool wrgsbase(Core& core, const Instruction& i) {
  return write_base(core, i, x86::GS);
}

bool swapgs(Core& core, const Instruction&) {
  State& s = *core.state;
  const u64 base = s.segment[x86::GS].base;
  s.segment[x86::GS].base = s.kernel_gs_base;
  s.kernel_gs_base = base;
  return true;
}

bool rdrand(Core& core, const Instruction& i) {
  return random(core, i);
}
bool rdseed(Core& core, const Instruction& i) {
  return random(core, i);
}

bool hlt(Core& core, const Instruction&) {
  core.state->activity = cpu::Activity::Halted;
  return true;
}

// Shown by no model unless asked for: monitor checks its address, mwait may return at any time and does.
bool monitor(Core& core, const Instruction& i) {
  const auto segment = i.segment == x86::kNoSegment ? x86::DS : static_cast<SegmentIndex>(i.segment);
  u64 value = 0;
  if (core.gpr(x86::RCX, 4) != 0) return core.general_protection();
  return core.load(segment, core.gpr(x86::RAX, i.address_size), 1, value);
}
bool mwait(Core&, const Instruction&) {
  return true;
}

// Caches are coherent and nobody sees their content; the address must still be good.
bool clflush(Core& core, const Instruction& i) {
  u64 value = 0;
  return core.load(i.effective_segment(), core.effective_address(i), 1, value);
}
bool flush_caches(Core&, const Instruction&) {
  return true;
}

// SDM vol. 2, RDPKRU and WRPKRU.
bool rdpkru(Core& core, const Instruction&) {
  if ((core.state->cr4 & Cr4::PKE) == 0) return core.undefined();
  if (core.gpr(x86::RCX, 4) != 0) return core.general_protection();
  core.set_gpr(x86::RAX, 4, core.state->pkru);
  core.set_gpr(x86::RDX, 4, 0);
  return true;
}
bool wrpkru(Core& core, const Instruction&) {
  if ((core.state->cr4 & Cr4::PKE) == 0) return core.undefined();
  if (core.gpr(x86::RCX, 4) != 0 || core.gpr(x86::RDX, 4) != 0) return core.general_protection();
  const auto value = static_cast<u32>(core.gpr(x86::RAX, 4));
  if (value == core.state->pkru) return true;
  core.state->pkru = value;
  core.flush_all();  // translations are kept as the keys had them
  return true;
}

}  // namespace nacre::interp::handlers
