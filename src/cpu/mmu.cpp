// The page walker. SDM vol. 3, chapter 4: 4.3 (32-bit), 4.4 (PAE), 4.5 (4-level), 4.6 (rights),
// 4.7 (error code), 4.8 (accessed and dirty).
#include "cpu/mmu.hpp"

#include "base/bits.hpp"

namespace nacre::cpu {
namespace {

using x86::Cr0;
using x86::Cr4;
using x86::Efer;
using x86::PageFaultCode;
using x86::Pte;
using x86::Rflags;

constexpr unsigned kKeyShift = 59;  // bits 62..59 of a leaf
constexpr u64 kFrameMask = 0x000ffffffffff000;  // bits 51..12

// One walk: where it is, what the levels said so far, and which entries to mark accessed.
class Walk {
 public:
  Walk(const State& state, const memory::AddressSpace& memory, TranslationObserver* observer, u64 linear,
       AccessType type, Privilege privilege)
      : state_(state),
        memory_(memory),
        observer_(observer),
        linear_(linear),
        type_(type),
        privilege_(privilege),
        keyed_(state.long_mode_active() && (state.cr4 & Cr4::PKE) != 0) {}

  Result<Translation, PageFault> four_level();
  Result<Translation, PageFault> pae();
  Result<Translation, PageFault> two_level();

  void mark_nothing() { marks_ = false; }
  // Set when a table changed under the walk: do it again.
  [[nodiscard]] bool must_retry() const { return retry_; }

 private:
  struct Step {
    GuestPhysical address;
    u64 value = 0;
  };

  enum class Found : u8 { Table, Leaf, Bad };

  u64 read_entry(GuestPhysical address, unsigned bytes);
  Found examine(u64 entry, u64 reserved, bool is_leaf);
  Result<Translation, PageFault> finish(u64 frame, u64 page_bytes);
  [[nodiscard]] bool allowed() const;
  [[nodiscard]] bool write_allowed() const;
  [[nodiscard]] bool key_denies(bool write) const;
  bool mark(const Step& step, u64 bits);
  [[nodiscard]] PageFault fault(u32 bits) const;
  [[nodiscard]] u64 reserved_bits() const;

  const State& state_;
  const memory::AddressSpace& memory_;
  TranslationObserver* observer_;
  u64 linear_;
  AccessType type_;
  Privilege privilege_;
  bool keyed_;

  Step steps_[4];
  unsigned depth_ = 0;
  unsigned entry_bytes_ = 8;
  bool writable_ = true;
  bool user_ = true;
  bool no_execute_ = false;
  unsigned key_ = 0;  // of the page, once the leaf is known
  bool marks_ = true;
  bool retry_ = false;
  u32 reason_ = 0;  // of Found::Bad
};

template <typename T>
u64 load_shared(const u8* host) {
  return __atomic_load_n(reinterpret_cast<const T*>(host), __ATOMIC_RELAXED);
}

template <typename T>
bool replace_shared(u8* host, u64 expected, u64 desired) {
  auto old = static_cast<T>(expected);
  return __atomic_compare_exchange_n(reinterpret_cast<T*>(host), &old, static_cast<T>(desired), false,
                                     __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

u64 Walk::read_entry(GuestPhysical address, unsigned bytes) {
  entry_bytes_ = bytes;
  const u8* host = memory_.host(address, false);
  u64 value = low_bytes_mask(bytes);
  if (host != nullptr) value = bytes == 8 ? load_shared<u64>(host) : load_shared<u32>(host);
  steps_[depth_++] = {address, value};
  return value;
}

// Physical-address bits that the processor does not have, and NX while EFER.NXE is clear.
u64 Walk::reserved_bits() const {
  u64 reserved = kFrameMask & ~((u64{1} << kPhysicalAddressBits) - 1);
  if ((state_.efer & Efer::NXE) == 0) reserved |= Pte::NX;
  return reserved;
}

Walk::Found Walk::examine(u64 entry, u64 reserved, bool is_leaf) {
  if ((entry & Pte::P) == 0) {
    reason_ = 0;
    return Found::Bad;
  }
  if ((entry & reserved) != 0) {
    reason_ = PageFaultCode::P | PageFaultCode::RSVD;
    return Found::Bad;
  }
  writable_ = writable_ && (entry & Pte::RW) != 0;
  user_ = user_ && (entry & Pte::US) != 0;
  no_execute_ = no_execute_ || (entry_bytes_ == 8 && (entry & Pte::NX) != 0);
  return is_leaf ? Found::Leaf : Found::Table;
}

PageFault Walk::fault(u32 bits) const {
  if (type_ == AccessType::Write) bits |= PageFaultCode::W;
  if (privilege_ == Privilege::User) bits |= PageFaultCode::U;
  const bool nx = (state_.cr4 & Cr4::PAE) != 0 && (state_.efer & Efer::NXE) != 0;
  if (type_ == AccessType::Execute && (nx || (state_.cr4 & Cr4::SMEP) != 0)) bits |= PageFaultCode::I;
  return {bits, GuestLinear(linear_)};
}

bool Walk::write_allowed() const {
  if (writable_) return true;
  return privilege_ != Privilege::User && (state_.cr0 & Cr0::WP) == 0;
}

// SDM vol. 3, 4.6.2: data of user pages, whoever asks.
bool Walk::key_denies(bool write) const {
  constexpr u32 kAccess = 1, kWrite = 2;
  if (!keyed_ || !user_ || type_ == AccessType::Execute) return false;
  const u32 rights = state_.pkru >> (2 * key_);
  if ((rights & kAccess) != 0) return true;
  return write && (rights & kWrite) != 0 && (privilege_ == Privilege::User || (state_.cr0 & Cr0::WP) != 0);
}

// SDM vol. 3, 4.6.1.
bool Walk::allowed() const {
  if (privilege_ == Privilege::User && !user_) return false;
  if (type_ == AccessType::Execute) {
    if (no_execute_) return false;
    return privilege_ == Privilege::User || !user_ || (state_.cr4 & Cr4::SMEP) == 0;
  }
  if (privilege_ != Privilege::User && user_ && (state_.cr4 & Cr4::SMAP) != 0) {
    if (privilege_ == Privilege::Implicit || (state_.rflags & Rflags::AC) == 0) return false;
  }
  if (key_denies(type_ == AccessType::Write)) return false;
  return type_ == AccessType::Read || write_allowed();
}

// Sets `bits` in an entry, atomically with respect to other processors. False when it changed meanwhile.
bool Walk::mark(const Step& step, u64 bits) {
  if ((step.value & bits) == bits) return true;
  if (!marks_) return false;
  u8* host = memory_.host(step.address, true);
  if (host == nullptr) return true;  // a table in ROM: nothing to mark
  const u64 desired = step.value | bits;
  const bool done = entry_bytes_ == 8 ? replace_shared<u64>(host, step.value, desired)
                                      : replace_shared<u32>(host, step.value, desired);
  if (!done) return false;
  if (observer_ != nullptr) observer_->table_marked(step.address);
  u8* flags = memory_.page_flags(step.address);
  if (flags != nullptr) {
    const u8 old = __atomic_fetch_or(flags, memory::PageFlag::dirty, __ATOMIC_RELAXED);
    if ((old & memory::PageFlag::code) != 0 && observer_ != nullptr) {
      observer_->code_written(step.address, entry_bytes_);
    }
  }
  return true;
}

Result<Translation, PageFault> Walk::finish(u64 frame, u64 page_bytes) {
  key_ = static_cast<unsigned>(steps_[depth_ - 1].value >> kKeyShift & 15);
  // The key's part is told whatever else forbids the access. SDM vol. 3, 4.7.
  if (!allowed()) return fault(PageFaultCode::P | (key_denies(type_ == AccessType::Write) ? PageFaultCode::PK : 0));
  for (unsigned i = 0; i < depth_; ++i) {
    const bool leaf = i + 1 == depth_;
    const u64 bits = Pte::A | (leaf && type_ == AccessType::Write ? Pte::D : 0);
    if (!mark(steps_[i], bits)) {
      retry_ = true;
      return fault(0);
    }
  }
  const u64 leaf = steps_[depth_ - 1].value;
  Translation result;
  result.address = GuestPhysical(frame + (linear_ & (page_bytes - 1)));
  result.page_bytes = page_bytes;
  result.writable = write_allowed() && !key_denies(true) && (type_ == AccessType::Write || (leaf & Pte::D) != 0);
  result.executable =
      !no_execute_ && (privilege_ == Privilege::User ? user_ : !user_ || (state_.cr4 & Cr4::SMEP) == 0);
  result.user = user_;
  result.global = (leaf & Pte::G) != 0 && (state_.cr4 & Cr4::PGE) != 0;
  return result;
}

Result<Translation, PageFault> Walk::four_level() {
  u64 table = state_.cr3 & kFrameMask;
  const u64 reserved = reserved_bits();
  for (unsigned level = 4; level >= 1; --level) {
    const unsigned shift = 12 + 9 * (level - 1);
    const u64 entry = read_entry(GuestPhysical(table + (linear_ >> shift & 0x1ff) * 8), 8);
    const bool is_leaf = level == 1 || ((entry & Pte::PS) != 0 && level <= 3);
    u64 bad = reserved;
    if (level == 4) bad |= Pte::PS;
    // A large page's frame is aligned to its size; bit 12 is its PAT bit.
    if (is_leaf && level > 1) bad |= ((u64{1} << shift) - 1) & ~u64{0x1fff};
    switch (examine(entry, bad, is_leaf)) {
      case Found::Bad:
        return fault(reason_);
      case Found::Leaf:
        return finish(entry & kFrameMask & ~((u64{1} << shift) - 1), u64{1} << shift);
      case Found::Table:
        table = entry & kFrameMask;
        break;
    }
  }
  return fault(0);  // not reached: level 1 is a leaf
}

Result<Translation, PageFault> Walk::pae() {
  const u64 pdpte = state_.pdpte[linear_ >> 30 & 3];
  if ((pdpte & Pte::P) == 0) return fault(0);
  u64 table = pdpte & kFrameMask;
  const u64 reserved = reserved_bits() | 0x7ff0000000000000;  // 62..52 are reserved outside long mode
  for (unsigned level = 2; level >= 1; --level) {
    const unsigned shift = 12 + 9 * (level - 1);
    const u64 entry = read_entry(GuestPhysical(table + (linear_ >> shift & 0x1ff) * 8), 8);
    const bool is_leaf = level == 1 || (entry & Pte::PS) != 0;
    const u64 bad = reserved | (is_leaf && level == 2 ? u64{0x1fe000} : 0);
    switch (examine(entry, bad, is_leaf)) {
      case Found::Bad:
        return fault(reason_);
      case Found::Leaf:
        return finish(entry & kFrameMask & ~((u64{1} << shift) - 1), u64{1} << shift);
      case Found::Table:
        table = entry & kFrameMask;
        break;
    }
  }
  return fault(0);  // not reached
}

Result<Translation, PageFault> Walk::two_level() {
  const u64 pde = read_entry(GuestPhysical((state_.cr3 & 0xfffff000) + (linear_ >> 22 & 0x3ff) * 4), 4);
  const bool large = (pde & Pte::PS) != 0 && (state_.cr4 & Cr4::PSE) != 0;
  if (examine(pde, large ? u64{1} << 21 : 0, large) == Found::Bad) return fault(reason_);
  // PSE-36: bits 20..13 of a 4 MiB entry are bits 39..32 of the frame. SDM vol. 3, table 4-4.
  if (large) return finish((pde & 0xffc00000) | (pde >> 13 & 0xff) << 32, u64{4} << 20);
  const u64 pte = read_entry(GuestPhysical((pde & 0xfffff000) + (linear_ >> 12 & 0x3ff) * 4), 4);
  if (examine(pte, 0, true) == Found::Bad) return fault(reason_);
  return finish(pte & 0xfffff000, 4096);
}

Result<Translation, PageFault> walk_once(Walk& walk, const State& state) {
  if (state.long_mode_active()) return walk.four_level();
  if ((state.cr4 & Cr4::PAE) != 0) return walk.pae();
  return walk.two_level();
}

Translation untranslated(u64 linear) {
  Translation result;
  result.address = GuestPhysical(linear & 0xffffffff);
  result.writable = true;
  result.executable = true;
  return result;
}

}  // namespace

Result<Translation, PageFault> walk(const State& state, const memory::AddressSpace& memory,
                                    TranslationObserver* observer, GuestLinear address, AccessType type,
                                    Privilege privilege) {
  if ((state.cr0 & Cr0::PG) == 0) return untranslated(address.value());
  // Another processor may change a table between our look and our mark; each retry means that it did.
  for (unsigned attempt = 0;; ++attempt) {
    Walk one(state, memory, observer, address.value(), type, privilege);
    Result<Translation, PageFault> result = walk_once(one, state);
    if (!one.must_retry()) return result;
    // A guest that keeps rewriting its tables gets a spurious fault rather than our time.
    if (attempt == 1000) return result;
  }
}

Result<Translation, PageFault> glance(const State& state, const memory::AddressSpace& memory,
                                      GuestLinear address, AccessType type, Privilege privilege) {
  if ((state.cr0 & Cr0::PG) == 0) return untranslated(address.value());
  Walk one(state, memory, nullptr, address.value(), type, privilege);
  one.mark_nothing();
  return walk_once(one, state);
}

}  // namespace nacre::cpu
