// Control registers. SDM vol. 3, 2.5 (bits), 4.1.2 (paging-mode changes), 4.4.1 (PAE PDPTEs), 4.10.4
// (what flushes).
#include "interp/control_registers.hpp"

#include "cpu/model.hpp"

namespace nacre::interp {
namespace {

using x86::Cr0;
using x86::Cr4;
using x86::Efer;

constexpr u64 kCr0Writable =
    Cr0::PE | Cr0::MP | Cr0::EM | Cr0::TS | Cr0::NE | Cr0::WP | Cr0::AM | Cr0::NW | Cr0::CD | Cr0::PG;
constexpr u64 kPhysicalMask = (u64{1} << cpu::kPhysicalAddressBits) - 1;

bool uses_pae_pdptes(u64 cr0, u64 cr4, u64 efer) {
  return (cr0 & Cr0::PG) != 0 && (cr4 & Cr4::PAE) != 0 && (efer & Efer::LME) == 0;
}

// The four entries are loaded at once, and checked at once.
bool load_pdptes(Core& core, u64 cr3) {
  constexpr u64 reserved = 0x1e6 | ~kPhysicalMask;
  u64 entries[4] = {};
  for (unsigned n = 0; n < 4; ++n) {
    const u8* host = core.memory.host(GuestPhysical((cr3 & 0xffffffe0) + 8 * n), false);
    entries[n] = host == nullptr ? ~u64{0} : load_host(host, 8);
    if ((entries[n] & x86::Pte::P) != 0 && (entries[n] & reserved) != 0) return core.general_protection();
  }
  for (unsigned n = 0; n < 4; ++n) core.state->pdpte[n] = entries[n];
  return true;
}

}  // namespace

bool set_cr0(Core& core, u64 value) {
  State& s = *core.state;
  if (value >> 32 != 0) return core.general_protection();
  value = (value & kCr0Writable) | Cr0::ET;
  const u64 changed = value ^ s.cr0;
  if ((value & Cr0::PG) != 0 && (value & Cr0::PE) == 0) return core.general_protection();
  if ((value & Cr0::NW) != 0 && (value & Cr0::CD) == 0) return core.general_protection();
  u64 efer = s.efer;
  if ((changed & Cr0::PG) != 0) {
    const bool on = (value & Cr0::PG) != 0;
    if (on && (efer & Efer::LME) != 0) {
      const bool long_code = (s.segment[x86::CS].attributes & SegmentAttributes::L) != 0;
      if ((s.cr4 & Cr4::PAE) == 0 || long_code) return core.general_protection();
      efer |= Efer::LMA;
    }
    if (!on) {
      if (core.code64 || (s.cr4 & Cr4::PCIDE) != 0) return core.general_protection();
      efer &= ~Efer::LMA;
    }
  }
  constexpr u64 reloads = Cr0::PG | Cr0::CD | Cr0::NW;
  if ((changed & reloads) != 0 && uses_pae_pdptes(value, s.cr4, efer) && !load_pdptes(core, s.cr3))
    return false;
  s.cr0 = value;
  s.efer = efer;
  // Leaving protected mode keeps CS, but its privilege is now 0.
  core.refresh_mode();
  if ((changed & (Cr0::PG | Cr0::WP | Cr0::PE)) != 0) core.flush_all();
  return true;
}

bool set_cr3(Core& core, u64 value) {
  State& s = *core.state;
  const bool tagged = (s.cr4 & Cr4::PCIDE) != 0;
  const bool keep = tagged && (value & x86::Cr3::no_flush) != 0;
  if (s.long_mode_active()) {
    if (tagged) value &= ~x86::Cr3::no_flush;
    if ((value & ~kPhysicalMask) != 0) return core.general_protection();
  } else {
    value &= 0xffffffff;
    if (uses_pae_pdptes(s.cr0, s.cr4, s.efer) && !load_pdptes(core, value)) return false;
  }
  const u64 before = s.cr3;
  s.cr3 = value;
  if (tagged) {
    constexpr u64 kPcid = x86::Cr3::pcid_mask;
    core.switch_space(static_cast<u16>(before & kPcid), static_cast<u16>(value & kPcid), keep);
  } else {
    core.flush_non_global();
  }
  return true;
}

bool set_cr4(Core& core, u64 value) {
  State& s = *core.state;
  if ((value & ~core.model.cr4_mask()) != 0) return core.general_protection();
  const u64 changed = value ^ s.cr4;
  if (s.long_mode_active() && ((value & Cr4::PAE) == 0 || (changed & Cr4::LA57) != 0))
    return core.general_protection();
  if ((changed & value & Cr4::PCIDE) != 0 && (!s.long_mode_active() || (s.cr3 & 0xfff) != 0)) {
    return core.general_protection();
  }
  constexpr u64 paging = Cr4::PGE | Cr4::PAE | Cr4::PSE | Cr4::PCIDE | Cr4::SMEP | Cr4::SMAP | Cr4::PKE;
  if ((changed & paging) != 0 && uses_pae_pdptes(s.cr0, value, s.efer) && !load_pdptes(core, s.cr3))
    return false;
  s.cr4 = value;
  if ((changed & paging) != 0) core.flush_all();
  return true;
}

bool set_efer(Core& core, u64 value) {
  State& s = *core.state;
  if ((value & ~(core.model.efer_mask() | Efer::LMA)) != 0) return core.general_protection();
  value = (value & ~Efer::LMA) | (s.efer & Efer::LMA);  // LMA is the processor's
  const u64 changed = value ^ s.efer;
  if ((changed & Efer::LME) != 0 && (s.cr0 & Cr0::PG) != 0) return core.general_protection();
  s.efer = value;
  if ((changed & Efer::NXE) != 0) core.flush_all();
  return true;
}

}  // namespace nacre::interp
