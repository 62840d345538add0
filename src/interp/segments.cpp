// Segment loading. SDM vol. 3, 3.4 and chapter 5; the order of the checks is that of SDM vol. 2, MOV.
#include "interp/segments.hpp"

#include "interp/operands.hpp"

namespace nacre::interp {

using cpu::Descriptor;
using cpu::selector_is_null;
using cpu::selector_rpl;

bool read_descriptor(Core& core, u16 selector, Vector vector, bool external, DescriptorSlot& slot) {
  const State& s = *core.state;
  const bool local = cpu::selector_is_local(selector);
  const u64 base = local ? s.ldtr.base : s.gdtr.base;
  const u64 limit = local ? (s.ldtr.present() ? s.ldtr.limit : 0) : s.gdtr.limit;
  const u64 offset = selector & ~7u;
  if (offset + 7 > limit) return core.raise(vector, selector_error(selector, external));
  slot.address = base + offset;
  if (!s.long_mode_active()) slot.address &= 0xffffffff;
  return core.read_linear(slot.address, 8, Privilege::Implicit, slot.descriptor.raw);
}

bool read_upper_half(Core& core, u16 selector, Vector vector, const DescriptorSlot& slot, u64& upper) {
  const State& s = *core.state;
  const u64 limit = cpu::selector_is_local(selector) ? s.ldtr.limit : s.gdtr.limit;
  if ((selector & ~7u) + u64{15} > limit) return core.raise(vector, selector_error(selector));
  return core.read_linear(slot.address + 8, 8, Privilege::Implicit, upper);
}

bool mark_accessed(Core& core, DescriptorSlot& slot) {
  if (slot.descriptor.accessed()) return true;
  slot.descriptor.raw |= u64{1} << 40;
  return core.set_bits_linear(slot.address + 5, 1,
                              Privilege::Implicit);  // a locked access: SDM vol. 3, 9.1.2.1
}

Segment null_segment(u16 selector, unsigned dpl) {
  return {selector, static_cast<u16>(dpl << SegmentAttributes::dpl_shift), 0, 0};
}

Segment flat_code(u16 selector, unsigned dpl, bool is_long) {
  u16 attributes = 0x9b | SegmentAttributes::G;  // present, readable code, accessed
  attributes |= is_long ? SegmentAttributes::L : SegmentAttributes::DB;
  return {selector, static_cast<u16>(attributes | dpl << SegmentAttributes::dpl_shift), 0xffffffff, 0};
}

Segment flat_data(u16 selector, unsigned dpl) {
  constexpr u16 attributes = 0x93 | SegmentAttributes::G | SegmentAttributes::DB;
  return {selector, static_cast<u16>(attributes | dpl << SegmentAttributes::dpl_shift), 0xffffffff, 0};
}

void load_real_segment(Core& core, SegmentIndex index, u16 selector) {
  Segment& segment = core.state->segment[index];
  segment.selector = selector;
  segment.base = u64{selector} << 4;
  if (core.has_flag(Rflags::VM)) {
    segment.limit = 0xffff;
    segment.attributes = 0xf3;  // SDM vol. 3, 20.2.1: present, DPL 3, writable data
    return;
  }
  // Real mode keeps limit and width ("unreal" mode lives on that), but what was null is usable again.
  if (!segment.present()) segment.limit = 0xffff;
  constexpr u16 kept = SegmentAttributes::G | SegmentAttributes::DB;
  segment.attributes = static_cast<u16>((segment.attributes & kept) | 0x93);
  // A far transfer makes CS an ordinary 16-bit segment.
  if (index == x86::CS) segment.attributes = 0x9b;
}

bool read_stack_segment(Core& core, u16 selector, unsigned cpl, Vector vector, bool external,
                        Segment& stack) {
  const u32 error = selector_error(selector, external);
  if (selector_is_null(selector)) return core.raise(vector, external ? 1 : 0);
  DescriptorSlot slot;
  if (!read_descriptor(core, selector, vector, external, slot)) return false;
  const Descriptor& d = slot.descriptor;
  if (selector_rpl(selector) != cpl || d.dpl() != cpl || !d.is_writable_data())
    return core.raise(vector, error);
  if (!d.present()) return core.raise(Vector::SS, error);
  if (!mark_accessed(core, slot)) return false;
  stack = slot.descriptor.segment(selector);
  return true;
}

namespace {

bool load_stack_segment(Core& core, u16 selector) {
  State& s = *core.state;
  const unsigned cpl = s.cpl();
  if (selector_is_null(selector)) {
    if (!core.code64 || cpl == 3 || selector_rpl(selector) != cpl) return core.general_protection();
    s.segment[x86::SS] = null_segment(selector, cpl);
    return true;
  }
  return read_stack_segment(core, selector, cpl, Vector::GP, false, s.segment[x86::SS]);
}

bool load_data_segment(Core& core, SegmentIndex index, u16 selector) {
  State& s = *core.state;
  if (selector_is_null(selector)) {
    s.segment[index] = null_segment(selector, 0);
    return true;
  }
  DescriptorSlot slot;
  if (!read_descriptor(core, selector, Vector::GP, false, slot)) return false;
  const Descriptor& d = slot.descriptor;
  const u32 error = selector_error(selector);
  if (!d.is_readable()) return core.general_protection(error);
  const unsigned rpl = selector_rpl(selector), cpl = s.cpl();
  if (!d.is_conforming() && (d.dpl() < rpl || d.dpl() < cpl)) return core.general_protection(error);
  if (!d.present()) return core.raise(Vector::NP, error);
  if (!mark_accessed(core, slot)) return false;
  s.segment[index] = slot.descriptor.segment(selector);
  return true;
}

}  // namespace

bool load_segment(Core& core, SegmentIndex index, u16 selector) {
  if (index > x86::GS || index == x86::CS) return core.undefined();
  if (!core.protected_mode) {
    load_real_segment(core, index, selector);
    return true;
  }
  return index == x86::SS ? load_stack_segment(core, selector) : load_data_segment(core, index, selector);
}

// SDM vol. 2, RET and IRET: ReturnToOuterPrivilegeLevel.
void drop_inner_segments(Core& core, unsigned cpl) {
  for (const SegmentIndex index : {x86::ES, x86::DS, x86::FS, x86::GS}) {
    Segment& segment = core.state->segment[index];
    // A null selector loses its RPL, and keeps the base that WRFSBASE or WRMSR has given it.
    if (selector_is_null(segment.selector) && !segment.present()) segment.selector = 0;
    const bool conforming = (segment.type() & 0xc) == 0xc;
    if (segment.present() && (segment.attributes & SegmentAttributes::S) != 0 && !conforming &&
        segment.dpl() < cpl) {
      // The register is of no more use in legacy modes; in 64-bit mode FS and GS keep their bases.
      segment.selector = 0;
      segment.attributes = 0;
    }
  }
}

}  // namespace nacre::interp
