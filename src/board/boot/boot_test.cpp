// The loaders on images made here, each field checked where the protocol says the kernel looks for it,
// and what they say about images that are wrong.
#include "board/boot/boot.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "board/boot/loaders.hpp"
#include "board/boot/test_machine.hpp"

namespace nacre::board::boot {
namespace {

using ::testing::HasSubstr;
using Attr = cpu::SegmentAttributes;

std::string error_of(const Status& status) {
  return status.ok() ? "" : status.error().message();
}

std::string load_error(const Image& kernel, u64 memory = 64 * kMiB, Request request = {}) {
  TestMachine machine(memory);
  cpu::State state;
  request.kernel = kernel;
  return error_of(load(machine.machine(), request, state));
}

TEST(Detect, knows_each_format) {
  EXPECT_EQ(detect(make_bzimage()), Format::BzImage);
  EXPECT_EQ(detect(make_elf({.pvh_entry = kMiB})), Format::Pvh);
  EXPECT_EQ(detect(make_elf({.is_64 = false, .pvh_entry = kMiB})), Format::Pvh);
  EXPECT_EQ(detect(make_elf({})), Format::Vmlinux64);
  EXPECT_EQ(detect(make_elf({.is_64 = false})), Format::Unknown);
  Image multiboot = make_elf({.is_64 = false});
  put_multiboot_header(multiboot, 0x1000, 3);
  EXPECT_EQ(detect(multiboot), Format::Multiboot);
  Image flat(4096);
  put_multiboot_header(flat, 0x20, 1 << 16);
  EXPECT_EQ(detect(flat), Format::Multiboot);
  EXPECT_EQ(detect({}), Format::Unknown);
  EXPECT_EQ(detect(Image(100000, 0x5a)), Format::Unknown);
}

TEST(BzImage, is_loaded_where_it_prefers_and_entered_in_64_bit_mode) {
  TestMachine machine(64 * kMiB);
  const Image kernel = make_bzimage();
  cpu::State state;
  ASSERT_EQ(error_of(load(machine.machine(), {.kernel = kernel, .command_line = "console=ttyS0"}, state)),
            "");

  EXPECT_EQ(machine.at<u8>(16 * kMiB + 5), kernel[1024 + 5]);
  EXPECT_EQ(machine.at<u8>(16 * kMiB + 0x1fff), kernel.back());
  EXPECT_EQ(state.rip, 16 * kMiB + 0x200);
  EXPECT_EQ(state.rflags, 2u);
  EXPECT_TRUE(state.in_64bit_code());
  EXPECT_EQ(state.efer, x86::Efer::LME | x86::Efer::LMA);
  EXPECT_EQ(state.cr0 & (x86::Cr0::PE | x86::Cr0::PG), x86::Cr0::PE | x86::Cr0::PG);
  EXPECT_EQ(state.cr4, x86::Cr4::PAE);
  EXPECT_EQ(state.segment[x86::CS].selector, 0x10);
  EXPECT_EQ(state.segment[x86::SS].selector, 0x18);
  EXPECT_EQ(machine.at<u64>(state.gdtr.base + 0x10), 0x00af9b000000ffffu);
  EXPECT_EQ(machine.at<u64>(state.gdtr.base + 0x18), 0x00cf93000000ffffu);
  EXPECT_GE(state.gdtr.limit, 0x1f);
  EXPECT_EQ(state.cpl(), 0u);

  const u64 params = state.gpr[x86::RSI];
  EXPECT_EQ(machine.at<u64>(params + 0x70), 0xe0000u);  // acpi_rsdp_addr
  EXPECT_EQ(machine.at<u32>(params + 0x202), 0x53726448u);
  EXPECT_EQ(machine.at<u16>(params + 0x206), 0x020f);
  EXPECT_EQ(machine.at<u8>(params + 0x210), 0xff);
  EXPECT_EQ(machine.at<u32>(params + 0x214), 16 * kMiB);
  EXPECT_EQ(machine.at<u32>(params + 0x218), 0u);  // no RAM disk
  EXPECT_EQ(machine.at<u32>(params + 0x21c), 0u);
  EXPECT_EQ(machine.text(machine.at<u32>(params + 0x228)), "console=ttyS0");
}

// Walks the identity map by hand, apart from the code that walks it elsewhere.
TEST(BzImage, maps_the_first_four_gibibytes_one_to_one) {
  TestMachine machine(64 * kMiB);
  const Image kernel = make_bzimage();
  cpu::State state;
  ASSERT_EQ(error_of(load(machine.machine(), {.kernel = kernel}, state)), "");
  for (const u64 address : {u64{0}, 16 * kMiB + 0x200, u64{0xfee00000}, 4 * kGiB - 1}) {
    const u64 pml4e = machine.at<u64>(state.cr3);
    const u64 pdpte = machine.at<u64>((pml4e & ~u64{0xfff}) + 8 * (address >> 30));
    const u64 pde = machine.at<u64>((pdpte & ~u64{0xfff}) + 8 * (address >> 21 & 511));
    EXPECT_EQ(pml4e & 3, 3u);
    EXPECT_EQ(pdpte & 0x83, 3u);
    EXPECT_EQ(pde & 0x83, 0x83u);
    EXPECT_EQ((pde & ~u64{0x1fffff}) | (address & 0x1fffff), address);
  }
  EXPECT_EQ(machine.at<u64>(state.cr3 + 8), 0u);
}

TEST(BzImage, gets_a_sorted_e820_table_with_the_hole_and_the_memory_above_it) {
  for (const u64 memory : {64 * kMiB, 3 * kGiB, 3 * kGiB + 64 * kMiB}) {
    TestMachine machine(memory);
    const Image kernel = make_bzimage();
    cpu::State state;
    ASSERT_EQ(error_of(load(machine.machine(), {.kernel = kernel}, state)), "");
    const u64 params = state.gpr[x86::RSI];
    u64 previous_end = 0, ram = 0;
    for (unsigned i = 0; i < machine.at<u8>(params + 0x1e8); ++i) {
      const u64 entry = params + 0x2d0 + 20 * i;
      const u64 base = machine.at<u64>(entry), size = machine.at<u64>(entry + 8);
      EXPECT_GE(base, previous_end);
      EXPECT_GT(size, 0u);
      if (machine.at<u32>(entry + 16) == 1) {
        ram += size;
        EXPECT_TRUE(base + size <= kLowRamLimit || base >= kHighRamBase);
      }
      previous_end = base + size;
    }
    EXPECT_EQ(ram, memory - (kMiB - kEbdaBase));
  }
}

TEST(BzImage, puts_the_ram_disk_as_high_as_the_kernel_and_ram_allow) {
  const Image initrd(12345, 0xd1);
  for (const auto& [memory, limit, expected] : {std::tuple{64 * kMiB, 0x7fffffffu, 64 * kMiB - 0x4000},
                                                {64 * kMiB, 0x1ffffffu, 32 * kMiB - 0x4000},
                                                {3 * kGiB + 64 * kMiB, 0x7fffffffu, 2 * kGiB - 0x4000}}) {
    TestMachine machine(memory);
    Image kernel = make_bzimage();
    put<u32>(kernel, 0x22c, limit);
    cpu::State state;
    ASSERT_EQ(error_of(load(machine.machine(), {.kernel = kernel, .initrd = initrd}, state)), "");
    const u64 params = state.gpr[x86::RSI];
    EXPECT_EQ(machine.at<u32>(params + 0x218), expected);
    EXPECT_EQ(machine.at<u32>(params + 0x21c), initrd.size());
    EXPECT_EQ(machine.at<u8>(expected), 0xd1);
    EXPECT_EQ(machine.at<u8>(expected + initrd.size() - 1), 0xd1);
  }
}

TEST(BzImage, moves_down_when_ram_ends_before_where_it_wants_to_be) {
  TestMachine machine(16 * kMiB);
  const Image kernel = make_bzimage();
  cpu::State state;
  ASSERT_EQ(error_of(load(machine.machine(), {.kernel = kernel}, state)), "");
  EXPECT_EQ(state.rip, 2 * kMiB + 0x200);
  EXPECT_EQ(machine.at<u8>(2 * kMiB + 77), kernel[1024 + 77]);
}

// boot.rst, "32-bit Boot Protocol".
TEST(BzImage, is_entered_in_32_bit_mode_if_it_has_no_64_bit_entry) {
  TestMachine machine(64 * kMiB);
  Image kernel = make_bzimage();
  put<u16>(kernel, 0x236, 0);
  put<u32>(kernel, 0x214, 0x100010);
  cpu::State state;
  state.gpr[x86::RBX] = state.gpr[x86::RBP] = state.gpr[x86::RDI] = 77;
  ASSERT_EQ(error_of(load(machine.machine(), {.kernel = kernel, .command_line = "a=b"}, state)), "");

  EXPECT_EQ(machine.at<u8>(16 * kMiB + 5), kernel[1024 + 5]);
  EXPECT_EQ(state.rip, 16 * kMiB + 0x10);
  EXPECT_EQ(state.rflags, 2u);
  EXPECT_EQ(state.cr0 & (x86::Cr0::PE | x86::Cr0::PG), x86::Cr0::PE);
  EXPECT_EQ(state.efer, 0u);
  EXPECT_EQ(state.segment[x86::CS].selector, 0x10);
  for (const auto segment : {x86::SS, x86::DS, x86::ES}) EXPECT_EQ(state.segment[segment].selector, 0x18);
  EXPECT_EQ(machine.at<u64>(state.gdtr.base + 0x10), 0x00cf9b000000ffffu);
  EXPECT_EQ(machine.at<u64>(state.gdtr.base + 0x18), 0x00cf93000000ffffu);
  EXPECT_GE(state.gdtr.limit, 0x1f);
  for (const auto zero : {x86::RBX, x86::RBP, x86::RDI}) EXPECT_EQ(state.gpr[zero], 0u);
  const u64 params = state.gpr[x86::RSI];
  EXPECT_EQ(machine.at<u32>(params + 0x202), 0x53726448u);
  EXPECT_EQ(machine.at<u32>(params + 0x214), 16 * kMiB);
  EXPECT_EQ(machine.text(machine.at<u32>(params + 0x228)), "a=b");
}

// Protocol 2.07 ends before pref_address and init_size: what stands there is code.
TEST(BzImage, of_an_old_protocol_goes_to_one_mebibyte_and_newer_fields_are_not_read) {
  TestMachine machine(16 * kMiB);
  Image kernel = make_bzimage(0x2000, 0x1234567890, 0xffffffff);
  put<u16>(kernel, 0x206, 0x0207);
  put<u32>(kernel, 0x214, 0x100000);
  put<u32>(kernel, 0x230, 12345);
  put<u8>(kernel, 0x234, 0);
  EXPECT_THAT(load_error(kernel), HasSubstr("power of two"));
  put<u16>(kernel, 0x206, 0x0204);
  cpu::State state;
  ASSERT_EQ(error_of(load(machine.machine(), {.kernel = kernel}, state)), "");
  EXPECT_EQ(state.rip, kMiB);
  EXPECT_EQ(machine.at<u8>(kMiB + 0x1fff), kernel.back());
}

TEST(BzImage, need_not_fill_its_last_paragraph) {
  Image kernel = make_bzimage();
  kernel.resize(kernel.size() - 15);
  EXPECT_EQ(load_error(kernel), "");
  kernel.resize(kernel.size() - 1);
  EXPECT_THAT(load_error(kernel), HasSubstr("cut short"));
}

TEST(BzImage, says_what_is_wrong) {
  const Image good = make_bzimage();
  EXPECT_THAT(load_error(good, 4 * kMiB), HasSubstr("give the guest more memory"));
  Image cut = good;
  cut.resize(cut.size() - 100);
  EXPECT_THAT(load_error(cut), HasSubstr("cut short"));
  cut.resize(1030);
  EXPECT_THAT(load_error(cut), HasSubstr("cut short"));
  Image real_mode_only = good;
  put<u16>(real_mode_only, 0x206, 0x0207);
  EXPECT_THAT(load_error(real_mode_only), HasSubstr("real mode only"));
  Image outside = good;
  put<u16>(outside, 0x236, 0);
  put<u32>(outside, 0x214, static_cast<u32>(kMiB + 0x2000));
  EXPECT_THAT(load_error(outside), HasSubstr("cut short"));
  Image low = good;
  put<u8>(low, 0x211, 0);
  EXPECT_THAT(load_error(low), HasSubstr("zImage"));
  Image odd = good;
  put<u32>(odd, 0x230, 12345);
  EXPECT_THAT(load_error(odd), HasSubstr("power of two"));
  Image fixed = good;
  put<u8>(fixed, 0x234, 0);
  EXPECT_THAT(load_error(fixed, 16 * kMiB), HasSubstr("not all RAM"));
  const std::string long_line(3000, 'x');
  EXPECT_THAT(load_error(good, 64 * kMiB, {.command_line = long_line}), HasSubstr("3000 characters"));
  EXPECT_THAT(load_error(good, 64 * kMiB, {.command_line = {"a\0b", 3}}), HasSubstr("zero byte"));
  const Image initrd(80 * kMiB);
  EXPECT_THAT(load_error(good, 64 * kMiB, {.initrd = initrd}),
              HasSubstr("No room for the initial RAM disk of 81920 KiB"));
  const Module module = {.bytes = initrd};
  EXPECT_THAT(load_error(good, 64 * kMiB, {.modules = {&module, 1}}), HasSubstr("takes no modules"));
}

TEST(Load, complains_in_whole_sentences) {
  EXPECT_EQ(load_error(Image(5000, 1)),
            "The kernel file is of no format known here, or is cut short; give a bzImage, vmlinux, PVH or "
            "multiboot kernel.");
  EXPECT_EQ(load_error(make_bzimage(), 4 * kMiB),
            "No room for the Linux kernel of 4096 KiB in a guest of 4 MiB; give the guest more memory.");
}

TEST(Load, refuses_no_kernel_unknown_files_and_impossible_memory) {
  EXPECT_THAT(load_error({}), HasSubstr("empty"));
  EXPECT_THAT(load_error(Image(5000, 1)), HasSubstr("no format known"));
  EXPECT_THAT(load_error(make_elf({.is_64 = false})), HasSubstr("no format known"));
  TestMachine machine(4 * kMiB);
  cpu::State state;
  const Machine small = {machine.machine().memory, kMiB, 0};
  EXPECT_THAT(error_of(load(small, {}, state)), HasSubstr("2 MiB"));
}

TEST(Pvh, is_entered_in_protected_mode_with_the_start_info) {
  for (const bool is_64 : {false, true}) {
    TestMachine machine(64 * kMiB);
    machine.fill(kMiB, 0x3000, 0xcc);
    const Image kernel = make_elf({.is_64 = is_64, .pvh_entry = kMiB + 0x40});
    const Image initrd(5000, 0xd1), extra(10, 0xe2);
    const Module module = {.bytes = extra, .command_line = "extra one"};
    const Request request = {
        .kernel = kernel, .command_line = "quiet", .initrd = initrd, .modules = {&module, 1}};
    cpu::State state;
    ASSERT_EQ(error_of(load(machine.machine(), request, state)), "");

    EXPECT_EQ(state.rip, kMiB + 0x40);
    EXPECT_EQ(state.cr0, x86::Cr0::PE | x86::Cr0::ET);
    EXPECT_EQ(state.cr4, 0u);
    EXPECT_EQ(state.efer, 0u);
    EXPECT_EQ(state.rflags, 2u);
    EXPECT_EQ(state.segment[x86::CS].attributes, 0xb | Attr::S | Attr::P | Attr::DB | Attr::G);
    EXPECT_EQ(state.segment[x86::DS].attributes, 0x3 | Attr::S | Attr::P | Attr::DB | Attr::G);
    EXPECT_EQ(state.segment[x86::ES].limit, 0xffffffffu);
    EXPECT_EQ(state.tr.limit, 0x67u);
    EXPECT_EQ(machine.at<u8>(kMiB + 0xfff), kernel[0x1fff]);
    EXPECT_EQ(machine.at<u8>(kMiB + 0x1000), 0);  // BSS is cleared
    EXPECT_EQ(machine.at<u8>(kMiB + 0x2fff), 0);

    const u64 info = state.gpr[x86::RBX];
    EXPECT_EQ(machine.at<u32>(info), 0x336ec578u);
    EXPECT_EQ(machine.at<u32>(info + 4), 1u);
    EXPECT_EQ(machine.text(machine.at<u64>(info + 24)), "quiet");
    EXPECT_EQ(machine.at<u64>(info + 32), 0xe0000u);
    ASSERT_EQ(machine.at<u32>(info + 12), 2u);
    const u64 modules = machine.at<u64>(info + 16);
    EXPECT_EQ(machine.at<u64>(modules + 8), 5000u);
    EXPECT_EQ(machine.at<u8>(machine.at<u64>(modules) + 4999), 0xd1);
    EXPECT_EQ(machine.at<u64>(modules + 32 + 8), 10u);
    EXPECT_EQ(machine.text(machine.at<u64>(modules + 32 + 16)), "extra one");
    const u64 map = machine.at<u64>(info + 40);
    EXPECT_EQ(machine.at<u32>(info + 48), 5u);
    EXPECT_EQ(machine.at<u64>(map + 3 * 24), kMiB);
    EXPECT_EQ(machine.at<u64>(map + 3 * 24 + 8), 63 * kMiB);
    EXPECT_EQ(machine.at<u32>(map + 3 * 24 + 16), 1u);
  }
}

TEST(Pvh, says_what_is_wrong) {
  EXPECT_THAT(load_error(make_elf({.pvh_entry = 5})), HasSubstr("in none of the kernel's segments"));
  EXPECT_THAT(load_error(make_elf({.physical = 0x9f000, .pvh_entry = 0x9f000})), HasSubstr("not all RAM"));
  EXPECT_THAT(load_error(make_elf({.physical = 63 * kMiB, .memory_size = 2 * kMiB, .pvh_entry = 63 * kMiB})),
              HasSubstr("not all RAM"));
  EXPECT_THAT(load_error(make_elf({.entry = ~u64{0xfff}, .physical = ~u64{0xfff}, .memory_size = 0x2000})),
              HasSubstr("past the end of the address space"));
  EXPECT_THAT(load_error(make_elf({.memory_size = 8, .pvh_entry = kMiB})), HasSubstr("larger in the file"));
  Image cut = make_elf({.pvh_entry = kMiB});
  cut.resize(0x1800);
  EXPECT_THAT(load_error(cut), HasSubstr("past the end of the file"));
  Image twice = make_elf({.pvh_entry = kMiB});  // a third header that loads over the first
  put<u16>(twice, 56, 3);
  std::copy_n(twice.begin() + 64, 56, twice.begin() + 64 + 2 * 56);
  EXPECT_THAT(load_error(twice), HasSubstr("overlaps"));
}

TEST(Vmlinux64, is_entered_at_its_entry_point_with_boot_params) {
  TestMachine machine(64 * kMiB);
  const Image kernel =
      make_elf({.entry = 16 * kMiB, .physical = 16 * kMiB, .virtual_address = 0xffffffff81000000});
  cpu::State state;
  ASSERT_EQ(error_of(load(machine.machine(), {.kernel = kernel, .command_line = "ro"}, state)), "");
  EXPECT_EQ(state.rip, 16 * kMiB);
  EXPECT_TRUE(state.in_64bit_code());
  EXPECT_EQ(machine.at<u8>(16 * kMiB + 9), kernel[0x1009]);
  const u64 params = state.gpr[x86::RSI];
  EXPECT_EQ(machine.at<u32>(params + 0x202), 0x53726448u);
  EXPECT_EQ(machine.text(machine.at<u32>(params + 0x228)), "ro");
}

TEST(Vmlinux64, refuses_an_entry_point_outside) {
  EXPECT_THAT(load_error(make_elf({.entry = 0x401000, .physical = 0x500000})),
              HasSubstr("in none of its segments"));
}

TEST(Elf, refuses_what_is_not_an_x86_executable) {
  Image arm = make_elf({});
  put<u16>(arm, 18, 183);
  EXPECT_THAT(load_error(arm), HasSubstr("not for x86"));
  Image object = make_elf({});
  put<u16>(object, 16, 1);
  EXPECT_THAT(load_error(object), HasSubstr("not an executable"));
  Image bare = make_elf({});
  put<u16>(bare, 56, 0);
  EXPECT_THAT(load_error(bare), HasSubstr("no program headers"));
  Image far = make_elf({});
  put<u64>(far, 32, ~u64{0} - 8);
  EXPECT_THAT(load_error(far), HasSubstr("past the end of the file"));
  Image narrow = make_elf({});
  put<u16>(narrow, 54, 8);
  EXPECT_THAT(load_error(narrow), HasSubstr("no known size"));
}

Image multiboot_elf() {
  Image image = make_elf({.is_64 = false, .entry = kMiB + 0x20});
  put_multiboot_header(image, 0x1000, 3);
  return image;
}

TEST(Multiboot, elf_gets_memory_map_command_line_and_modules) {
  TestMachine machine(64 * kMiB);
  const Image kernel = multiboot_elf(), first(5000, 0xa1), second(1, 0xb2);
  const Module modules[] = {{first, "disk.img one two"}, {second, ""}};
  cpu::State state;
  const Request request = {
      .kernel = kernel, .kernel_name = "k.elf", .command_line = "a=1 b", .modules = modules};
  ASSERT_EQ(error_of(load(machine.machine(), request, state)), "");

  EXPECT_EQ(state.rip, kMiB + 0x20);
  EXPECT_EQ(state.gpr[x86::RAX], 0x2badb002u);
  EXPECT_EQ(state.cr0, x86::Cr0::PE | x86::Cr0::ET);
  const u64 info = state.gpr[x86::RBX];
  EXPECT_EQ(machine.at<u32>(info) & 0x24d, 0x24du);
  EXPECT_EQ(machine.at<u32>(info + 4), 639u);
  EXPECT_EQ(machine.at<u32>(info + 8), 63u * 1024);
  EXPECT_EQ(machine.text(machine.at<u32>(info + 16)), "k.elf a=1 b");
  EXPECT_EQ(machine.text(machine.at<u32>(info + 64)), "nacre");

  ASSERT_EQ(machine.at<u32>(info + 20), 2u);
  const u64 list = machine.at<u32>(info + 24);
  EXPECT_EQ(machine.at<u32>(list), kMiB + 0x3000);  // on the page after the kernel
  EXPECT_EQ(machine.at<u32>(list + 4), kMiB + 0x3000 + 5000);
  EXPECT_EQ(machine.text(machine.at<u32>(list + 8)), "disk.img one two");
  EXPECT_EQ(machine.at<u8>(kMiB + 0x3000 + 4999), 0xa1);
  EXPECT_EQ(machine.at<u32>(list + 16), kMiB + 0x5000);
  EXPECT_EQ(machine.text(machine.at<u32>(list + 24)), "");

  const u64 map = machine.at<u32>(info + 48);
  u64 ram = 0, end = 0;
  for (u64 at = map; at < map + machine.at<u32>(info + 44); at += machine.at<u32>(at) + 4) {
    EXPECT_GE(machine.at<u64>(at + 4), end);
    end = machine.at<u64>(at + 4) + machine.at<u64>(at + 12);
    if (machine.at<u32>(at + 20) == 1) ram += machine.at<u64>(at + 12);
  }
  EXPECT_EQ(ram, 64 * kMiB - (kMiB - kEbdaBase));
}

TEST(Multiboot, kernels_find_what_a_bios_leaves) {
  TestMachine machine(64 * kMiB);
  cpu::State state;
  ASSERT_TRUE(load(machine.machine(), {.kernel = multiboot_elf()}, state).ok());
  EXPECT_EQ(machine.at<u16>(0x400), 0x3f8);
  EXPECT_EQ(machine.at<u16>(0x40e), kEbdaBase >> 4);
  EXPECT_EQ(machine.at<u16>(0x413), kEbdaBase / kKiB);
  const u32 disk_service = machine.at<u32>(4 * 0x13);
  const u64 code = (disk_service >> 16 << 4) + (disk_service & 0xffff);
  EXPECT_GE(code, kEbdaBase);
  EXPECT_EQ(machine.at<u8>(code + 8), 0xcf);  // … iret
  EXPECT_EQ(state.idtr.base, 0u);
  EXPECT_EQ(state.idtr.limit, 0x3ff);
}

Image multiboot_flat() {
  Image image(0x1000);
  for (usize i = 0; i < image.size(); ++i) image[i] = static_cast<u8>(i * 5);
  put_multiboot_header(image, 0x40, 1 << 16);
  put<u32>(image, 0x40 + 12, 0x200040);  // header_addr
  put<u32>(image, 0x40 + 16, 0x200010);  // load_addr: file offset 0x10
  put<u32>(image, 0x40 + 20, 0);         // load_end_addr: all
  put<u32>(image, 0x40 + 24, 0x203000);  // bss_end_addr
  put<u32>(image, 0x40 + 28, 0x200100);  // entry_addr
  return image;
}

TEST(Multiboot, loads_by_the_addresses_in_the_header) {
  TestMachine machine(64 * kMiB);
  machine.fill(0x201000, 0x2000, 0xcc);
  const Image kernel = multiboot_flat();
  cpu::State state;
  ASSERT_EQ(error_of(load(machine.machine(), {.kernel = kernel}, state)), "");
  EXPECT_EQ(state.rip, 0x200100u);
  EXPECT_EQ(machine.at<u8>(0x20000f), 0);
  EXPECT_EQ(machine.at<u8>(0x200010), kernel[0x10]);
  EXPECT_EQ(machine.at<u8>(0x200fff), kernel[0xfff]);
  EXPECT_EQ(machine.at<u8>(0x201000), 0);
  EXPECT_EQ(machine.at<u8>(0x202fff), 0);
  EXPECT_EQ(machine.at<u8>(0x203000), 0);
  EXPECT_EQ(machine.text(machine.at<u32>(state.gpr[x86::RBX] + 16)), "kernel");
}

TEST(Multiboot, says_what_is_wrong) {
  Image elf64 = make_elf({});
  put_multiboot_header(elf64, 0x1000, 0);
  EXPECT_THAT(load_error(elf64), HasSubstr("objcopy -O elf32-i386"));
  Image unknown = multiboot_elf();
  put_multiboot_header(unknown, 0x1000, 8);
  EXPECT_THAT(load_error(unknown), HasSubstr("features that do not exist"));
  Image raw(0x1000);
  put_multiboot_header(raw, 0, 0);
  EXPECT_THAT(load_error(raw), HasSubstr("neither ELF"));
  Image before = multiboot_flat();
  put<u32>(before, 0x40 + 16, 0x1fffff);
  EXPECT_THAT(load_error(before), HasSubstr("before the start of the file"));
  Image past = multiboot_flat();
  put<u32>(past, 0x40 + 20, 0x201001);
  EXPECT_THAT(load_error(past), HasSubstr("past the end of the file"));
  Image entry = multiboot_flat();
  put<u32>(entry, 0x40 + 28, 0x203000);
  EXPECT_THAT(load_error(entry), HasSubstr("entry_addr"));
  Image nowhere = multiboot_flat();
  put<u32>(nowhere, 0x40 + 24, 0xfffffff0);
  EXPECT_THAT(load_error(nowhere), HasSubstr("not all RAM"));
  Image elf_entry = make_elf({.is_64 = false, .entry = 0xc0100000});
  put_multiboot_header(elf_entry, 0x1000, 0);
  EXPECT_THAT(load_error(elf_entry), HasSubstr("in none of its segments"));
  const std::vector<Module> many(300, Module{});
  EXPECT_THAT(load_error(multiboot_elf(), 64 * kMiB, {.modules = many}), HasSubstr("at most 256"));
  const Image huge(70 * kMiB);
  const Module module = {.bytes = huge};
  EXPECT_THAT(load_error(multiboot_elf(), 64 * kMiB, {.modules = {&module, 1}}),
              HasSubstr("No room for a module"));
}

// No file may reach one of our own checks or read past its end (the sanitizers watch): each good image with
// a few bytes changed or its end missing. The fuzz targets do the same without a bound.
TEST(Load, survives_damaged_files) {
  std::mt19937 random(1);
  const Image initrd(3000, 1);
  const Module module = {.bytes = initrd, .command_line = "m"};
  TestMachine machine(8 * kMiB);
  unsigned loaded = 0, refused = 0;
  const Image good[] = {make_bzimage(0x2000, 4 * kMiB, 0x100000),
                        make_elf({.pvh_entry = kMiB}),
                        make_elf({.is_64 = false, .pvh_entry = kMiB}),
                        make_elf({}),
                        multiboot_elf(),
                        multiboot_flat()};
  for (unsigned round = 0; round < 4000; ++round) {
    Image image = good[round % 6];
    for (unsigned changes = random() % 4; changes > 0; --changes) {
      const usize headers = random() % 2 == 0 ? 128 : 0x1040;
      const usize where = round % 6 == 0 && random() % 2 == 0 ? 0x1f1 + random() % 0x80 : random() % headers;
      image[where % image.size()] = static_cast<u8>(random() % 3 == 0 ? 0xff : random());
    }
    if (random() % 4 == 0) image.resize(random() % image.size());
    cpu::State state;
    Request request = {.kernel = image, .command_line = "x", .initrd = initrd};
    if (random() % 2 == 0) request.modules = {&module, 1};
    const Status status = load(machine.machine(), request, state);
    (status.ok() ? loaded : refused)++;
    EXPECT_TRUE(status.ok() || error_of(status).size() > 20);
  }
  EXPECT_GT(loaded, 100u);
  EXPECT_GT(refused, 100u);
}

}  // namespace
}  // namespace nacre::board::boot
