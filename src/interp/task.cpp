// Hardware task switches: SDM vol. 3, 7.3 (the steps and table 7-1, the checks and their order), 7.2.1
// and 7.6 (the two formats of task state). Everything that can fault in the old task is done before the first
// change.
#include "interp/task.hpp"

#include "interp/control_registers.hpp"
#include "interp/handlers.hpp"
#include "interp/operands.hpp"

namespace nacre::interp {
namespace {

using cpu::Descriptor;
using cpu::selector_is_local;
using cpu::selector_is_null;
using cpu::selector_rpl;
using cpu::SystemType;

constexpr u64 kDr6TaskSwitch = 1 << 15;
constexpr u64 kDr7Local = 0x155;  // L0 to L3 and LE
constexpr u64 kFlags32 = Rflags::arithmetic | Rflags::TF | Rflags::IF | Rflags::DF | Rflags::IOPL |
                         Rflags::NT | Rflags::RF | Rflags::VM | Rflags::AC | Rflags::VIF | Rflags::VIP |
                         Rflags::ID;
constexpr u64 kFlags16 = kFlags32 & 0xffff;

// Where things are in a TSS: SDM vol. 3, figures 7-2 and 7-10.
struct Format {
  unsigned word;  // bytes of a register
  unsigned rip, flags, gpr, segments, ldt;
  unsigned segment_step;  // bytes from one selector to the next
  unsigned segment_count;
  unsigned least_limit;  // of a TSS that is switched to
  unsigned saved_end;    // behind what a switch writes
};
constexpr Format kWide = {4, 0x20, 0x24, 0x28, 0x48, 0x60, 4, 6, 0x67, 0x60};
constexpr Format kNarrow = {2, 0x0e, 0x10, 0x12, 0x22, 0x2a, 2, 4, 0x2b, 0x2a};
constexpr unsigned kCr3 = 0x1c, kTrap = 0x64;
// Both formats have their segments in this order.
constexpr SegmentIndex kOrder[6] = {x86::ES, x86::CS, x86::SS, x86::DS, x86::FS, x86::GS};

const Format& format_of(unsigned type) {
  return (type & 8) != 0 ? kWide : kNarrow;
}

bool is_available_tss(const Descriptor& d) {
  return d.is(SystemType::TssAvailable) || d.is(SystemType::Tss16Available);
}
bool is_busy_tss(const Descriptor& d) {
  return d.is(SystemType::TssBusy) || d.is(SystemType::Tss16Busy);
}

// What the new task starts with.
struct Image {
  u64 cr3 = 0, rip = 0, flags = 0, gpr[8] = {};
  u16 selector[6] = {};  // in kOrder
  u16 ldt = 0;
  bool trap = false;
};

bool read_field(Core& core, u64 tss, unsigned offset, unsigned size, u64& value) {
  return core.read_linear((tss + offset) & 0xffffffff, size, Privilege::Implicit, value);
}
bool write_field(Core& core, u64 tss, unsigned offset, unsigned size, u64 value) {
  return core.write_linear((tss + offset) & 0xffffffff, size, Privilege::Implicit, value);
}

bool read_image(Core& core, u64 tss, const Format& f, Image& image) {
  u64 value = 0;
  if (!read_field(core, tss, f.rip, f.word, image.rip) ||
      !read_field(core, tss, f.flags, f.word, image.flags))
    return false;
  for (unsigned i = 0; i < 8; ++i) {
    if (!read_field(core, tss, f.gpr + i * f.word, f.word, image.gpr[i])) return false;
  }
  for (unsigned i = 0; i < f.segment_count; ++i) {
    if (!read_field(core, tss, f.segments + i * f.segment_step, 2, value)) return false;
    image.selector[i] = static_cast<u16>(value);
  }
  if (!read_field(core, tss, f.ldt, 2, value)) return false;
  image.ldt = static_cast<u16>(value);
  if (f.word == 2) return true;
  if (!read_field(core, tss, kTrap, 2, value) || !read_field(core, tss, kCr3, 4, image.cr3)) return false;
  image.trap = (value & 1) != 0;
  return true;
}

void save_old_task(Core& core, const Format& f, const TaskSwitch& how) {
  const State& s = *core.state;
  const u64 flags = how.cause == TaskCause::Return ? how.flags & ~Rflags::NT : how.flags;
  bool saved = write_field(core, s.tr.base, f.rip, f.word, how.return_rip) &&
               write_field(core, s.tr.base, f.flags, f.word, flags);
  for (unsigned i = 0; i < 8; ++i)
    saved = saved && write_field(core, s.tr.base, f.gpr + i * f.word, f.word, s.gpr[i]);
  for (unsigned i = 0; i < f.segment_count; ++i)
    saved = saved &&
            write_field(core, s.tr.base, f.segments + i * f.segment_step, 2, s.segment[kOrder[i]].selector);
  static_cast<void>(saved);  // it was probed, so it is
}

// The busy bit of a TSS descriptor in the GDT. False: its page may not be written.
bool set_busy(Core& core, u64 descriptor, bool busy) {
  const u64 linear = (descriptor + 5) & 0xffffffff;
  if (busy) return core.set_bits_linear(linear, 2, Privilege::Implicit);
  u64 value = 0;
  return core.read_linear(linear, 1, Privilege::Implicit, value) &&
         core.write_linear(linear, 1, Privilege::Implicit, value & ~u64{2});
}

// --- In the new task.

bool load_ldt(Core& core, u16 selector) {
  State& s = *core.state;
  s.ldtr = null_segment(selector, 0);
  if (selector_is_null(selector)) return true;
  const u32 error = selector_error(selector);
  if (selector_is_local(selector)) return core.raise(Vector::TS, error);
  DescriptorSlot slot;
  if (!read_descriptor(core, selector, Vector::TS, false, slot)) return false;
  if (!slot.descriptor.is(SystemType::Ldt) || !slot.descriptor.present())
    return core.raise(Vector::TS, error);
  s.ldtr = slot.descriptor.segment(selector);
  return true;
}

bool load_code(Core& core, u16 selector) {
  const u32 error = selector_error(selector);
  if (selector_is_null(selector)) return core.raise(Vector::TS, error);
  DescriptorSlot slot;
  if (!read_descriptor(core, selector, Vector::TS, false, slot)) return false;
  const Descriptor& d = slot.descriptor;
  const unsigned rpl = selector_rpl(selector);
  if (!d.is_code() || (d.is_conforming() ? d.dpl() > rpl : d.dpl() != rpl))
    return core.raise(Vector::TS, error);
  if (!d.present()) return core.raise(Vector::NP, error);
  if (!mark_accessed(core, slot)) return false;
  core.state->segment[x86::CS] = slot.descriptor.segment(selector);
  return true;
}

bool load_stack(Core& core, u16 selector, unsigned cpl) {
  if (selector_is_null(selector)) return core.raise(Vector::TS, selector_error(selector));
  Segment stack;
  if (!read_stack_segment(core, selector, cpl, Vector::TS, false, stack)) return false;
  core.state->segment[x86::SS] = stack;
  return true;
}

bool load_data(Core& core, SegmentIndex index, u16 selector, unsigned cpl) {
  if (selector_is_null(selector)) return true;
  DescriptorSlot slot;
  if (!read_descriptor(core, selector, Vector::TS, false, slot)) return false;
  const Descriptor& d = slot.descriptor;
  const u32 error = selector_error(selector);
  const bool privileged = !d.is_conforming() && (d.dpl() < cpl || d.dpl() < selector_rpl(selector));
  if (!d.is_readable() || privileged) return core.raise(Vector::TS, error);
  if (!d.present()) return core.raise(Vector::NP, error);
  if (!mark_accessed(core, slot)) return false;
  core.state->segment[index] = slot.descriptor.segment(selector);
  return true;
}

// Selectors alone first: what faults finds the new task's, of which those not yet looked at are not usable.
// The privilege lives in SS.
void load_selectors(State& s, const Image& image) {
  for (unsigned i = 0; i < 6; ++i) s.segment[kOrder[i]] = null_segment(image.selector[i], 0);
  s.segment[x86::SS] = null_segment(image.selector[2], selector_rpl(image.selector[1]));
}

bool load_segments(Core& core, const Image& image) {
  State& s = *core.state;
  if ((s.rflags & Rflags::VM) != 0) {
    for (unsigned i = 0; i < 6; ++i) load_real_segment(core, kOrder[i], image.selector[i]);
    return load_ldt(core, image.ldt);
  }
  load_selectors(s, image);
  const unsigned cpl = selector_rpl(image.selector[1]);
  return load_ldt(core, image.ldt) && load_code(core, image.selector[1]) &&
         load_stack(core, image.selector[2], cpl) && load_data(core, x86::ES, image.selector[0], cpl) &&
         load_data(core, x86::DS, image.selector[3], cpl) &&
         load_data(core, x86::FS, image.selector[4], cpl) && load_data(core, x86::GS, image.selector[5], cpl);
}

bool enter_task(Core& core, const Image& image, const Format& f, const TaskSwitch& how) {
  State& s = *core.state;
  s.rip = image.rip;  // faults from here on are the new task's
  core.next_rip = image.rip;
  for (unsigned i = 0; i < 8; ++i) s.gpr[i] = image.gpr[i];
  s.rflags = (image.flags & (f.word == 4 ? kFlags32 : kFlags16)) | Rflags::fixed;
  if (how.cause == TaskCause::Call || how.cause == TaskCause::Event) s.rflags |= Rflags::NT;
  s.cr0 |= x86::Cr0::TS;
  s.dr7 &= ~kDr7Local;
  core.suppress_trap = true;
  if (image.trap) core.debug_hits |= kDr6TaskSwitch;
  // SDM vol. 3, 7.3, 12: paging tables change before descriptors are read.
  bool loaded = f.word != 4 || (s.cr0 & x86::Cr0::PG) == 0 || set_cr3(core, image.cr3);
  if (!loaded) load_selectors(s, image);
  core.refresh_mode();
  loaded = loaded && load_segments(core, image);
  core.refresh_mode();
  if (!loaded) return false;
  return image.rip <= s.segment[x86::CS].limit || core.general_protection();
}

// The descriptor of the TSS to go to, with the checks of table 7-1.
bool find_tss(Core& core, const TaskSwitch& how, DescriptorSlot& slot) {
  const bool returns = how.cause == TaskCause::Return;
  const Vector vector = returns ? Vector::TS : Vector::GP;
  const u32 error = selector_error(how.selector, how.external);
  if (selector_is_local(how.selector) || selector_is_null(how.selector)) return core.raise(vector, error);
  if (!read_descriptor(core, how.selector, vector, how.external, slot)) return false;
  const Descriptor& d = slot.descriptor;
  if (returns ? !is_busy_tss(d) : !is_available_tss(d)) return core.raise(vector, error);
  if (!d.present()) return core.raise(Vector::NP, error);
  return d.limit() >= format_of(d.type()).least_limit || core.raise(Vector::TS, error);
}

}  // namespace

bool switch_task(Core& core, const TaskSwitch& how) {
  State& s = *core.state;
  DescriptorSlot slot;
  if (!find_tss(core, how, slot)) return false;
  const Segment next = slot.descriptor.segment(how.selector);
  const Format& from = format_of(s.tr.type());
  const Format& to = format_of(next.type());
  const bool nested = how.cause == TaskCause::Call || how.cause == TaskCause::Event;

  // Everything that can fault in the old task.
  if (s.tr.limit + u64{1} < from.saved_end)
    return core.raise(Vector::TS, selector_error(s.tr.selector, how.external));
  Image image;
  if (!read_image(core, next.base, to, image)) return false;
  const u64 saved = (s.tr.base + from.rip) & 0xffffffff;
  if (!core.probe_write(saved, from.saved_end - from.rip, Privilege::Implicit)) return false;
  if (nested && !core.probe_write(next.base, 2, Privilege::Implicit)) return false;
  if (!core.probe_write((slot.address + 5) & 0xffffffff, 1, Privilege::Implicit)) return false;
  if (!nested && !selector_is_null(s.tr.selector)) {
    const u64 old = (s.gdtr.base + (s.tr.selector & ~7u)) & 0xffffffff;
    if (!set_busy(core, old, false)) return false;
  }

  const u16 back_link = s.tr.selector;
  save_old_task(core, from, how);
  // A task may jump to itself by way of another's gate; it then starts with what has just been saved.
  if (next.base == s.tr.base && !read_image(core, next.base, to, image)) return false;
  if (nested && !write_field(core, next.base, 0, 2, back_link)) return false;
  if (how.cause != TaskCause::Return && !set_busy(core, slot.address, true)) return false;
  s.tr = next;
  s.tr.attributes |= 2;
  return enter_task(core, image, to, how);
}

bool switch_by_gate(Core& core, const Descriptor& gate, TaskSwitch how) {
  how.selector = cpu::Gate{gate}.selector();
  return switch_task(core, how);
}

bool return_from_task(Core& core, u64 return_rip) {
  const State& s = *core.state;
  u64 link = 0;
  if (!read_field(core, s.tr.base, 0, 2, link)) return false;
  return switch_task(core, {TaskCause::Return, static_cast<u16>(link), return_rip, s.rflags, false});
}

bool push_error_code(Core& core, u32 error_code) {
  core.refresh_mode();
  return core.push(error_code, (core.state->tr.type() & 8) != 0 ? 4 : 2);
}

}  // namespace nacre::interp
