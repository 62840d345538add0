// The page walker: guest-linear to guest-physical, with permission checks and accessed/dirty bits, for
// no paging, 32-bit (with PSE), PAE and 4-level paging. It caches nothing. SDM vol. 3, chapter 4.
// Freestanding; owned by the vCPU's thread.
#pragma once

#include "base/address.hpp"
#include "base/result.hpp"
#include "cpu/platform.hpp"
#include "cpu/state.hpp"
#include "memory/address_space.hpp"

namespace nacre::cpu {

// MAXPHYADDR of every processor we show (CPUID 8000_0008H says the same). SDM vol. 3, 4.1.4.
inline constexpr unsigned kPhysicalAddressBits = 46;

enum class AccessType : u8 { Read, Write, Execute };

// Who asks. Implicit: descriptor-table, TSS and similar accesses, supervisor whatever the CPL, never
// let through SMAP by RFLAGS.AC.
enum class Privilege : u8 { Supervisor, User, Implicit };

struct PageFault {
  u32 error_code = 0;  // x86::PageFaultCode
  GuestLinear address;
};

struct Translation {
  GuestPhysical address;    // of the byte asked for
  u64 page_bytes = 4096;    // 4 KiB, 2 MiB, 4 MiB or 1 GiB; the whole linear range when paging is off: 4 KiB
  bool writable = false;    // page tables allow a write by this privilege, and D is already set
  bool executable = false;  // … a fetch by this privilege
  bool user = false;        // U/S set at every level
  bool global = false;      // survives MOV CR3
};

// Translates one byte's address. Sets A (and D for writes) in the tables on success only. Non-canonical
// addresses are the caller's matter (#GP or #SS, not #PF). A table outside RAM reads as all ones.
Result<Translation, PageFault> walk(const State& state, const memory::AddressSpace& memory,
                                    TranslationObserver* observer, GuestLinear address, AccessType type,
                                    Privilege privilege);

// The same, but marks nothing: where walk() would set A or D it says that there is a fault.
Result<Translation, PageFault> glance(const State& state, const memory::AddressSpace& memory,
                                      GuestLinear address, AccessType type, Privilege privilege);

}  // namespace nacre::cpu
