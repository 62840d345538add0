// The board as a guest meets it: through ports, memory and MSRs, with time stated.
#include "board/board.hpp"

#include <gtest/gtest.h>

#include <random>

#include "board/memory_map.hpp"
#include "board/test_environment.hpp"

namespace nacre::board {
namespace {

constexpr u64 kMs = 1'000'000;
using Kind = PowerEvent::Kind;

void out(cpu::Platform& cpu, u16 port, u32 value, unsigned size = 1) {
  cpu.port_write(port, size, value);
}
u32 in(cpu::Platform& cpu, u16 port, unsigned size = 1) {
  return cpu.port_read(port, size);
}

u32 local_apic(cpu::Platform& cpu, u64 offset) {
  return static_cast<u32>(cpu.mmio_read(GuestPhysical(kLocalApicBase + offset), 4));
}
void set_local_apic(cpu::Platform& cpu, u64 offset, u32 value) {
  cpu.mmio_write(GuestPhysical(kLocalApicBase + offset), 4, value);
}
constexpr u64 kEoi = 0xb0, kSpurious = 0xf0, kIcrLow = 0x300, kIcrHigh = 0x310, kLvtTimer = 0x320,
              kInitialCount = 0x380, kDivide = 0x3e0;

void set_ioapic(cpu::Platform& cpu, u8 index, u32 value) {
  cpu.mmio_write(GuestPhysical(kIoApicBase), 4, index);
  cpu.mmio_write(GuestPhysical(kIoApicBase + 0x10), 4, value);
}

// The 8259 pair as any kernel sets it up: vectors 0x20 and 0x28, all but `open` masked.
void set_up_pic(cpu::Platform& cpu, u16 open) {
  for (const auto& [port, vector, cascade] : {std::tuple{0x20, 0x20, 4}, {0xa0, 0x28, 2}}) {
    out(cpu, static_cast<u16>(port), 0x11);
    for (const int word : {vector, cascade, 1}) out(cpu, static_cast<u16>(port + 1), static_cast<u32>(word));
  }
  out(cpu, 0x21, ~u32{open} & 0xff);
  out(cpu, 0xa1, (~u32{open} >> 8) & 0xff);
}

std::string error_of(const Options& options) {
  TestEnvironment environment;
  Board board(options, environment);
  const Status status = board.assemble();
  return status.ok() ? "" : status.error().message();
}

TEST(Board, refuses_what_cannot_be) {
  const auto refuses = [](const Options& options, const char* why) {
    return error_of(options).find(why) != std::string::npos;
  };
  EXPECT_TRUE(refuses({.memory_bytes = 0}, "memory of 0 bytes"));
  EXPECT_TRUE(refuses({.memory_bytes = kMiB}, "2 MiB"));
  EXPECT_TRUE(refuses({.memory_bytes = 4 * kMiB + 1}, "whole pages"));
  EXPECT_TRUE(refuses({.memory_bytes = 2 * kMaxMemory}, "1 TiB"));
  EXPECT_TRUE(refuses({.memory_bytes = 4 * kMiB, .processors = 0}, "0 processors"));
  EXPECT_TRUE(refuses({.memory_bytes = 4 * kMiB, .processors = 33}, "1 to 32"));
  EXPECT_TRUE(refuses({.memory_bytes = 4 * kMiB, .serial_ports = 3}, "3 serial ports"));
}

TEST(Board, maps_ram_around_the_vga_hole_and_finds_its_flags) {
  TestBoard board;
  const auto& memory = board->memory();
  u8* const ram = board->options().ram;
  EXPECT_EQ(memory.host(GuestPhysical(0), true), ram);
  EXPECT_EQ(memory.host(GuestPhysical(0x9ffff), true), ram + 0x9ffff);
  EXPECT_EQ(memory.host(GuestPhysical(0xa0000), true), nullptr);
  EXPECT_EQ(memory.host(GuestPhysical(0xbffff), true), nullptr);
  EXPECT_EQ(memory.host(GuestPhysical(0xc0000), true), ram + 0xc0000);
  EXPECT_EQ(memory.host(GuestPhysical(4 * kMiB - 1), true), ram + 4 * kMiB - 1);
  EXPECT_EQ(memory.host(GuestPhysical(4 * kMiB), true), nullptr);
  EXPECT_EQ(memory.page_flags(GuestPhysical(0x100000)), board->options().page_flags + 0x100);
  EXPECT_EQ(board.cpu().mmio_read(GuestPhysical(0xa0000), 4), 0xffffffffu);
}

// The pages of so much memory are never touched, so that it is only address space.
TEST(Board, maps_what_does_not_fit_below_the_hole_from_four_gibibytes_on) {
  TestEnvironment environment;
  static u8 nothing[1];
  const Options options = {.memory_bytes = 5 * kGiB, .ram = nothing, .page_flags = nothing};
  const MemoryMap map(options.memory_bytes);
  EXPECT_EQ(low_ram_end(options.memory_bytes), 3 * kGiB);
  EXPECT_EQ(high_ram_end(options.memory_bytes), 6 * kGiB);
  const auto ranges = map.ranges();
  ASSERT_EQ(ranges.size(), 6u);
  EXPECT_EQ(ranges[3].end(), 3 * kGiB);
  EXPECT_EQ(ranges[5].base, 4 * kGiB);
  EXPECT_EQ(ranges[5].size, 2 * kGiB);
}

TEST(Board, has_its_tables_where_a_guest_looks) {
  TestBoard board({.processors = kMaxProcessors, .serial_ports = 2});
  char signature[8];
  ASSERT_TRUE(board->memory().read(GuestPhysical(board->rsdp()), signature, 8));
  EXPECT_EQ(std::string(signature, 8), "RSD PTR ");
}

TEST(Board, the_timer_reaches_the_processor_through_the_8259_pair) {
  TestBoard board;
  auto& cpu = board.cpu();
  out(cpu, 0x43, 0x34);  // counter 0, rate generator: its output rises, an edge that ICW1 then forgets
  out(cpu, 0x40, 1193 & 0xff);
  out(cpu, 0x40, 1193 >> 8);
  set_up_pic(cpu, 1 << 0);
  board.environment.kicks.clear();
  const u64 deadline = board->next_deadline();
  EXPECT_NEAR(static_cast<double>(deadline), 1e6, 2000);
  EXPECT_FALSE(cpu.interrupt_pending());
  board.environment.time = deadline;
  board->advance();
  EXPECT_TRUE(cpu.interrupt_pending());
  EXPECT_EQ(board.environment.kicks, (std::vector<unsigned>{0}));
  EXPECT_EQ(cpu.acknowledge_interrupt(), 0x20);
  EXPECT_FALSE(cpu.interrupt_pending());
  EXPECT_EQ(cpu.acknowledge_interrupt(), -1);
  EXPECT_GT(board->next_deadline(), deadline);
}

TEST(Board, lent_local_apics_hear_of_the_8259_and_of_messages) {
  struct Elsewhere final : irq::MessageSink {
    std::vector<irq::Message> messages;
    bool deliver(const irq::Message& message) override { return messages.push_back(message), true; }
  } elsewhere;
  TestBoard board;
  cpu::Platform& cpu = board.cpu();
  board->lend_local_apics(&elsewhere);
  static_cast<void>(board->local_apic(0).lend());
  // The local APIC's page is nobody's here.
  EXPECT_EQ(cpu.mmio_read(GuestPhysical(kLocalApicBase + 0x30), 4), 0xffffffffu);
  EXPECT_TRUE(board->messages().deliver({.vector = 0x51}));
  ASSERT_EQ(elsewhere.messages.size(), 1u);
  EXPECT_EQ(elsewhere.messages[0].vector, 0x51);
  EXPECT_FALSE(cpu.interrupt_pending());
}

TEST(Board, the_timer_is_pin_2_of_the_ioapic) {
  TestBoard board;
  auto& cpu = board.cpu();
  set_up_pic(cpu, 0);
  set_local_apic(cpu, kSpurious, 0x1ff);
  set_ioapic(cpu, 0x10 + 2 * 2 + 1, 0);
  set_ioapic(cpu, 0x10 + 2 * 2, 0x51);
  out(cpu, 0x43, 0x34);
  out(cpu, 0x40, 0);
  out(cpu, 0x40, 4);
  board.environment.time = board->next_deadline();
  board->advance();
  ASSERT_TRUE(cpu.interrupt_pending());
  EXPECT_EQ(cpu.acknowledge_interrupt(), 0x51);
  set_local_apic(cpu, kEoi, 0);
  EXPECT_FALSE(cpu.interrupt_pending());
}

TEST(Board, serial_output_input_and_interrupts) {
  TestBoard board;
  auto& cpu = board.cpu();
  set_up_pic(cpu, 1 << 4);
  out(cpu, 0x3f8 + 2, 0x01);  // FIFO on
  out(cpu, 0x3f8 + 4, 0x0b);  // OUT2 opens the interrupt
  out(cpu, 0x3f8 + 1, 0x01);  // on received data
  out(cpu, 0x3f8, 'h');
  out(cpu, 0x3f8, 'i');
  EXPECT_EQ(board.environment.serial[0], "hi");

  const std::string text = "a longer text than fits";
  const std::span bytes(reinterpret_cast<const u8*>(text.data()), text.size());
  EXPECT_EQ(board->serial_input(0, bytes), 16u);
  ASSERT_TRUE(cpu.interrupt_pending());
  EXPECT_EQ(cpu.acknowledge_interrupt(), 0x24);
  EXPECT_EQ(board.environment.room[0], 0u);
  EXPECT_EQ(in(cpu, 0x3f8), u32{'a'});
  EXPECT_EQ(board.environment.room[0], 1u);
  EXPECT_EQ(in(cpu, 0x3f8), u32{' '});
  EXPECT_EQ(board.environment.room[0], 1u);  // told once
}

TEST(Board, the_second_serial_port_is_there_only_when_asked_for) {
  TestBoard one, two({.serial_ports = 2});
  EXPECT_EQ(in(one.cpu(), 0x2f8 + 5), 0xffu);
  EXPECT_EQ(in(two.cpu(), 0x2f8 + 5) & 0x60, 0x60u);
  out(two.cpu(), 0x2f8, 'x');
  EXPECT_EQ(two.environment.serial[1], "x");
}

TEST(Board, the_power_button_holds_the_sci_until_the_guest_clears_it) {
  TestBoard board;
  auto& cpu = board.cpu();
  set_up_pic(cpu, 1 << 9 | 1 << 2);
  out(cpu, kPortPm1Event + 2, 1 << 8, 2);  // enable PWRBTN
  EXPECT_FALSE(cpu.interrupt_pending());
  board->press_power_button();
  ASSERT_TRUE(cpu.interrupt_pending());
  EXPECT_EQ(cpu.acknowledge_interrupt(), 0x29);
  EXPECT_EQ(in(cpu, kPortPm1Event, 2) & (1 << 8), 1u << 8);
  out(cpu, 0xa0, 0x20);
  out(cpu, 0x20, 0x20);
  EXPECT_TRUE(cpu.interrupt_pending());  // still asserted: level-triggered
  out(cpu, kPortPm1Event, 1 << 8, 2);
  EXPECT_FALSE(cpu.interrupt_pending());
}

TEST(Board, power_events) {
  TestBoard board({.debug_exit = true});
  auto& cpu = board.cpu();
  auto& events = board.environment.power;
  out(cpu, kPortPm1Control, 5 << 10 | 1 << 13, 2);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events.back().kind, Kind::PowerOff);
  out(cpu, 0xcf9, 0x06);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events.back().kind, Kind::Reset);
  out(cpu, 0x64, 0xfe);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events.back().kind, Kind::Reset);
  EXPECT_EQ(in(cpu, 0x92), 2u);
  out(cpu, 0x92, 3);
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events.back().kind, Kind::Reset);
  out(cpu, 0xf4, 0x10, 4);
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events.back().kind, Kind::DebugExit);
  EXPECT_EQ(events.back().code, 0x10u);
  EXPECT_EQ(in(cpu, kPortPanic), 1u);
  out(cpu, kPortPanic, 1);
  ASSERT_EQ(events.size(), 6u);
  EXPECT_EQ(events.back().kind, Kind::Panic);
}

TEST(Board, debug_ports_are_absent_unless_asked_for) {
  TestBoard plain, with({.debug_ports = {0xe9, 0x402}, .debug_port_count = 2});
  out(plain.cpu(), 0xf4, 1, 4);
  EXPECT_TRUE(plain.environment.power.empty());
  EXPECT_EQ(in(plain.cpu(), 0xe9), 0xffu);
  EXPECT_EQ(in(with.cpu(), 0xe9), 0xe9u);
  out(with.cpu(), 0xe9, 'd');
  out(with.cpu(), 0x402, 'e');
  EXPECT_EQ(in(with.cpu(), 0x402), 0xe9u);
  EXPECT_EQ(with.environment.debug[0], "d");
  EXPECT_EQ(with.environment.debug[1], "e");
}

TEST(Board, post_codes_are_told_from_the_port_that_was_asked_for) {
  TestBoard plain, elsewhere({.post_port = 0x190}), usual({.post_port = 0x80});
  for (TestBoard* board : {&plain, &elsewhere, &usual}) {
    out(board->cpu(), 0x80, 0x11);
    EXPECT_EQ(in(board->cpu(), 0x80), 0x11u);
    out(board->cpu(), 0x190, 0x22);
  }
  EXPECT_TRUE(plain.environment.post.empty());
  EXPECT_EQ(elsewhere.environment.post, std::vector<u8>{0x22});
  EXPECT_EQ(usual.environment.post, std::vector<u8>{0x11});
  EXPECT_EQ(in(plain.cpu(), 0x190), 0xffu);
  TestBoard debug({.debug_ports = {0x80}, .debug_port_count = 1});  // takes the usual port's place
  EXPECT_EQ(in(debug.cpu(), 0x80), 0xe9u);
}

TEST(Board, the_test_device_is_there_only_when_asked_for) {
  TestBoard without;
  out(without.cpu(), 0xe0, 5);
  EXPECT_EQ(in(without.cpu(), 0xe0), 0xffu);
  EXPECT_EQ(without.cpu().mmio_read(GuestPhysical(0xff000000), 4), 0xffffffffu);

  TestBoard board({.test_device = true});
  auto& cpu = board.cpu();
  out(cpu, 0xe0, 0x12345678, 4);
  EXPECT_EQ(in(cpu, 0xe8, 4), 0x12345678u);  // the same, byte by byte
  EXPECT_EQ(in(cpu, 0xe1, 2), 0x3456u);
  out(cpu, 0xe4, 0x1000, 4);
  cpu.mmio_write(GuestPhysical(0xff00fff8), 8, 0x1122334455667788);
  EXPECT_EQ(cpu.mmio_read(GuestPhysical(0xff00fffc), 4), 0x11223344u);

  set_up_pic(cpu, 1 << 14 | 1 << 2);
  out(cpu, 0x200e, 1);
  EXPECT_EQ(in(cpu, 0xa0) & 0x40, 0x40u);  // requested
  out(cpu, 0x200e, 0);
  set_local_apic(cpu, kSpurious, 0x1ff);
  set_ioapic(cpu, 0x10 + 2 * 20, 0x8077);  // pin 20: level, vector 0x77
  set_ioapic(cpu, 0x11 + 2 * 20, 0);
  out(cpu, 0x2014, 1);
  EXPECT_TRUE(cpu.interrupt_pending());
  EXPECT_EQ(local_apic(cpu, 0x200 + 0x10 * 3) & 1u << 0x17, 1u << 0x17);  // in its request register
}

TEST(Board, ports_that_are_taken_are_refused) {
  for (const Options& options : {Options{.debug_ports = {0x3f8}, .debug_port_count = 1}, Options{.debug_exit = true, .post_port = 0xf4},
                                 Options{.debug_ports = {0xe9}, .debug_port_count = 1, .post_port = 0xe9}}) {
    std::vector<u8> ram(4 * kMiB), flags(1024);
    Options whole = options;
    whole.memory_bytes = ram.size();
    whole.ram = ram.data();
    whole.page_flags = flags.data();
    whole.tsc_hz = TestEnvironment::kTscHz;
    TestEnvironment environment;
    auto board = std::make_unique<Board>(whole, environment);
    EXPECT_FALSE(board->assemble().ok());
  }
}

TEST(Board, firmware_ends_at_4_GiB_and_its_end_below_1_MiB_where_it_can_be_written) {
  std::vector<u8> rom(512 * kKiB, 0x5a);
  rom.front() = 1;
  rom[256 * kKiB] = 2;
  rom.back() = 3;
  TestBoard board({.firmware = rom.data(), .firmware_bytes = rom.size()});
  const auto byte_at = [&](u64 address) { return board.cpu().mmio_read(GuestPhysical(address), 1); };
  EXPECT_EQ(byte_at(kHighRamBase - rom.size()), 1u);
  EXPECT_EQ(byte_at(kHighRamBase - 256 * kKiB), 2u);
  EXPECT_EQ(byte_at(kHighRamBase - 1), 3u);
  EXPECT_EQ(byte_at(kHighRamBase - rom.size() - 1), 0xffu);
  EXPECT_EQ(byte_at(0xc0000), 2u);
  EXPECT_EQ(byte_at(0xfffff), 3u);
  board.cpu().mmio_write(GuestPhysical(kHighRamBase - 1), 1, 7);
  EXPECT_EQ(byte_at(kHighRamBase - 1), 3u);
  EXPECT_EQ(board->memory().host(GuestPhysical(kHighRamBase - 1), true), nullptr);
  const u8 changed = 9;
  ASSERT_TRUE(board->memory().write(GuestPhysical(0xfffff), &changed, 1));
  EXPECT_EQ(byte_at(0xfffff), 9u);
  board->reset();
  EXPECT_EQ(byte_at(0xfffff), 3u);
}

TEST(Board, firmware_finds_the_chips_that_it_knows_and_moves_the_power_management_block) {
  std::vector<u8> rom(64 * kKiB);
  TestBoard plain, board({.firmware = rom.data(), .firmware_bytes = rom.size()});
  const auto config = [](cpu::Platform& cpu, u32 function, u32 offset) {
    out(cpu, 0xcf8, 0x80000000 | function << 8 | offset, 4);
    return in(cpu, 0xcfc, 4);
  };
  EXPECT_EQ(config(board.cpu(), 0, 0), 0x12378086u);
  EXPECT_EQ(config(board.cpu(), 8, 0), 0x70008086u);
  EXPECT_EQ(config(board.cpu(), 8 + 3, 0), 0x71138086u);
  EXPECT_EQ(config(plain.cpu(), 8 + 3, 0), ~u32{0});
  board.environment.time = plain.environment.time = 1'000'000'000;
  EXPECT_EQ(in(board.cpu(), kPortMovedPm + 8, 4), ~u32{0});
  EXPECT_EQ(config(board.cpu(), 8 + 3, 0x40), u32{kPortPm1Event} | 1);
  out(board.cpu(), 0xcfc, kPortMovedPm, 4);
  EXPECT_EQ(in(board.cpu(), kPortMovedPm + 8, 4), in(board.cpu(), kPortPmTimer, 4));
  EXPECT_NE(in(board.cpu(), kPortMovedPm + 8, 4), 0u);
  EXPECT_EQ(in(plain.cpu(), kPortMovedPm + 8, 4), ~u32{0});
  board->reset();
  EXPECT_EQ(in(board.cpu(), kPortMovedPm + 8, 4), ~u32{0});
}

TEST(Board, small_kernels_learn_processors_and_memory_from_the_configuration_ports) {
  TestBoard board({.memory_bytes = 4 * kMiB, .processors = 3});
  const auto item = [&](u32 which, unsigned bytes) {
    out(board.cpu(), kPortFwCfg, which, 2);
    u64 value = 0;
    for (unsigned i = 0; i < bytes; ++i) value |= u64{in(board.cpu(), kPortFwCfg + 1)} << (8 * i);
    return value;
  };
  EXPECT_EQ(item(0x00, 4), 0x554d4551u);
  EXPECT_EQ(item(0x05, 2), 3u);
  EXPECT_EQ(item(0x0f, 2), 3u);
  EXPECT_EQ(item(0x03, 8), 4 * kMiB);
  EXPECT_EQ(item(0x19, 4), 0u);  // no files
  EXPECT_EQ(item(0x8000, 8), 0u);
  EXPECT_EQ(in(board.cpu(), kPortFwCfg + 1), 0u);
  std::vector<u8> rom(64 * kKiB);
  TestBoard firmware({.firmware = rom.data(), .firmware_bytes = rom.size()});
  EXPECT_EQ(in(firmware.cpu(), kPortFwCfg + 1), 0xffu);
}

TEST(Board, small_firmware_leaves_the_rest_of_the_first_mebibyte_alone) {
  std::vector<u8> rom(64 * kKiB, 0x5a);
  TestBoard board({.firmware = rom.data(), .firmware_bytes = rom.size()});
  EXPECT_EQ(*board->memory().host(GuestPhysical(0xeffff), true), 0);
  EXPECT_EQ(*board->memory().host(GuestPhysical(0xf0000), true), 0x5a);
}

TEST(Board, pci_has_a_host_bridge_and_nothing_else_by_both_ways) {
  TestBoard board;
  auto& cpu = board.cpu();
  out(cpu, 0xcf8, 0x80000000, 4);
  EXPECT_EQ(in(cpu, 0xcf8, 4), 0x80000000u);
  EXPECT_EQ(in(cpu, 0xcfc, 4), 0x0d578086u);
  EXPECT_EQ(in(cpu, 0xcfe, 2), 0x0d57u);
  out(cpu, 0xcf8, 0x80000008, 4);
  EXPECT_EQ(in(cpu, 0xcff), 0x06u);  // class: bridge
  out(cpu, 0xcf8, 0x00000000, 4);
  EXPECT_EQ(in(cpu, 0xcfc, 4), 0xffffffffu);
  EXPECT_EQ(cpu.mmio_read(GuestPhysical(kEcamBase), 4), 0x0d578086u);
  EXPECT_EQ(cpu.mmio_read(GuestPhysical(kEcamBase + 0xb), 1), 0x06u);
  EXPECT_EQ(cpu.mmio_read(GuestPhysical(kEcamBase), 8), 0x000000060d578086u);
  EXPECT_EQ(cpu.mmio_read(GuestPhysical(kEcamBase + 1), 4), 0x060d5780u);
  for (u32 bdf = 1; bdf < 0x10000; bdf += bdf < 256 ? 1 : 256) {
    out(cpu, 0xcf8, 0x80000000 | bdf << 8, 4);
    ASSERT_EQ(in(cpu, 0xcfc, 4), 0xffffffffu) << bdf;
    ASSERT_EQ(cpu.mmio_read(GuestPhysical(kEcamBase + u64{bdf} * 4096), 4), 0xffffffffu) << bdf;
  }
}

TEST(Board, says_when_a_deadline_becomes_earlier) {
  TestBoard board;
  auto& cpu = board.cpu();
  set_local_apic(cpu, kSpurious, 0x1ff);
  set_local_apic(cpu, kDivide, 0xb);  // by 1: one count is a nanosecond
  set_local_apic(cpu, kLvtTimer, 0x40);
  EXPECT_EQ(board->next_deadline(), kNever);
  set_local_apic(cpu, kInitialCount, 5 * kMs);
  EXPECT_EQ(board.environment.deadline_moves, 1u);
  EXPECT_EQ(board->next_deadline(), 5 * kMs);
  set_local_apic(cpu, kInitialCount, 9 * kMs);
  EXPECT_EQ(board.environment.deadline_moves, 1u);  // later: whoever sleeps will ask in good time
  EXPECT_EQ(board->next_deadline(), 9 * kMs);
  board.environment.time = 9 * kMs;
  board->advance();
  ASSERT_TRUE(cpu.interrupt_pending());
  EXPECT_EQ(cpu.acknowledge_interrupt(), 0x40);
}

TEST(Board, the_tsc_deadline_counts_in_the_guests_time_stamps) {
  TestBoard board;
  cpu::State state;
  state.tsc_offset = 1'000'000'000;
  board->attach(0, state);
  auto& cpu = board.cpu();
  set_local_apic(cpu, kSpurious, 0x1ff);
  set_local_apic(cpu, kLvtTimer, 2u << 17 | 0x41);
  ASSERT_TRUE(cpu.msr_write(0x6e0, 1'000'000'000 + 2 * 3 * kMs));  // 2 GHz
  EXPECT_EQ(board->next_deadline(), 3 * kMs);
  board.environment.time = 3 * kMs;
  board->advance();
  EXPECT_EQ(cpu.acknowledge_interrupt(), 0x41);
}

TEST(Board, processors_signal_each_other) {
  TestBoard board({.processors = 2});
  auto& cpu = board.cpu(0);
  set_local_apic(cpu, kSpurious, 0x1ff);
  set_local_apic(cpu, kIcrHigh, 1 << 24);
  set_local_apic(cpu, kIcrLow, 0x4500);  // INIT
  EXPECT_EQ(board.environment.inits, (std::vector<unsigned>{1}));
  set_local_apic(cpu, kIcrLow, 0x4608);  // SIPI
  EXPECT_EQ(board.environment.startups, (std::vector<std::pair<unsigned, u8>>{{1, 8}}));
  set_local_apic(cpu, kIcrLow, 0x4400);  // NMI
  EXPECT_EQ(board.environment.nmis, (std::vector<unsigned>{1}));
  set_local_apic(board.cpu(1), kSpurious, 0x1ff);
  set_local_apic(cpu, kIcrLow, 0x4055);
  EXPECT_FALSE(board.cpu(0).interrupt_pending());
  EXPECT_EQ(board.cpu(1).acknowledge_interrupt(), 0x55);
  EXPECT_EQ(local_apic(board.cpu(1), 0x20), 1u << 24);
}

using Hypercall = cpu::Platform::Hypercall;

TEST(Board, hypercalls_wake_a_halted_processor) {
  TestBoard board({.processors = 2});
  EXPECT_EQ(board.cpu(0).hypercall({.number = 5, .argument = {0, 1}}), 0U);
  EXPECT_EQ(board.cpu(0).hypercall({.number = 5, .argument = {0, 2}}), 0U);  // there is none
  EXPECT_EQ(board.cpu(0).hypercall({.number = 5, .argument = {0, u64{1} << 32 | 1}}), 0U);
  EXPECT_EQ(board.environment.unhalts, (std::vector<unsigned>{1}));
  EXPECT_EQ(board.cpu(0).hypercall({.number = 4}), Hypercall::kUnknown);
}

TEST(Board, hypercalls_send_an_interrupt_to_many) {
  TestBoard board({.processors = 4});
  for (unsigned i = 0; i < 4; ++i) set_local_apic(board.cpu(i), kSpurious, 0x1ff);
  EXPECT_EQ(board.cpu(0).hypercall({.number = 10, .argument = {0b1101, 1, 0, 0x55}}), 3U);
  for (const unsigned i : {0U, 2U, 3U}) EXPECT_EQ(board.cpu(i).acknowledge_interrupt(), 0x55);
  EXPECT_FALSE(board.cpu(1).interrupt_pending());
  EXPECT_EQ(board.cpu(0).hypercall({.number = 10, .argument = {1, 0, 3, 0x400}}), 1U);
  EXPECT_EQ(board.environment.nmis, (std::vector<unsigned>{3}));
  // The second word's first is the 32nd of a 32-bit guest, and no processor is that far.
  EXPECT_EQ(board.cpu(0).hypercall({.number = 10, .argument = {0, 1, u64{0} - 31, 0x55}, .wide = false}), 1U);
  EXPECT_EQ(board.cpu(1).acknowledge_interrupt(), 0x55);
  EXPECT_EQ(board.cpu(0).hypercall({.number = 10, .argument = {~u64{0}, ~u64{0}, ~u64{0}, 0x55}}), 4U);
  EXPECT_EQ(board.cpu(0).hypercall({.number = 10, .argument = {1, 0, 0, 0x0f}}), 0U);  // no vector that could arrive
  for (const u64 bad : {0x555U, 0x855U, 0x4'0055U}) {
    EXPECT_EQ(board.cpu(0).hypercall({.number = 10, .argument = {1, 0, 0, bad}}), Hypercall::kInvalid);
  }
}

TEST(Board, msrs_of_the_apic_and_the_paravirtual_clock_and_no_others) {
  TestBoard board;
  auto& cpu = board.cpu();
  u64 value = 0;
  ASSERT_TRUE(cpu.msr_read(0x1b, value));
  EXPECT_EQ(value, 0xfee00900u);
  EXPECT_FALSE(cpu.msr_read(0xc0000080, value));
  EXPECT_FALSE(cpu.msr_write(0x10a, 0));
  board.environment.time = 7 * kMs;
  ASSERT_TRUE(cpu.msr_write(0x4b564d01, 0x100000 | 1));
  u64 stated[2] = {};  // TSC, nanoseconds
  ASSERT_TRUE(board->memory().read(GuestPhysical(0x100008), stated, sizeof stated));
  EXPECT_EQ(stated[1] + (board.environment.tsc() - stated[0]) / 2, 7 * kMs);
  EXPECT_FALSE(cpu.msr_write(0x4b564d01, 0xa0000 | 1));  // not RAM
}

TEST(Board, paravirtual_clocks_of_all_processors_state_the_same_instant) {
  TestBoard board({.processors = 2});
  ASSERT_TRUE(board.cpu(0).msr_write(0x4b564d01, 0x100000 | 1));
  board.environment.time = 7 * kMs + 1;
  ASSERT_TRUE(board.cpu(1).msr_write(0x4b564d01, 0x100040 | 1));
  u64 stated[2][2] = {};
  ASSERT_TRUE(board->memory().read(GuestPhysical(0x100008), stated[0], sizeof stated[0]));
  ASSERT_TRUE(board->memory().read(GuestPhysical(0x100048), stated[1], sizeof stated[1]));
  EXPECT_EQ(stated[0][0], stated[1][0]);
  EXPECT_EQ(stated[0][1], stated[1][1]);
}

TEST(Board, each_processor_keeps_its_own_deadline) {
  TestBoard board({.processors = 2});
  for (unsigned i = 0; i < 2; ++i) {
    set_local_apic(board.cpu(i), kSpurious, 0x1ff);
    set_local_apic(board.cpu(i), kLvtTimer, 0x50);
    set_local_apic(board.cpu(i), kDivide, 0xb);
  }
  EXPECT_EQ(board->next_deadline(1), kNever);
  const unsigned moves = board.environment.deadline_moves;
  set_local_apic(board.cpu(1), kInitialCount, 5000);
  EXPECT_EQ(board.environment.deadline_moves, moves + 1);
  EXPECT_EQ(board->next_deadline(1), 5000u);
  EXPECT_GT(board->next_deadline(0), 5000u);
  board.environment.time = 5000;
  board->advance(0);
  EXPECT_FALSE(board.cpu(1).interrupt_pending());
  board->advance(1);
  EXPECT_TRUE(board.cpu(1).interrupt_pending());
  EXPECT_FALSE(board.cpu(0).interrupt_pending());
}

TEST(Board, a_guest_ends_an_interrupt_by_a_word_in_its_memory) {
  TestBoard board;
  auto& cpu = board.cpu();
  set_local_apic(cpu, kSpurious, 0x1ff);
  ASSERT_TRUE(cpu.msr_write(irq::kMsrPvEoi, 0x100040 | 1));
  EXPECT_FALSE(cpu.msr_write(irq::kMsrPvEoi, 0xa0000 | 1));  // not RAM
  set_local_apic(cpu, kIcrLow, 0x44055);                     // to itself
  ASSERT_EQ(cpu.acknowledge_interrupt(), 0x55);
  u32 word = 0;
  ASSERT_TRUE(board->memory().read(GuestPhysical(0x100040), &word, 4));
  EXPECT_EQ(word, 1u);
  word = 0;
  ASSERT_TRUE(board->memory().write(GuestPhysical(0x100040), &word, 4));
  set_local_apic(cpu, kIcrLow, 0x44044);  // of lower priority: taken only if the first has ended
  EXPECT_EQ(cpu.acknowledge_interrupt(), 0x44);
}

TEST(Board, reset_brings_it_back_to_where_it_began) {
  TestBoard board;
  auto& cpu = board.cpu();
  set_up_pic(cpu, 0xffff);
  set_local_apic(cpu, kSpurious, 0x1ff);
  set_local_apic(cpu, kDivide, 0xb);
  set_local_apic(cpu, kInitialCount, 1000);
  out(cpu, 0x80, 0x55);
  u8* const tables = board->memory().host(GuestPhysical(kTablesBase), true);
  tables[0] = 0;
  board->reset();
  EXPECT_EQ(board->next_deadline(), kNever);
  EXPECT_EQ(tables[0], 'R');
  EXPECT_EQ(in(cpu, 0x21), 0u);
  EXPECT_FALSE(cpu.interrupt_pending());
}

// Whatever a guest does with ports, windows and MSRs, nothing of ours breaks. board_fuzz.cpp has no bound.
TEST(Board, survives_random_accesses) {
  std::mt19937_64 random(7);
  TestBoard board({.processors = 2, .serial_ports = 2, .debug_exit = true, .test_device = true, .debug_ports = {0xe9}, .debug_port_count = 1, .post_port = 0x190});
  const u64 windows[] = {kIoApicBase, kLocalApicBase, kEcamBase, 0xa0000, kEcamBase + 0xff8, kPciWindowBase, kTestWindowBase};
  const u32 msrs[] = {0x1b, 0x6e0, 0x4b564d00, 0x4b564d01};
  const u16 ports[] = {0x20, 0x40, 0x60,  0x70,  0x80,  0x92,  0xa0,
                       0xe0, 0xe9, 0xf4, 0x2000, 0x2f8, 0x3f8, 0x4d0, 0x600, 0xcf8};
  u64 answers = 0;
  for (int i = 0; i < 200'000; ++i) {
    auto& cpu = board.cpu(random() % 2);
    const unsigned size = 1u << random() % 4;
    const u64 value = random() >> random() % 64;
    const GuestPhysical address(windows[random() % 7] + random() % 0x400);
    const u16 port = random() % 16 == 0 ? static_cast<u16>(random())
                                        : static_cast<u16>(ports[random() % 16] + random() % 8);
    const u32 msr = random() % 2 == 0 ? msrs[random() % 4] : static_cast<u32>(0x800 + random() % 0x100);
    u64 read = 0;
    switch (random() % 9) {
      case 0:
        answers += cpu.mmio_read(address, size);
        break;
      case 1:
        cpu.mmio_write(address, size, value);
        break;
      case 2:
        answers += cpu.port_read(port, size > 4 ? 4 : size);
        break;
      case 3:
        cpu.port_write(port, size > 4 ? 4 : size, static_cast<u32>(value));
        break;
      case 4:
        answers += cpu.msr_read(msr, read) ? 1 : 0;
        break;
      case 5:
        answers += cpu.msr_write(msr, value) ? 1 : 0;
        break;
      case 6:
        board.environment.time += random() % kMs;
        board->advance();
        break;
      case 7:
        if (cpu.interrupt_pending()) answers += static_cast<u64>(cpu.acknowledge_interrupt());
        break;
      default:
        cpu.set_task_priority(static_cast<u8>(value & 0xf));
        answers += board->next_deadline();
    }
    if (i % 5000 == 0) board->reset();
  }
  EXPECT_NE(answers, 0u);
}

}  // namespace
}  // namespace nacre::board
