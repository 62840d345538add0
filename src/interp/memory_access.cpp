// Core's memory side: translation, page-crossing accesses, segment checks. SDM vol. 3, 4.6, 4.10, 5.3.
#include "interp/core.hpp"

namespace nacre::interp {

using x86::Cr0;
using x86::Cr4;
using x86::Efer;

void Core::begin(State& new_state) {
  state = &new_state;
  refresh_mode();
}

void Core::refresh_mode() {
  const State& s = *state;
  const bool v86 = (s.rflags & Rflags::VM) != 0;
  code64 = s.in_64bit_code();
  protected_mode = (s.cr0 & Cr0::PE) != 0 && !v86;
  const bool user = s.cpl() == 3;
  privilege = user ? Privilege::User : Privilege::Supervisor;
  alignment_checked = user && (s.cr0 & Cr0::AM) != 0 && (s.rflags & Rflags::AC) != 0;
  watching = (s.dr7 & 0xff) != 0;
}

bool Core::raise(Vector vector_in) {
  fault = {};
  fault.kind = cpu::Event::Kind::Exception;
  fault.vector = static_cast<u8>(vector_in);
  return false;
}

bool Core::raise(Vector vector_in, u32 error_code) {
  raise(vector_in);
  fault.has_error_code = true;
  fault.error_code = error_code;
  return false;
}

bool Core::raise_page_fault(const cpu::PageFault& page_fault) {
  raise(Vector::PF, page_fault.error_code);
  fault.cr2 = page_fault.address.value();
  return false;
}

bool Core::smap_applies(Privilege who) const {
  if (who == Privilege::User || (state->cr4 & Cr4::SMAP) == 0) return false;
  return who == Privilege::Implicit || (state->rflags & Rflags::AC) == 0;
}

const TlbEntry* Core::fill(TlbEntry& entry, u64 linear, AccessType type, Privilege who) {
  const auto result = cpu::walk(*state, memory, observer, GuestLinear(linear), type, who);
  if (!result.ok()) {
    raise_page_fault(result.error());
    return nullptr;
  }
  const cpu::Translation& found = result.value();
  const GuestPhysical page = found.address.page();
  entry.host = memory.host(page, type == AccessType::Write);
  entry.physical = page.value();
  entry.flags = memory.page_flags(page);
  entry.pages = static_cast<u32>(found.page_bytes >> kPageShift);
  entry.user = found.user && type != AccessType::Execute;  // SMAP is about data
  entry.global = found.global;
  tlb.install(entry, linear);
  return &entry;
}

void Core::mark_written(const TlbEntry& entry, u64 offset, usize bytes) {
  if (entry.flags == nullptr) return;
  // Who translates code flags its page first and reads it then; we write first and look at the flag then.
  // With both in order, one of the two sees the other.
  if (observer != nullptr) order_memory();
  const u8 flags = __atomic_load_n(entry.flags, __ATOMIC_RELAXED);
  if ((flags & memory::PageFlag::dirty) == 0) {
    __atomic_fetch_or(entry.flags, memory::PageFlag::dirty, __ATOMIC_RELAXED);
  }
  if ((flags & memory::PageFlag::code) != 0 && observer != nullptr) {
    observer->code_written(GuestPhysical(entry.physical + offset), bytes);
  }
}

// Linear addresses wrap at 4 GiB outside long mode.
u64 Core::next_page(u64 linear) const {
  const u64 next = (linear | (kPageSize - 1)) + 1;
  return state->long_mode_active() ? next : next & 0xffffffff;
}

namespace {

// Vector registers and the like. Aligned quadwords (and less, alone) stay whole for whoever looks from
// elsewhere, which a string move does not promise. SDM vol. 3, 9.1.1.
constexpr bool moves_in_words(usize bytes) {
  return bytes <= 64 && (bytes % 8 == 0 || bytes == 4 || bytes == 2);
}

void copy_guest(u8* to, const u8* from, usize bytes) {
  if (!moves_in_words(bytes)) return copy_bytes(to, from, bytes);
  const unsigned step = bytes < 8 ? static_cast<unsigned>(bytes) : 8;
  for (usize at = 0; at < bytes; at += step) store_host(to + at, step, load_host(from + at, step));
}

}  // namespace

void Core::read_piece(const TlbEntry& entry, u64 offset, u8* to, usize bytes) {
  if (entry.host != nullptr) {
    copy_guest(to, entry.host + offset, bytes);
    return;
  }
  while (bytes != 0) {
    const unsigned step = bytes >= 8 ? 8 : bytes >= 4 ? 4 : 1;
    const u64 value = platform.mmio_read(GuestPhysical(entry.physical + offset), step);
    for (unsigned i = 0; i < step; ++i) *to++ = static_cast<u8>(value >> (8 * i));
    offset += step;
    bytes -= step;
  }
}

void Core::write_piece(const TlbEntry& entry, u64 offset, const u8* from, usize bytes) {
  if (entry.host != nullptr) {
    copy_guest(entry.host + offset, from, bytes);
    mark_written(entry, offset, bytes);
    return;
  }
  while (bytes != 0) {
    const unsigned step = bytes >= 8 ? 8 : bytes >= 4 ? 4 : 1;
    u64 value = 0;
    for (unsigned i = 0; i < step; ++i) value |= u64{*from++} << (8 * i);
    may_interrupt = true;
    platform.mmio_write(GuestPhysical(entry.physical + offset), step, value);
    offset += step;
    bytes -= step;
  }
}

bool Core::read_linear_bytes(u64 linear, u8* to, usize bytes, Privilege who) {
  while (bytes != 0) {
    const u64 offset = linear & (kPageSize - 1);
    const usize here = bytes < kPageSize - offset ? bytes : kPageSize - offset;
    const TlbEntry* entry = translate(linear, AccessType::Read, who);
    if (entry == nullptr) return false;
    read_piece(*entry, offset, to, here);
    to += here;
    bytes -= here;
    linear = next_page(linear);
  }
  return true;
}

bool Core::probe_write(u64 linear, usize bytes, Privilege who) {
  while (bytes != 0) {
    const u64 offset = linear & (kPageSize - 1);
    const usize here = bytes < kPageSize - offset ? bytes : kPageSize - offset;
    if (translate(linear, AccessType::Write, who) == nullptr) return false;
    bytes -= here;
    linear = next_page(linear);
  }
  return true;
}

bool Core::set_bits_linear(u64 linear, u8 bits, Privilege who) {
  const TlbEntry* entry = translate(linear, AccessType::Write, who);
  if (entry == nullptr) return false;
  const u64 offset = linear & (kPageSize - 1);
  if (entry->host == nullptr) return true;  // no descriptor is in a device
  __atomic_fetch_or(entry->host + offset, bits, __ATOMIC_SEQ_CST);
  mark_written(*entry, offset, 1);
  return true;
}

bool Core::write_linear_bytes(u64 linear, const u8* from, usize bytes, Privilege who) {
  if (!probe_write(linear, bytes, who)) return false;
  while (bytes != 0) {
    const u64 offset = linear & (kPageSize - 1);
    const usize here = bytes < kPageSize - offset ? bytes : kPageSize - offset;
    const TlbEntry* entry = translate(linear, AccessType::Write, who);
    if (entry == nullptr) return false;
    write_piece(*entry, offset, from, here);
    from += here;
    bytes -= here;
    linear = next_page(linear);
  }
  return true;
}

void Core::flush_all() {
  tlb.flush_all();
  if (observer != nullptr) observer->flush_all();
}

void Core::flush_non_global() {
  tlb.flush_non_global();
  if (observer != nullptr) observer->flush_non_global();
}

void Core::switch_space(u16 from, u16 to, bool keep) {
  tlb.flush_non_global();  // carries no PCID: more may always be dropped
  if (observer != nullptr) observer->switch_space(from, to, keep);
}

void Core::flush_page(u64 linear) {
  tlb.flush_page(linear);
  if (observer != nullptr) observer->flush_page(GuestLinear(linear));
}

namespace {

// SDM vol. 3, 5.3: [0, limit], or for expand-down data (limit, 0xffff or 0xffffffff].
bool within_limit(const Segment& segment, u64 offset, u64 last) {
  const bool expand_down = (segment.type() & 0xc) == 4;
  if (!expand_down) return last <= segment.limit;
  const u64 top = (segment.attributes & SegmentAttributes::DB) != 0 ? 0xffffffff : 0xffff;
  return offset > segment.limit && last <= top;
}

// SDM vol. 3, 5.5: what a register with this type may be used for.
bool type_allows(const Segment& segment, AccessType type) {
  if (!segment.present()) return false;
  const bool code = (segment.type() & 8) != 0;
  const bool read_write = (segment.type() & 2) != 0;
  if (type == AccessType::Write) return !code && read_write;
  return !code || read_write;
}

}  // namespace

bool Core::legacy_linear_address(SegmentIndex index, u64 offset, usize size, AccessType type, u64& linear) {
  const Segment& segment = state->segment[index];
  const Vector vector_out = index == x86::SS ? Vector::SS : Vector::GP;
  if (protected_mode && !type_allows(segment, type)) return raise(vector_out, 0);
  if (!within_limit(segment, offset, offset + size - 1)) return raise(vector_out, 0);
  linear = (segment.base + offset) & 0xffffffff;
  if (alignment_checked && !check_alignment(linear, size)) return false;
  if (watching) check_watchpoints(linear, size, type);
  return true;
}

bool Core::check_alignment(u64 linear, usize size) {
  if (size > 8 || (size & (size - 1)) != 0 || (linear & (size - 1)) == 0) return true;
  return raise(Vector::AC, 0);
}

// SDM vol. 3, 17.2.4 and 17.2.5.
void Core::check_watchpoints(u64 linear, usize size, AccessType type) {
  for (unsigned i = 0; i < 4; ++i) {
    const u64 kind = state->dr7 >> (16 + 4 * i) & 3;
    if (kind == 3 || (kind == 1 && type == AccessType::Write)) note_watchpoint(i, linear, size);
  }
}

// Breakpoints on ports exist with CR4.DE only.
void Core::check_port_watchpoints(u16 port, unsigned size) {
  if ((state->cr4 & x86::Cr4::DE) == 0) return;
  for (unsigned i = 0; i < 4; ++i) {
    if ((state->dr7 >> (16 + 4 * i) & 3) == 2) note_watchpoint(i, port, size);
  }
}

void Core::note_watchpoint(unsigned i, u64 first, usize size) {
  if ((state->dr7 >> (2 * i) & 3) == 0) return;
  static constexpr u8 kLengths[4] = {1, 2, 8, 4};
  const u64 length = kLengths[state->dr7 >> (18 + 4 * i) & 3];
  const u64 start = state->dr[i] & ~(length - 1);
  if (first < start + length && start < first + size) debug_hits |= u64{1} << i;
}

bool Core::load_bytes(SegmentIndex index, u64 offset, u8* to, usize bytes) {
  u64 linear = 0;
  return linear_address(index, offset, bytes, AccessType::Read, linear) &&
         read_linear_bytes(linear, to, bytes, privilege);
}

bool Core::store_bytes(SegmentIndex index, u64 offset, const u8* from, usize bytes) {
  u64 linear = 0;
  return linear_address(index, offset, bytes, AccessType::Write, linear) &&
         write_linear_bytes(linear, from, bytes, privilege);
}

bool Core::jump(u64 target, unsigned operand_size) {
  if (code64) {
    if (!is_canonical(target)) return general_protection();
  } else {
    target &= low_bytes_mask(operand_size < 4 ? 2 : 4);
    if (target > state->segment[x86::CS].limit) return general_protection();
  }
  next_rip = target;
  return true;
}

}  // namespace nacre::interp
