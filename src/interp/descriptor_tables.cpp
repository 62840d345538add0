// Descriptor-table registers, LDTR, TR, and the instructions that ask about selectors.
// SDM vol. 3, 2.4 and 5.10; vol. 2.
#include "interp/handlers.hpp"
#include "interp/operands.hpp"
#include "interp/segments.hpp"

namespace nacre::interp::handlers {
namespace {

using cpu::Descriptor;
using cpu::SystemType;
using cpu::TableRegister;
using x86::Cr4;

// SGDT, SIDT, SLDT, STR, SMSW below CPL 0 with CR4.UMIP. SDM vol. 3, 2.5.
bool umip_allows(Core& core) {
  const bool barred = (core.state->cr4 & Cr4::UMIP) != 0 && core.state->cpl() != 0;
  return !barred || core.general_protection();
}

bool store_table(Core& core, const Instruction& i, const TableRegister& table) {
  if (!umip_allows(core)) return false;
  const unsigned base_bytes = core.code64 ? 8 : 4;
  u8 bytes[10] = {};
  store_host(bytes, 2, table.limit);
  store_host(bytes + 2, base_bytes, table.base);
  return core.store_bytes(i.effective_segment(), core.effective_address(i), bytes, 2 + base_bytes);
}

bool load_table(Core& core, const Instruction& i, TableRegister& table) {
  const unsigned base_bytes = core.code64 ? 8 : 4;
  const u64 address = core.effective_address(i);
  u64 limit = 0, base = 0;
  if (!core.load(i.effective_segment(), address, 2, limit)) return false;
  if (!core.load(i.effective_segment(), (address + 2) & low_bytes_mask(i.address_size), base_bytes, base))
    return false;
  if (core.code64 && !is_canonical(base)) return core.general_protection();
  // 16-bit operand size loads 24 bits of base. SDM vol. 2, LGDT.
  if (!core.code64 && i.operand_size == 2) base &= 0xffffff;
  table = {base, static_cast<u16>(limit)};
  return true;
}

// The part that LLDT and LTR share: a system descriptor in the GDT.
bool read_system(Core& core, u16 selector, DescriptorSlot& slot, u64& upper) {
  const u32 error = selector_error(selector);
  if (cpu::selector_is_local(selector)) return core.general_protection(error);
  if (!read_descriptor(core, selector, Vector::GP, false, slot)) return false;
  upper = 0;
  if (!core.state->long_mode_active()) return true;
  if (!read_upper_half(core, selector, Vector::GP, slot, upper)) return false;
  return (upper >> 40 & 0x1f) == 0 || core.general_protection(error);
}

Segment system_segment(u16 selector, const Descriptor& descriptor, u64 upper) {
  return descriptor.segment(selector, static_cast<u32>(upper));
}

// LAR and LSL: which system descriptors they know. SDM vol. 2, LAR and LSL tables.
bool type_known(const Descriptor& d, bool is_long, bool limit_only) {
  if (!d.is_system()) return true;
  switch (static_cast<SystemType>(d.type())) {
    case SystemType::Ldt:
    case SystemType::TssAvailable:
    case SystemType::TssBusy:
      return true;
    case SystemType::Tss16Available:
    case SystemType::Tss16Busy:
      return !is_long;
    case SystemType::CallGate:
      return !limit_only;
    case SystemType::CallGate16:
    case SystemType::TaskGate:
      return !limit_only && !is_long;
    default:
      return false;
  }
}

enum class Probe : u8 { Fault, No, Yes };

// Reads a selector operand's descriptor without faulting for what the descriptor is.
Probe probe_selector(Core& core, const Instruction& i, unsigned n, DescriptorSlot& slot, u16& selector) {
  u64 value = 0;
  if (!read_operand(core, i, n, value)) return Probe::Fault;
  selector = static_cast<u16>(value);
  if (cpu::selector_is_null(selector)) return Probe::No;
  const State& s = *core.state;
  const u64 limit = cpu::selector_is_local(selector) ? (s.ldtr.present() ? s.ldtr.limit : 0) : s.gdtr.limit;
  if ((selector & ~7u) + u64{7} > limit) return Probe::No;
  return read_descriptor(core, selector, Vector::GP, false, slot) ? Probe::Yes : Probe::Fault;
}

bool visible(const Core& core, const Descriptor& d, u16 selector) {
  if (d.is_conforming()) return true;
  return d.dpl() >= core.state->cpl() && d.dpl() >= cpu::selector_rpl(selector);
}

// `value` of LAR or LSL when `known`, else only ZF cleared.
template <typename Value>
bool ask(Core& core, const Instruction& i, bool limit_only, Value value) {
  DescriptorSlot slot;
  u16 selector = 0;
  const Probe probe = probe_selector(core, i, 1, slot, selector);
  if (probe == Probe::Fault) return false;
  const bool ok = probe == Probe::Yes &&
                  type_known(slot.descriptor, core.state->long_mode_active(), limit_only) &&
                  visible(core, slot.descriptor, selector);
  core.set_flag(Rflags::ZF, ok);
  return !ok || write_operand(core, i, 0, value(slot.descriptor));
}

template <typename Test>
bool verify(Core& core, const Instruction& i, Test test) {
  DescriptorSlot slot;
  u16 selector = 0;
  const Probe probe = probe_selector(core, i, 0, slot, selector);
  if (probe == Probe::Fault) return false;
  core.set_flag(Rflags::ZF, probe == Probe::Yes && !slot.descriptor.is_system() &&
                                visible(core, slot.descriptor, selector) && test(slot.descriptor));
  return true;
}

}  // namespace

bool sgdt(Core& core, const Instruction& i) {
  return store_table(core, i, core.state->gdtr);
}
bool sidt(Core& core, const Instruction& i) {
  return store_table(core, i, core.state->idtr);
}
bool lgdt(Core& core, const Instruction& i) {
  return load_table(core, i, core.state->gdtr);
}
bool lidt(Core& core, const Instruction& i) {
  return load_table(core, i, core.state->idtr);
}

bool sldt(Core& core, const Instruction& i) {
  return umip_allows(core) && write_operand(core, i, 0, core.state->ldtr.selector);
}
bool str(Core& core, const Instruction& i) {
  return umip_allows(core) && write_operand(core, i, 0, core.state->tr.selector);
}

bool lldt(Core& core, const Instruction& i) {
  u64 value = 0;
  if (!read_operand(core, i, 0, value)) return false;
  const auto selector = static_cast<u16>(value);
  if (cpu::selector_is_null(selector)) {
    core.state->ldtr = null_segment(selector, 0);
    return true;
  }
  DescriptorSlot slot;
  u64 upper = 0;
  if (!read_system(core, selector, slot, upper)) return false;
  if (!slot.descriptor.is(SystemType::Ldt)) return core.general_protection(selector_error(selector));
  if (!slot.descriptor.present()) return core.raise(Vector::NP, selector_error(selector));
  const Segment segment = system_segment(selector, slot.descriptor, upper);
  if (!is_canonical(segment.base)) return core.general_protection(selector_error(selector));
  core.state->ldtr = segment;
  return true;
}

bool ltr(Core& core, const Instruction& i) {
  u64 value = 0;
  if (!read_operand(core, i, 0, value)) return false;
  const auto selector = static_cast<u16>(value);
  if (cpu::selector_is_null(selector)) return core.general_protection();
  DescriptorSlot slot;
  u64 upper = 0;
  if (!read_system(core, selector, slot, upper)) return false;
  const Descriptor& d = slot.descriptor;
  const bool narrow = !core.state->long_mode_active() && d.is(SystemType::Tss16Available);
  if (!d.is(SystemType::TssAvailable) && !narrow) return core.general_protection(selector_error(selector));
  if (!d.present()) return core.raise(Vector::NP, selector_error(selector));
  slot.descriptor.raw |= u64{2} << 40;  // busy
  const Segment segment = system_segment(selector, slot.descriptor, upper);
  if (!is_canonical(segment.base)) return core.general_protection(selector_error(selector));
  if (!core.set_bits_linear(slot.address + 5, 2, Privilege::Implicit)) return false;
  core.state->tr = segment;
  return true;
}

bool lar(Core& core, const Instruction& i) {
  return ask(core, i, false, [](const Descriptor& d) { return d.raw >> 32 & 0x00f0ff00; });
}
bool lsl(Core& core, const Instruction& i) {
  return ask(core, i, true, [](const Descriptor& d) { return u64{d.limit()}; });
}
bool verr(Core& core, const Instruction& i) {
  return verify(core, i, [](const Descriptor& d) { return d.is_readable(); });
}
bool verw(Core& core, const Instruction& i) {
  return verify(core, i, [](const Descriptor& d) { return d.is_writable_data(); });
}

bool arpl(Core& core, const Instruction& i) {
  u64 source = 0;
  u64 value = 0;
  if (!read_operand(core, i, 1, source) || !read_operand(core, i, 0, value)) return false;
  const bool adjust = (value & 3) < (source & 3);
  if (adjust && !write_operand(core, i, 0, (value & ~u64{3}) | (source & 3))) return false;
  core.set_flag(Rflags::ZF, adjust);
  return true;
}

}  // namespace nacre::interp::handlers
