#include "engine/direct/page_scan.hpp"

#include <cstring>

#include "x86/instruction.hpp"

namespace nacre::direct {

namespace {

// Grave: a program that had it natively would be told something wrong about its machine. Slight: kernels keep
// programs from these, or the host's kernel answers as the guest's would; and their bytes are common in
// distances and constants.
enum class Kind : u8 { None, Slight, Grave };

// After 0F 01.
Kind group7(u8 modrm) {
  switch (modrm) {
    case 0xc1:  // VMCALL
    case 0xd0:  // XGETBV
    case 0xd9:  // VMMCALL
    case 0xee:  // RDPKRU
    case 0xef:  // WRPKRU
    case 0xf9:  // RDTSCP: TSC_AUX
    case 0xfd:  // RDPRU
      return Kind::Grave;
    default:
      break;
  }
  const unsigned reg = (modrm >> 3) & 7;
  const bool shows_tables = modrm < 0xc0 ? reg == 0 || reg == 1 || reg == 4 : reg == 4;  // SGDT, SIDT, SMSW
  return shows_tables ? Kind::Slight : Kind::None;
}

Kind kind_of(u8 opcode, u8 modrm) {
  switch (opcode) {
    case 0xa2:  // CPUID
    case 0x34:  // SYSENTER
      return Kind::Grave;
    case 0x01:
      return group7(modrm);
    case 0xc7:
      return modrm >= 0xf8 ? Kind::Grave : Kind::None;  // RDPID (and RDSEED: the prefix may be anywhere)
    case 0x00:
      return (modrm & 0x38) <= 0x08 ? Kind::Slight : Kind::None;  // SLDT, STR
    case 0x02:                                                    // LAR
    case 0x03:                                                    // LSL
      return Kind::Slight;
    default:
      return Kind::None;
  }
}

bool is_prefix(u8 byte) {
  switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
      return true;
    default:
      return (byte & 0xf0) == 0x40;
  }
}

// What compilers and people write for programs. Data that is decoded soon comes to something else, or to what
// is undefined; so bytes before which there is only this are code. It may turn down code, too: that only
// costs speed.
bool is_likely(const x86::Instruction& instruction, const u8* bytes) {
  using x86::Class;
  if ((instruction.info->attributes & x86::OpcodeAttribute::privileged) != 0) return false;
  if (instruction.address_size_prefix || (bytes[0] == 0 && bytes[1] == 0))
    return false;  // add [rax], al: zeros
  switch (instruction.info->kind) {
    case Class::Invalid:
    case Class::PortIo:
      return false;
    case Class::FarBranch:
      return bytes[0] == 0xcc;  // filling
    default:
      break;
  }
  // Segments that mean nothing: in the long forms of NOP only.
  for (unsigned i = 0; i < instruction.opcode_offset; i++) {
    const bool idle = bytes[i] == 0x26 || bytes[i] == 0x2e || bytes[i] == 0x36 || bytes[i] == 0x3e;
    if (idle && instruction.info->operation != x86::Operation::Nop) return false;
  }
  return true;
}

enum class Place : u8 { Instruction, Inside, Doubtful };

// Lengths of instructions by where they begin, found when asked for.
class Boundaries {
 public:
  explicit Boundaries(const u8* page) : page_(page) {}

  // Whether an instruction begins at `at`: whatever of the fifteen possible beginnings some way before it
  // one starts from. Beginnings from which something unlikely follows are not code.
  Place place(usize at) {
    constexpr usize kWay = 160;
    const usize from = at > kWay ? at - kWay : 0;
    if (at - from < 2 * x86::kMaxInstructionLength) return Place::Doubtful;
    unsigned hits = 0, misses = 0;
    for (usize start = from; start < from + x86::kMaxInstructionLength; start++) {
      usize now = start;
      unsigned length = 1;
      while (now < at && (length = length_at(now)) != kUndefined && !is_own_prefix(now, at)) now += length;
      if (length == kUndefined) continue;
      (now == at || is_own_prefix(now, at) ? hits : misses)++;
    }
    if (hits != 0 && misses == 0) return goes_on(at) ? Place::Instruction : Place::Doubtful;
    return hits == 0 && misses != 0 ? Place::Inside : Place::Doubtful;
  }

 private:
  static constexpr u8 kUndefined = 0xff;

  // Some likely instructions follow.
  bool goes_on(usize at) {
    constexpr unsigned kSome = 6;
    for (unsigned i = 0; i < kSome && at + x86::kMaxInstructionLength <= kPageSize; i++) {
      const unsigned length = length_at(at);
      if (length == kUndefined) return false;
      at += length;
    }
    return true;
  }

  // Prefixes of the instruction at `at`, and nothing else, begin at `now`.
  [[nodiscard]] bool is_own_prefix(usize now, usize at) const {
    if (now >= at || at - now >= x86::kMaxInstructionLength) return false;
    for (usize i = now; i < at; i++) {
      if (!is_prefix(page_[i])) return false;
    }
    return true;
  }

  u8 length_at(usize at) {
    if (length_[at] == 0) {
      x86::Instruction instruction;
      const auto status = x86::decode(page_ + at, kPageSize - at, x86::CodeSize::Bits64, instruction);
      const bool good = status == x86::DecodeStatus::Ok && is_likely(instruction, page_ + at);
      length_[at] = good ? instruction.length : kUndefined;
    }
    return length_[at];
  }

  const u8* page_;
  u8 length_[kPageSize] = {};
};

}  // namespace

PageVerdict scan_page(std::span<const u8, kPageSize> page) {
  PageVerdict verdict;
  Boundaries boundaries(page.data());
  const u8* const start = page.data();
  const u8* const end = start + page.size();
  for (const u8* at = start; at + 1 < end; at++) {
    at = static_cast<const u8*>(std::memchr(at, 0x0f, static_cast<usize>(end - at)));
    if (at == nullptr || at + 1 >= end) break;
    const Kind kind = kind_of(at[1], at + 2 < end ? at[2] : u8{0x90});
    if (kind == Kind::None) continue;
    const auto offset = static_cast<u16>(at - start);
    const Place place = boundaries.place(offset);
    if (place == Place::Instruction) {
      if (verdict.patches == kMostPatches) return {.may_run = false};
      verdict.patch[verdict.patches++] = static_cast<u16>(offset + 1);
    } else if (kind == Kind::Grave) {
      return {.may_run = false};
    }
  }
  return verdict;
}

bool seam_holds_refused(std::span<const u8, kSeam> last, std::span<const u8, kSeam> first) {
  const auto grave = [](u8 escape, u8 opcode, u8 modrm) {
    return escape == 0x0f && kind_of(opcode, modrm) == Kind::Grave;
  };
  return grave(last[0], last[1], first[0]) || grave(last[1], first[0], first[1]);
}

}  // namespace nacre::direct
