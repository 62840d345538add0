// What a PC's BIOS leaves below 1 MiB for kernels that boot loaders start. Freestanding.
#pragma once

#include "board/boot/boot.hpp"

namespace nacre::board::boot {

// The BIOS data area (0x400) with the serial port and the size of conventional memory, the extended one, and an interrupt
// table whose services all fail: carry set, nothing else changed. Hypervisors look for the end of conventional memory there,
// and go back to real mode to ask about disks and screens. IBM PS/2 and PC BIOS Interface Technical Reference, sections 2 and 3.
void write_bios_data(const Machine& machine);

}  // namespace nacre::board::boot
