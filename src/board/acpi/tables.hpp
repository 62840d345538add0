// The ACPI tables of this PC: RSDP, XSDT, FADT, FACS, DSDT, MADT, MCFG. ACPI 6.4, chapter 5; PCI
// Firmware Specification 3.3, 4.1.2 for MCFG. Freestanding.
#pragma once

#include <span>

#include "base/result.hpp"

namespace nacre::board::acpi {

struct Machine {
  unsigned processors = 1;    // up to 256
  unsigned serial_ports = 1;  // 1: COM1; 2: COM2 too
  u8 last_bus = 0;            // of PCI. Guests look at every place of every bus up to it
};

// Builds all of them into `to`, whose first byte the guest sees at `guest_base` (below 4 GiB, 64-byte
// aligned); the RSDP comes first. Error when they do not fit.
Status build_tables(std::span<u8> to, u32 guest_base, const Machine& machine);

// The DSDT's AML alone, without the table header. Returns its length; 0 when it does not fit.
usize build_dsdt(std::span<u8> to, const Machine& machine);

}  // namespace nacre::board::acpi
