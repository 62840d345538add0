// Linux's boot_params ("zero page") and setup header, as far as a loader fills them in. Linux,
// Documentation/arch/x86/boot.rst and zero-page.rst. Freestanding.
#pragma once

#include "board/boot/boot.hpp"
#include "board/boot/placer.hpp"

namespace nacre::board::boot {

struct [[gnu::packed]] SetupHeader {  // at 0x1f1 of the file and of boot_params
  u8 setup_sects;
  u16 root_flags;
  u32 syssize;
  u16 ram_size, vid_mode, root_dev, boot_flag;
  u16 jump;
  u32 header;
  u16 version;
  u32 realmode_swtch;
  u16 start_sys_seg, kernel_version;
  u8 type_of_loader, loadflags;
  u16 setup_move_size;
  u32 code32_start, ramdisk_image, ramdisk_size, bootsect_kludge;
  u16 heap_end_ptr;
  u8 ext_loader_ver, ext_loader_type;
  u32 cmd_line_ptr, initrd_addr_max, kernel_alignment;
  u8 relocatable_kernel, min_alignment;
  u16 xloadflags;
  u32 cmdline_size, hardware_subarch;
  u64 hardware_subarch_data;
  u32 payload_offset, payload_length;
  u64 setup_data, pref_address;
  u32 init_size, handover_offset, kernel_info_offset;
};
inline constexpr u64 kSetupHeaderOffset = 0x1f1;
static_assert(kSetupHeaderOffset + __builtin_offsetof(SetupHeader, boot_flag) == 0x1fe);
static_assert(kSetupHeaderOffset + __builtin_offsetof(SetupHeader, code32_start) == 0x214);
static_assert(kSetupHeaderOffset + __builtin_offsetof(SetupHeader, xloadflags) == 0x236);
static_assert(kSetupHeaderOffset + __builtin_offsetof(SetupHeader, pref_address) == 0x258);
static_assert(kSetupHeaderOffset + sizeof(SetupHeader) == 0x26c);

struct LoadFlags {
  static constexpr u8 LOADED_HIGH = 1 << 0, KASLR_FLAG = 1 << 1;
};
struct XLoadFlags {
  static constexpr u16 XLF_KERNEL_64 = 1 << 0, XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1;
};
inline constexpr u16 kBootFlag = 0xaa55;
inline constexpr u32 kHdrS = 0x53726448;

// The header of a vmlinux that comes without one: protocol 2.15, everything a 64-bit kernel can do.
SetupHeader default_setup_header();

// Places the initial RAM disk (as high as header.initrd_addr_max and RAM below 4 GiB allow), the command
// line, and boot_params with `header` completed and the E820 table; returns the address of boot_params.
Result<u64> place_boot_params(const Machine& machine, Placer& placer, SetupHeader header,
                              const Request& request);

}  // namespace nacre::board::boot
