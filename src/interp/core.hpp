// Core: what the instruction handlers work on. It ties the architectural state to memory, platform and
// CPU model, and offers the accesses instructions are made of: linear memory with paging, segmented
// memory with its checks, the stack, general registers.
//
// Every operation that can fault returns false after recording the exception in `fault`; a handler
// passes that on with nothing changed but what the architecture says. Freestanding; owned by the
// vCPU's thread.
#pragma once

#include "base/bits.hpp"
#include "base/copy.hpp"
#include "cpu/mmu.hpp"
#include "cpu/platform.hpp"
#include "cpu/state.hpp"
#include "interp/tlb.hpp"
#include "memory/address_space.hpp"
#include "x86/instruction.hpp"

namespace nacre::cpu {
class Model;
}

namespace nacre::interp {

class VectorUnit;
struct Core;

// Executes one instruction. True: done, and Core::next_rip says where to go on. False: Core::fault.
using HandlerFunction = bool(Core& core, const x86::Instruction& instruction);
using Handler = HandlerFunction*;

using cpu::AccessType;
using cpu::Privilege;
using cpu::Segment;
using cpu::SegmentAttributes;
using cpu::State;
using x86::Instruction;
using x86::Rflags;
using x86::SegmentIndex;
using x86::Vector;

// Canonical for 48-bit linear addresses. SDM vol. 1, 3.3.7.1.
constexpr bool is_canonical(u64 linear) {
  return sign_extend(linear, 48) == linear;
}

// Guest memory is shared with other processors' threads. One host move each, at any alignment: as indivisible
// as the guest's own would be, in the guest's order, and of no concern to the compiler's memory model.
u64 load_host(const u8* from, unsigned bytes);
void store_host(u8* to, unsigned bytes, u64 value);
// What MFENCE does, and every serializing instruction. SDM vol. 3, 9.2.5 and 9.3.
inline void order_memory() {
  __asm__ volatile("lock orl $0, (%%rsp)" : : : "memory", "cc");
}

struct Core {
  Core(memory::AddressSpace& memory_in, cpu::Platform& platform_in, const cpu::Model& model_in,
       VectorUnit& vector_in, cpu::TranslationObserver* observer_in)
      : memory(memory_in), platform(platform_in), model(model_in), vector(vector_in), observer(observer_in) {}

  memory::AddressSpace& memory;
  cpu::Platform& platform;
  const cpu::Model& model;
  VectorUnit& vector;
  cpu::TranslationObserver* observer;

  State* state = nullptr;  // set by begin(), for the duration of one step
  cpu::Event fault;        // why the last operation returned false
  u64 next_rip = 0;
  Privilege privilege = Privilege::Supervisor;  // of this instruction's explicit accesses
  bool code64 = false;                          // 64-bit mode (not compatibility mode)
  bool protected_mode = false;                  // PE set and not V86
  bool alignment_checked = false;               // CR0.AM and EFLAGS.AC at CPL 3
  bool watching = false;                        // DR7 enables a data breakpoint
  bool may_interrupt = false;  // CR8 or a device was written: an interrupt may be deliverable now
  bool suppress_trap = false;  // this instruction takes no single-step trap
  bool loaded_ss = false;      // MOV or POP to SS: debug exceptions wait for the next one's end
  u64 debug_hits = 0;          // DR6 bits of breakpoints this instruction touched
  u64 held_hits = 0;           // those that waited
  Tlb tlb;

  // Reads the mode out of the state; again when something changed it.
  void begin(State& state);
  void refresh_mode();

  // --- Exceptions; always return false.
  bool raise(Vector vector);
  bool raise(Vector vector, u32 error_code);
  bool raise_page_fault(const cpu::PageFault& page_fault);
  bool undefined() { return raise(Vector::UD); }
  bool general_protection(u32 error_code = 0) { return raise(Vector::GP, error_code); }

  // --- General registers. `size` is 1, 2, 4 or 8; 4 clears the upper half.
  [[nodiscard]] u64 gpr(unsigned index, unsigned size) const {
    return state->gpr[index & 15] & low_bytes_mask(size);
  }
  void set_gpr(unsigned index, unsigned size, u64 value);
  void set_flag(u64 flag, bool on) { state->rflags = on ? state->rflags | flag : state->rflags & ~flag; }
  [[nodiscard]] bool has_flag(u64 flag) const { return (state->rflags & flag) != 0; }

  // --- Linear memory. Accesses may cross a page; both pages are translated before anything moves.
  bool read_linear(u64 linear, unsigned size, Privilege who, u64& value);
  bool write_linear(u64 linear, unsigned size, Privilege who, u64 value);
  bool read_linear_bytes(u64 linear, u8* to, usize bytes, Privilege who);
  bool write_linear_bytes(u64 linear, const u8* from, usize bytes, Privilege who);
  // Finds the fault a write would raise.
  bool probe_write(u64 linear, usize bytes, Privilege who);
  // Sets bits of a byte that other processors may be writing to.
  bool set_bits_linear(u64 linear, u8 bits, Privilege who);
  // The entry that maps a byte, or null with the page fault recorded. Valid until the next translation.
  const TlbEntry* translate(u64 linear, AccessType type, Privilege who);
  void mark_written(const TlbEntry& entry, u64 offset, usize bytes);
  void flush_all();
  void flush_non_global();
  void switch_space(u16 from, u16 to, bool keep);
  void flush_page(u64 linear);

  // --- Segmented memory: limit, type and canonical checks. SDM vol. 3, 5.3 and 5.5.
  bool linear_address(SegmentIndex index, u64 offset, usize size, AccessType type, u64& linear);
  bool load(SegmentIndex index, u64 offset, unsigned size, u64& value);
  bool store(SegmentIndex index, u64 offset, unsigned size, u64 value);
  bool load_bytes(SegmentIndex index, u64 offset, u8* to, usize bytes);
  bool store_bytes(SegmentIndex index, u64 offset, const u8* from, usize bytes);
  // Reads, lets `change(old) -> new` decide, writes. With a LOCK prefix (or xchg) in one atomic step.
  template <typename Change>
  bool modify(SegmentIndex index, u64 offset, unsigned size, bool locked, Change change);

  // --- The stack, addressed by SS.B or in 64-bit mode by RSP.
  [[nodiscard]] unsigned stack_address_size() const;
  [[nodiscard]] u64 stack_mask() const { return low_bytes_mask(stack_address_size()); }
  void set_stack_pointer(u64 value) { set_gpr(x86::RSP, stack_address_size(), value); }
  bool push(u64 value, unsigned size);
  // Finds the fault that push would raise.
  bool probe_push(unsigned size);
  // Reads what pop would, `skip` bytes above the top; changes nothing.
  bool peek(u64 skip, unsigned size, u64& value);
  void drop(u64 bytes);

  // Of DR0 to DR3 as breakpoints on ports; to be called for every access to one where `watching`.
  void check_port_watchpoints(u16 port, unsigned size);

  [[nodiscard]] u64 effective_address(const Instruction& instruction) const;
  // RIP truncated as the code segment says; false with #GP(0) when it may not be jumped to.
  bool jump(u64 target, unsigned operand_size);

 private:
  const TlbEntry* fill(TlbEntry& entry, u64 linear, AccessType type, Privilege who);
  [[nodiscard]] bool smap_applies(Privilege who) const;
  [[nodiscard]] u64 next_page(u64 linear) const;
  bool legacy_linear_address(SegmentIndex index, u64 offset, usize size, AccessType type, u64& linear);
  bool check_alignment(u64 linear, usize size);
  void check_watchpoints(u64 linear, usize size, AccessType type);
  void note_watchpoint(unsigned i, u64 first, usize size);
  void read_piece(const TlbEntry& entry, u64 offset, u8* to, usize bytes);
  void write_piece(const TlbEntry& entry, u64 offset, const u8* from, usize bytes);
};

// --- Inline parts.

// Types at any alignment.
using u16_anywhere [[gnu::aligned(1), gnu::may_alias]] = u16;
using u32_anywhere [[gnu::aligned(1), gnu::may_alias]] = u32;
using u64_anywhere [[gnu::aligned(1), gnu::may_alias]] = u64;

inline u64 load_host(const u8* from, unsigned bytes) {
  u64 value;
  switch (bytes) {
    case 1:
      __asm__ volatile("movzbl %1, %k0" : "=r"(value) : "m"(*from));
      break;
    case 2:
      __asm__ volatile("movzwl %1, %k0" : "=r"(value) : "m"(*reinterpret_cast<const u16_anywhere*>(from)));
      break;
    case 4:
      __asm__ volatile("movl %1, %k0" : "=r"(value) : "m"(*reinterpret_cast<const u32_anywhere*>(from)));
      break;
    default:
      __asm__ volatile("movq %1, %0" : "=r"(value) : "m"(*reinterpret_cast<const u64_anywhere*>(from)));
      break;
  }
  return value;
}

inline void store_host(u8* to, unsigned bytes, u64 value) {
  switch (bytes) {
    case 1:
      __asm__ volatile("movb %b1, %0" : "=m"(*to) : "q"(value));
      break;
    case 2:
      __asm__ volatile("movw %w1, %0" : "=m"(*reinterpret_cast<u16_anywhere*>(to)) : "r"(value));
      break;
    case 4:
      __asm__ volatile("movl %k1, %0" : "=m"(*reinterpret_cast<u32_anywhere*>(to)) : "r"(value));
      break;
    default:
      __asm__ volatile("movq %1, %0" : "=m"(*reinterpret_cast<u64_anywhere*>(to)) : "r"(value));
      break;
  }
}

// `lock cmpxchg` at any alignment. True when it stored; else `expected` is what was there.
template <typename T>
bool compare_exchange_host(u8* host, u64& expected, u64 desired) {
  auto old = static_cast<T>(expected);
  bool stored = false;
  asm volatile("lock cmpxchg %3, %1"
               : "+a"(old), "+m"(*reinterpret_cast<T*>(host)), "=@ccz"(stored)
               : "r"(static_cast<T>(desired))
               : "memory");
  expected = old;
  return stored;
}
inline bool compare_exchange_host(u8* host, unsigned bytes, u64& expected, u64 desired) {
  switch (bytes) {
    case 1:
      return compare_exchange_host<u8>(host, expected, desired);
    case 2:
      return compare_exchange_host<u16>(host, expected, desired);
    case 4:
      return compare_exchange_host<u32>(host, expected, desired);
    default:
      return compare_exchange_host<u64>(host, expected, desired);
  }
}

inline void Core::set_gpr(unsigned index, unsigned size, u64 value) {
  u64& target = state->gpr[index & 15];
  switch (size) {
    case 1:
      target = (target & ~u64{0xff}) | (value & 0xff);
      break;
    case 2:
      target = (target & ~u64{0xffff}) | (value & 0xffff);
      break;
    case 4:
      target = value & 0xffffffff;
      break;
    default:
      target = value;
      break;
  }
}

inline const TlbEntry* Core::translate(u64 linear, AccessType type, Privilege who) {
  TlbEntry& entry = tlb.slot(linear, type, who);
  if (tlb.holds(entry, linear) && !(entry.user && smap_applies(who))) [[likely]]
    return &entry;
  return fill(entry, linear, type, who);
}

inline bool Core::read_linear(u64 linear, unsigned size, Privilege who, u64& value) {
  const u64 offset = linear & (kPageSize - 1);
  if (offset + size > kPageSize) {
    u8 bytes[8] = {};
    if (!read_linear_bytes(linear, bytes, size, who)) return false;
    value = load_host(bytes, 8) & low_bytes_mask(size);
    return true;
  }
  const TlbEntry* entry = translate(linear, AccessType::Read, who);
  if (entry == nullptr) return false;
  if (entry->host != nullptr) [[likely]] {
    value = load_host(entry->host + offset, size);
  } else {
    value = platform.mmio_read(GuestPhysical(entry->physical + offset), size) & low_bytes_mask(size);
  }
  return true;
}

inline bool Core::write_linear(u64 linear, unsigned size, Privilege who, u64 value) {
  const u64 offset = linear & (kPageSize - 1);
  if (offset + size > kPageSize) {
    u8 bytes[8] = {};
    store_host(bytes, 8, value);
    return write_linear_bytes(linear, bytes, size, who);
  }
  const TlbEntry* entry = translate(linear, AccessType::Write, who);
  if (entry == nullptr) return false;
  if (entry->host != nullptr) [[likely]] {
    store_host(entry->host + offset, size, value);
    mark_written(*entry, offset, size);
  } else {
    may_interrupt = true;
    platform.mmio_write(GuestPhysical(entry->physical + offset), size, value & low_bytes_mask(size));
  }
  return true;
}

inline bool Core::linear_address(SegmentIndex index, u64 offset, usize size, AccessType type, u64& linear) {
  if (!code64) return legacy_linear_address(index, offset, size, type, linear);
  linear = (index >= x86::FS ? state->segment[index].base : 0) + offset;
  if (!is_canonical(linear) || !is_canonical(linear + size - 1)) {
    return raise(index == x86::SS ? Vector::SS : Vector::GP, 0);
  }
  if (alignment_checked && !check_alignment(linear, size)) return false;
  if (watching) check_watchpoints(linear, size, type);
  return true;
}

inline bool Core::load(SegmentIndex index, u64 offset, unsigned size, u64& value) {
  u64 linear = 0;
  return linear_address(index, offset, size, AccessType::Read, linear) &&
         read_linear(linear, size, privilege, value);
}

inline bool Core::store(SegmentIndex index, u64 offset, unsigned size, u64 value) {
  u64 linear = 0;
  return linear_address(index, offset, size, AccessType::Write, linear) &&
         write_linear(linear, size, privilege, value);
}

template <typename Change>
bool Core::modify(SegmentIndex index, u64 offset, unsigned size, bool locked, Change change) {
  u64 linear = 0;
  if (!linear_address(index, offset, size, AccessType::Write, linear)) return false;
  const u64 in_page = linear & (kPageSize - 1);
  if (in_page + size > kPageSize) {
    // No host instruction does this on pages that lie apart in host memory: nobody else may run meanwhile.
    u64 old = 0;
    if (!probe_write(linear, size, privilege)) return false;
    if (locked) platform.begin_exclusive();
    const bool done =
        read_linear(linear, size, privilege, old) && write_linear(linear, size, privilege, change(old));
    if (locked) platform.end_exclusive();
    return done;
  }
  const TlbEntry* entry = translate(linear, AccessType::Write, privilege);
  if (entry == nullptr) return false;
  if (entry->host == nullptr) {
    const GuestPhysical physical(entry->physical + in_page);
    const u64 old = platform.mmio_read(physical, size) & low_bytes_mask(size);
    may_interrupt = true;
    platform.mmio_write(physical, size, change(old) & low_bytes_mask(size));
    return true;
  }
  u8* host = entry->host + in_page;
  u64 old = load_host(host, size);
  if (locked) {
    while (!compare_exchange_host(host, size, old, change(old))) {
    }
  } else {
    store_host(host, size, change(old));
  }
  mark_written(*entry, in_page, size);
  return true;
}

inline unsigned Core::stack_address_size() const {
  if (code64) return 8;
  return (state->segment[x86::SS].attributes & SegmentAttributes::DB) != 0 ? 4 : 2;
}

inline bool Core::push(u64 value, unsigned size) {
  const u64 pointer = (state->gpr[x86::RSP] - size) & stack_mask();
  if (!store(x86::SS, pointer, size, value)) return false;
  set_stack_pointer(pointer);
  return true;
}

inline bool Core::probe_push(unsigned size) {
  u64 linear = 0;
  return linear_address(x86::SS, (state->gpr[x86::RSP] - size) & stack_mask(), size, AccessType::Write,
                        linear) &&
         probe_write(linear, size, privilege);
}

inline bool Core::peek(u64 skip, unsigned size, u64& value) {
  return load(x86::SS, (state->gpr[x86::RSP] + skip) & stack_mask(), size, value);
}

inline void Core::drop(u64 bytes) {
  set_stack_pointer(state->gpr[x86::RSP] + bytes);
}

inline u64 Core::effective_address(const Instruction& instruction) const {
  u64 address = static_cast<u64>(instruction.displacement);
  if (instruction.base == x86::kRipBase) {
    address += state->rip + instruction.length;
  } else if (instruction.base != x86::kNoRegister) {
    address += state->gpr[instruction.base & 15];
  }
  if (instruction.index != x86::kNoRegister)
    address += state->gpr[instruction.index & 15] << instruction.scale;
  return address & low_bytes_mask(instruction.address_size);
}

}  // namespace nacre::interp
