// One loader a format. Each takes what boot::load takes. Freestanding.
#pragma once

#include "board/boot/boot.hpp"
#include "board/boot/elf.hpp"
#include "board/boot/linux_params.hpp"

namespace nacre::board::boot {

// Linux, compressed as it is (it decompresses itself), or what else comes in that form.
bool is_bzimage(Bytes kernel);
struct LinuxImage {
  SetupHeader header;
  Bytes code;  // the protected-mode part
};
// is_bzimage() holds. Error when it can be entered in real mode only; parse_bzimage: or is cut short.
Result<SetupHeader> parse_setup_header(Bytes kernel);
Result<LinuxImage> parse_bzimage(Bytes kernel);
[[nodiscard]] bool has_64_bit_entry(const SetupHeader& header);
Status load_bzimage(const Machine& machine, const Request& request, cpu::State& state);

// An uncompressed x86-64 Linux, entered at its 64-bit entry point. `header` is that of the bzImage it came
// out of, or default_setup_header().
Status load_vmlinux64(const Machine& machine, const Request& request, const SetupHeader& header,
                      cpu::State& state);

Status load_pvh(const Machine& machine, const Request& request, cpu::State& state);

// Offset of the multiboot 1 header, or -1.
i64 find_multiboot_header(Bytes kernel);
Status load_multiboot(const Machine& machine, const Request& request, cpu::State& state);

}  // namespace nacre::board::boot
