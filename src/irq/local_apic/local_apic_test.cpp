#include "irq/local_apic/local_apic.hpp"

#include <gtest/gtest.h>

#include "irq/local_apic/local_apic_sequence.hpp"

namespace nacre::irq {
namespace {

using R = ApicRegister;

TEST(LocalApic, has_the_reset_values_of_the_manual) {
  LocalApicBench bench(3);
  EXPECT_EQ(bench.apic.apic_base(), 0xfee0'0800U);
  EXPECT_EQ(bench.read(R::Id), 0x0300'0000U);
  EXPECT_EQ(bench.read(R::Version), 0x0105'0014U);
  EXPECT_EQ(bench.read(R::TaskPriority), 0U);
  EXPECT_EQ(bench.read(R::ProcessorPriority), 0U);
  EXPECT_EQ(bench.read(R::LogicalDestination), 0U);
  EXPECT_EQ(bench.read(R::DestinationFormat), 0xffff'ffffU);
  EXPECT_EQ(bench.read(R::Spurious), 0xffU);
  EXPECT_EQ(bench.read(R::ErrorStatus), 0U);
  EXPECT_EQ(bench.read(R::CommandLow), 0U);
  for (R entry : {R::LvtTimer, R::LvtThermal, R::LvtPerformance, R::LvtLint0, R::LvtLint1, R::LvtError}) {
    EXPECT_EQ(bench.read(entry), 0x10000U);
  }
  EXPECT_EQ(bench.read(R::InitialCount), 0U);
  EXPECT_EQ(bench.read(R::CurrentCount), 0U);
  EXPECT_EQ(bench.read(R::DivideConfiguration), 0U);
  EXPECT_EQ(bench.apic.next_deadline(), time::kNever);
  LocalApicBench bootstrap;
  EXPECT_EQ(bootstrap.apic.apic_base(), 0xfee0'0900U);
}

TEST(LocalApic, registers_keep_only_their_writable_bits) {
  LocalApicBench bench;
  bench.enable();
  struct Row {
    R r;
    u32 kept;
  };
  constexpr Row rows[] = {
      {R::Id, 0xff00'0000},          {R::TaskPriority, 0xff},       {R::LogicalDestination, 0xff00'0000},
      {R::DestinationFormat, ~0u},   {R::LvtTimer, 0x7'00ff},       {R::LvtThermal, 0x1'07ff},
      {R::LvtPerformance, 0x1'07ff}, {R::LvtLint0, 0x1'a7ff},       {R::LvtLint1, 0x1'a7ff},
      {R::LvtError, 0x1'00ff},       {R::CommandHigh, 0xff00'0000}, {R::DivideConfiguration, 0xb},
      {R::Version, 0x0105'0014},     {R::Spurious, 0x13ff},
  };
  for (const Row& row : rows) {
    bench.write(row.r, 0xffff'ffff);
    EXPECT_EQ(bench.read(row.r), row.kept) << "register " << static_cast<int>(row.r);
  }
}

TEST(LocalApic, reads_are_of_the_low_four_bytes_and_writes_need_alignment) {
  LocalApicBench bench;
  EXPECT_EQ(bench.apic.mmio_read(0x30, 1), 0x14U);
  EXPECT_EQ(bench.apic.mmio_read(0x32, 2), 0x0105U);
  EXPECT_EQ(bench.apic.mmio_read(0x34, 4), 0U);
  EXPECT_EQ(bench.apic.mmio_read(0x30, 8), 0x0105'0014U);
  bench.apic.mmio_write(0x84, 4, 0x20);
  bench.apic.mmio_write(0x80, 1, 0x20);
  EXPECT_EQ(bench.read(R::TaskPriority), 0U);
}

TEST(LocalApic, delivers_by_priority_and_nests) {
  LocalApicBench bench;
  bench.enable();
  EXPECT_TRUE(bench.apic.accept(Delivery::Fixed, 0x41, Trigger::Edge));
  EXPECT_TRUE(bench.apic.accept(Delivery::Fixed, 0x62, Trigger::Edge));
  EXPECT_EQ(bench.processor.wakes, 1U);
  EXPECT_EQ(bench.apic.acknowledge(), 0x62);
  EXPECT_EQ(bench.read(R::ProcessorPriority), 0x60U);
  EXPECT_FALSE(bench.apic.interrupt_pending());
  bench.apic.accept(Delivery::Fixed, 0x6f, Trigger::Edge);  // same class: waits
  EXPECT_FALSE(bench.apic.interrupt_pending());
  bench.apic.accept(Delivery::Fixed, 0x70, Trigger::Edge);
  EXPECT_EQ(bench.apic.acknowledge(), 0x70);
  bench.write(R::Eoi, 0);
  EXPECT_FALSE(bench.apic.interrupt_pending());
  bench.write(R::Eoi, 0);
  EXPECT_EQ(bench.apic.acknowledge(), 0x6f);
  bench.write(R::Eoi, 0);
  EXPECT_EQ(bench.apic.acknowledge(), 0x41);
  bench.write(R::Eoi, 0);
  EXPECT_EQ(bench.apic.acknowledge(), -1);
  EXPECT_EQ(bench.read(R::ProcessorPriority), 0U);
}

TEST(LocalApic, shows_requests_and_services_in_its_bitmaps) {
  LocalApicBench bench;
  bench.enable();
  bench.apic.accept(Delivery::Fixed, 0x85, Trigger::Level);
  EXPECT_EQ(bench.apic.mmio_read(0x240, 4), 0x20U);  // IRR 128..159
  EXPECT_EQ(bench.apic.mmio_read(0x1c0, 4), 0x20U);  // TMR
  EXPECT_EQ(bench.apic.acknowledge(), 0x85);
  EXPECT_EQ(bench.apic.mmio_read(0x240, 4), 0U);
  EXPECT_EQ(bench.apic.mmio_read(0x140, 4), 0x20U);  // ISR
}

TEST(LocalApic, task_priority_masks_and_wakes_when_lowered) {
  LocalApicBench bench;
  bench.enable();
  bench.apic.set_cr8(5);
  EXPECT_EQ(bench.read(R::TaskPriority), 0x50U);
  bench.apic.accept(Delivery::Fixed, 0x5f, Trigger::Edge);
  EXPECT_FALSE(bench.apic.interrupt_pending());
  EXPECT_EQ(bench.processor.wakes, 0U);
  bench.write(R::TaskPriority, 0x4f);
  EXPECT_EQ(bench.apic.cr8(), 4);
  EXPECT_TRUE(bench.apic.interrupt_pending());
  EXPECT_EQ(bench.processor.wakes, 1U);
}

TEST(LocalApic, broadcasts_the_end_of_level_interrupts_only) {
  LocalApicBench bench;
  bench.enable();
  bench.apic.accept(Delivery::Fixed, 0x40, Trigger::Edge);
  bench.apic.acknowledge();
  bench.write(R::Eoi, 0);
  EXPECT_TRUE(bench.bus.ended.empty());
  bench.apic.accept(Delivery::Fixed, 0x40, Trigger::Level);
  bench.apic.acknowledge();
  bench.write(R::Eoi, 0);
  EXPECT_EQ(bench.bus.ended, std::vector<u8>{0x40});
  bench.write(R::Eoi, 0);  // nothing in service
  EXPECT_EQ(bench.bus.ended.size(), 1U);
}

TEST(LocalApic, keeps_ends_of_interrupts_to_itself_when_told_to) {
  LocalApicBench bench;
  bench.enable();
  EXPECT_NE(bench.read(R::Version) & 1 << 24, 0U);
  bench.write(R::Spurious, 0x1000 | bench.read(R::Spurious));
  EXPECT_NE(bench.read(R::Spurious) & 0x1000, 0U);
  bench.apic.accept(Delivery::Fixed, 0x40, Trigger::Level);
  bench.apic.acknowledge();
  bench.write(R::Eoi, 0);
  EXPECT_TRUE(bench.bus.ended.empty());
  EXPECT_FALSE(bench.apic.interrupt_pending());
  bench.apic.accept(Delivery::Fixed, 0x3f, Trigger::Edge);  // a lower one: nothing is in service
  EXPECT_TRUE(bench.apic.interrupt_pending());
}

TEST(LocalApic, refuses_vectors_while_software_disabled_but_not_nmi_and_init) {
  LocalApicBench bench;
  EXPECT_FALSE(bench.apic.accept(Delivery::Fixed, 0x40, Trigger::Edge));
  EXPECT_TRUE(bench.apic.accept(Delivery::Nmi, 0, Trigger::Edge));
  EXPECT_TRUE(bench.apic.accept(Delivery::Startup, 0x9a, Trigger::Edge));
  EXPECT_TRUE(bench.apic.accept(Delivery::Smi, 0, Trigger::Edge));
  EXPECT_TRUE(bench.apic.accept(Delivery::Init, 0, Trigger::Edge));
  EXPECT_EQ(bench.processor.nmis, 1U);
  EXPECT_EQ(bench.processor.smis, 1U);
  EXPECT_EQ(bench.processor.inits, 1U);
  EXPECT_EQ(bench.processor.startups, std::vector<u8>{0x9a});
  bench.write(R::LvtLint0, 0x40);
  EXPECT_EQ(bench.read(R::LvtLint0), 0x1'0040U);  // cannot be unmasked
}

TEST(LocalApic, disabling_by_software_masks_the_local_vectors) {
  LocalApicBench bench;
  bench.enable();
  bench.write(R::LvtTimer, 0x40);
  bench.write(R::Spurious, 0xff);
  EXPECT_EQ(bench.read(R::LvtTimer), 0x1'0040U);
}

TEST(LocalApic, collects_errors_until_the_register_is_written) {
  LocalApicBench bench;
  bench.enable();
  bench.write(R::LvtError, 0x33);
  EXPECT_FALSE(bench.apic.accept(Delivery::Fixed, 15, Trigger::Edge));
  EXPECT_EQ(bench.read(R::ErrorStatus), 0U);
  bench.write(R::ErrorStatus, 0);
  EXPECT_EQ(bench.read(R::ErrorStatus), ApicError::receive_illegal_vector);
  EXPECT_EQ(bench.apic.acknowledge(), 0x33);
  bench.write(R::Eoi, 0);
  bench.write(R::CommandLow, 0x0000'0003);  // fixed, vector 3
  bench.apic.mmio_read(0x3f0, 4);           // no self-IPI register in xAPIC mode
  bench.write(R::ErrorStatus, 0);
  EXPECT_EQ(bench.read(R::ErrorStatus), ApicError::send_illegal_vector | ApicError::illegal_register);
  bench.write(R::ErrorStatus, 0);
  EXPECT_EQ(bench.read(R::ErrorStatus), 0U);
}

TEST(LocalApic, one_shot_timer_counts_divided_nanoseconds) {
  LocalApicBench bench;
  bench.enable();
  bench.write(R::LvtTimer, 0xec);
  bench.write(R::DivideConfiguration, 0x3);  // by 16
  bench.clock.now = 1000;
  bench.write(R::InitialCount, 100);
  EXPECT_EQ(bench.apic.next_deadline(), 1000U + 1600);
  EXPECT_EQ(bench.read(R::CurrentCount), 100U);
  bench.at(1000 + 160);
  EXPECT_EQ(bench.read(R::CurrentCount), 90U);
  bench.at(2599);
  EXPECT_EQ(bench.read(R::CurrentCount), 1U);
  EXPECT_FALSE(bench.apic.interrupt_pending());
  bench.at(2600);
  EXPECT_EQ(bench.read(R::CurrentCount), 0U);
  EXPECT_EQ(bench.apic.next_deadline(), time::kNever);
  EXPECT_EQ(bench.apic.acknowledge(), 0xec);
}

TEST(LocalApic, divide_configuration_decodes_as_in_figure_11_10) {
  constexpr u32 codes[] = {0, 1, 2, 3, 8, 9, 10, 11};
  constexpr u64 divisors[] = {2, 4, 8, 16, 32, 64, 128, 1};
  for (unsigned i = 0; i < 8; ++i) {
    LocalApicBench bench;
    bench.enable();
    bench.write(R::LvtTimer, 0x40);
    bench.write(R::DivideConfiguration, codes[i]);
    bench.write(R::InitialCount, 1000);
    EXPECT_EQ(bench.apic.next_deadline(), 1000 * divisors[i]);
  }
}

TEST(LocalApic, periodic_timer_keeps_its_phase_when_served_late) {
  LocalApicBench bench;
  bench.enable();
  bench.write(R::LvtTimer, 0x2'0040);
  bench.write(R::DivideConfiguration, 0xb);
  bench.write(R::InitialCount, 1'000'000);
  bench.at(1'000'000);
  EXPECT_EQ(bench.apic.acknowledge(), 0x40);
  bench.write(R::Eoi, 0);
  EXPECT_EQ(bench.apic.next_deadline(), 2'000'000U);
  bench.at(4'500'000);  // three periods late: one interrupt, same phase
  EXPECT_EQ(bench.apic.acknowledge(), 0x40);
  EXPECT_EQ(bench.apic.next_deadline(), 5'000'000U);
  EXPECT_EQ(bench.read(R::CurrentCount), 500'000U);
  bench.write(R::InitialCount, 0);
  EXPECT_EQ(bench.apic.next_deadline(), time::kNever);
}

TEST(LocalApic, masked_timer_counts_in_silence) {
  LocalApicBench bench;
  bench.enable();
  bench.write(R::LvtTimer, 0x1'0040);
  bench.write(R::DivideConfiguration, 0xb);
  bench.write(R::InitialCount, 1000);
  EXPECT_EQ(bench.apic.next_deadline(), time::kNever);
  bench.clock.now = 600;
  EXPECT_EQ(bench.read(R::CurrentCount), 400U);
  bench.clock.now = 1500;
  bench.write(R::LvtTimer, 0x40);  // expired while masked: lost
  EXPECT_FALSE(bench.apic.interrupt_pending());
  EXPECT_EQ(bench.read(R::CurrentCount), 0U);
}

TEST(LocalApic, tsc_deadline_fires_at_its_tsc) {
  LocalApicBench bench;
  bench.enable();
  bench.apic.msr_write(0x6e0, 123);  // ignored outside deadline mode
  u64 value = 1;
  EXPECT_TRUE(bench.apic.msr_read(0x6e0, value));
  EXPECT_EQ(value, 0U);
  bench.write(R::LvtTimer, 0x4'0040);
  bench.apic.msr_write(0x6e0, 3'000'001);  // 3 GHz: 1 ms and a bit
  EXPECT_EQ(bench.apic.next_deadline(), 1'000'001U);
  bench.write(R::InitialCount, 55);
  EXPECT_EQ(bench.read(R::InitialCount), 0U);
  bench.at(1'000'000);
  EXPECT_FALSE(bench.apic.interrupt_pending());
  bench.at(1'000'001);
  EXPECT_EQ(bench.apic.acknowledge(), 0x40);
  bench.apic.msr_read(0x6e0, value);
  EXPECT_EQ(value, 0U);
  bench.write(R::Eoi, 0);
  bench.apic.msr_write(0x6e0, 1);  // long past: at once
  EXPECT_TRUE(bench.apic.interrupt_pending());
  EXPECT_EQ(bench.apic.next_deadline(), time::kNever);
}

TEST(LocalApic, tsc_deadline_follows_a_moved_tsc_and_is_disarmed_by_zero_and_by_the_mode) {
  LocalApicBench bench;
  bench.enable();
  bench.write(R::LvtTimer, 0x4'0040);
  bench.apic.msr_write(0x6e0, 6'000'000);
  EXPECT_EQ(bench.apic.next_deadline(), 2'000'000U);
  bench.processor.tsc_skew = 3'000'000;
  bench.apic.tsc_changed();
  EXPECT_EQ(bench.apic.next_deadline(), 1'000'000U);
  bench.apic.msr_write(0x6e0, 0);
  EXPECT_EQ(bench.apic.next_deadline(), time::kNever);
  bench.apic.msr_write(0x6e0, 6'000'000);
  bench.write(R::LvtTimer, 0x40);
  EXPECT_EQ(bench.apic.next_deadline(), time::kNever);
  bench.write(R::LvtTimer, 0x4'0040);
  u64 value = 1;
  bench.apic.msr_read(0x6e0, value);
  EXPECT_EQ(value, 0U);
}

TEST(LocalApic, an_early_deadline_call_waits_for_the_rest) {
  LocalApicBench bench;
  bench.enable();
  bench.write(R::LvtTimer, 0x4'0040);
  bench.apic.msr_write(0x6e0, 3'000'000);
  bench.processor.tsc_skew = ~u64{299};  // the TSC turns out 300 ticks behind the clock
  bench.at(1'000'000);
  EXPECT_FALSE(bench.apic.interrupt_pending());
  EXPECT_EQ(bench.apic.next_deadline(), 1'000'100U);
  bench.at(1'000'100);
  EXPECT_TRUE(bench.apic.interrupt_pending());
}

TEST(LocalApic, a_timer_vector_below_16_is_an_error_not_an_interrupt) {
  LocalApicBench bench;
  bench.enable();
  bench.write(R::LvtTimer, 0x05);
  bench.write(R::InitialCount, 1);
  bench.at(100);
  EXPECT_FALSE(bench.apic.interrupt_pending());
  bench.write(R::ErrorStatus, 0);
  EXPECT_EQ(bench.read(R::ErrorStatus), ApicError::receive_illegal_vector);
}

TEST(LocalApic, passes_the_8259_through_lint0) {
  LocalApicBench bench;
  bench.apic.set_lint(0, true);
  EXPECT_FALSE(bench.apic.interrupt_pending());  // masked after reset
  bench.apic.configure_virtual_wire();
  EXPECT_TRUE(bench.apic.interrupt_pending());
  EXPECT_EQ(bench.processor.wakes, 1U);
  EXPECT_EQ(bench.apic.acknowledge(), 0x30);
  EXPECT_EQ(bench.apic.mmio_read(0x110, 4), 0U);  // ExtINT never enters the ISR
  bench.apic.set_lint(0, false);
  EXPECT_EQ(bench.apic.acknowledge(), -1);
  bench.apic.set_lint(1, true);
  EXPECT_EQ(bench.processor.nmis, 1U);
}

TEST(LocalApic, is_a_plain_wire_when_disabled) {
  LocalApicBench bench;
  EXPECT_TRUE(bench.apic.msr_write(0x1b, 0xfee0'0100));
  EXPECT_EQ(bench.apic.mmio_read(0x30, 4), 0xffff'ffffU);
  bench.apic.set_lint(0, true);
  EXPECT_EQ(bench.apic.acknowledge(), 0x30);
  EXPECT_FALSE(bench.apic.accept(Delivery::Fixed, 0x40, Trigger::Edge));
}

TEST(LocalApic, apic_base_makes_only_the_legal_transitions) {
  LocalApicBench bench;
  LocalApic& apic = bench.apic;
  constexpr u64 disabled = 0xfee0'0100, xapic = 0xfee0'0900, x2apic = 0xfee0'0d00, invalid = 0xfee0'0500;
  EXPECT_FALSE(apic.msr_write(0x1b, invalid));
  EXPECT_TRUE(apic.msr_write(0x1b, x2apic));
  EXPECT_TRUE(apic.is_x2apic());
  EXPECT_FALSE(apic.msr_write(0x1b, xapic));
  EXPECT_FALSE(apic.msr_write(0x1b, invalid));
  EXPECT_TRUE(apic.msr_write(0x1b, disabled));
  EXPECT_FALSE(apic.msr_write(0x1b, x2apic));
  EXPECT_TRUE(apic.msr_write(0x1b, xapic));
  EXPECT_TRUE(apic.msr_write(0x1b, 0x1'2345'6900));
  EXPECT_EQ(apic.base_address(), 0x1'2345'6000U);
  EXPECT_FALSE(apic.msr_write(0x1b, xapic | 1));
  EXPECT_FALSE(apic.msr_write(0x1b, xapic | u64{1} << 46));
}

TEST(LocalApic, disabling_resets_and_entering_x2apic_keeps_the_state) {
  LocalApicBench bench;
  bench.enable();
  bench.write(R::TaskPriority, 0x20);
  bench.enter_x2apic();
  u64 value = 0;
  EXPECT_TRUE(bench.apic.msr_read(0x808, value));
  EXPECT_EQ(value, 0x20U);
  bench.apic.msr_write(0x1b, 0xfee0'0100);
  bench.apic.msr_write(0x1b, 0xfee0'0900);
  EXPECT_EQ(bench.read(R::TaskPriority), 0U);
  EXPECT_EQ(bench.read(R::Spurious), 0xffU);
}

TEST(LocalApic, x2apic_registers_fault_as_table_11_6_says) {
  LocalApicBench bench(0x25);
  u64 value = 0;
  EXPECT_FALSE(bench.apic.msr_read(0x802, value));  // not in xAPIC mode
  bench.enter_x2apic();
  EXPECT_EQ(bench.apic.mmio_read(0x20, 4), 0xffff'ffffU);
  EXPECT_TRUE(bench.apic.msr_read(0x802, value));
  EXPECT_EQ(value, 0x25U);
  EXPECT_TRUE(bench.apic.msr_read(0x80d, value));
  EXPECT_EQ(value, 0x0002'0020U);
  for (const u32 msr : std::initializer_list<u32>{0x800, 0x801, 0x804, 0x809, 0x80b, 0x80c, 0x80e, 0x82f,
                                                  0x831, 0x83f, 0x840, 0x8ff}) {
    EXPECT_FALSE(bench.apic.msr_read(msr, value)) << std::hex << msr;
  }
  for (const u32 msr : std::initializer_list<u32>{0x802, 0x803, 0x80a, 0x80d, 0x810, 0x818, 0x820, 0x839,
                                                  0x831, 0x80e, 0x82f, 0x840}) {
    EXPECT_FALSE(bench.apic.msr_write(msr, 0)) << std::hex << msr;
  }
  EXPECT_FALSE(bench.apic.msr_write(0x80b, 1));
  EXPECT_TRUE(bench.apic.msr_write(0x80b, 0));
  EXPECT_FALSE(bench.apic.msr_write(0x828, 1));
  EXPECT_FALSE(bench.apic.msr_write(0x808, 0x100));
  EXPECT_FALSE(bench.apic.msr_write(0x80f, u64{1} << 32));
  EXPECT_FALSE(bench.apic.msr_write(0x83e, 4));
  EXPECT_FALSE(bench.apic.msr_write(0x830, 1 << 13));
  EXPECT_TRUE(bench.apic.msr_write(0x80f, 0x1ff));
  EXPECT_TRUE(bench.apic.msr_write(0x832, 0x2'0040));
  EXPECT_TRUE(bench.apic.msr_read(0x832, value));
  EXPECT_EQ(value, 0x2'0040U);
}

TEST(LocalApic, x2apic_self_ipi_and_wide_commands) {
  LocalApicBench bench;
  bench.enter_x2apic();
  bench.apic.msr_write(0x80f, 0x1ff);
  EXPECT_TRUE(bench.apic.msr_write(0x83f, 0x55));
  EXPECT_EQ(bench.apic.acknowledge(), 0x55);
  constexpr u64 command = u64{0x0001'0003} << 32 | 0x4891;  // logical, assert, vector 91h
  EXPECT_TRUE(bench.apic.msr_write(0x830, command));
  ASSERT_EQ(bench.bus.sent.size(), 1U);
  EXPECT_EQ(bench.bus.sent[0].message.destination, 0x0001'0003U);
  EXPECT_EQ(bench.bus.sent[0].message.mode, Destination::Logical);
  EXPECT_EQ(bench.bus.sent[0].message.vector, 0x91);
  u64 value = 0;
  EXPECT_TRUE(bench.apic.msr_read(0x830, value));
  EXPECT_EQ(value, command);
}

TEST(LocalApic, sends_what_the_command_register_says) {
  LocalApicBench bench;
  bench.enable();
  bench.write(R::CommandHigh, 0x0200'0000);
  bench.write(R::CommandLow, 0x0000'4500);  // INIT, assert
  bench.write(R::CommandLow, 0x0000'8500);  // INIT, level de-assert: nothing
  bench.write(R::CommandLow, 0x0000'469a);  // Startup
  bench.write(R::CommandLow, 0x000c'40fd);  // fixed, all but self
  bench.write(R::CommandHigh, 0xff00'0000);
  bench.write(R::CommandLow, 0x0000'4400);  // NMI to everybody
  ASSERT_EQ(bench.bus.sent.size(), 4U);
  EXPECT_EQ(bench.bus.sent[0].message, (Message{0, Delivery::Init, Trigger::Edge, Destination::Physical, 2}));
  EXPECT_EQ(bench.bus.sent[1].message,
            (Message{0x9a, Delivery::Startup, Trigger::Edge, Destination::Physical, 2}));
  EXPECT_EQ(bench.bus.sent[2].shorthand, Shorthand::Others);
  EXPECT_EQ(bench.bus.sent[3].message.destination, kBroadcast);
}

TEST(LocalApic, matches_destinations_in_every_model) {
  LocalApicBench bench(5);
  const LocalApic& apic = bench.apic;
  EXPECT_TRUE(apic.accepts(Destination::Physical, 5));
  EXPECT_TRUE(apic.accepts(Destination::Physical, kBroadcast));
  EXPECT_FALSE(apic.accepts(Destination::Physical, 0x105));
  bench.write(R::LogicalDestination, 0x2000'0000);  // flat: bit 5
  EXPECT_TRUE(apic.accepts(Destination::Logical, 0x30));
  EXPECT_FALSE(apic.accepts(Destination::Logical, 0x1f));
  bench.write(R::DestinationFormat, 0x0fff'ffff);   // cluster
  bench.write(R::LogicalDestination, 0x3400'0000);  // cluster 3, member 2
  EXPECT_TRUE(apic.accepts(Destination::Logical, 0x3c));
  EXPECT_FALSE(apic.accepts(Destination::Logical, 0x3b));
  EXPECT_FALSE(apic.accepts(Destination::Logical, 0x4c));
  LocalApicBench wide(0x25);
  wide.enter_x2apic();
  EXPECT_TRUE(wide.apic.accepts(Destination::Physical, 0x25));
  EXPECT_TRUE(wide.apic.accepts(Destination::Logical, 0x0002'0021));
  EXPECT_FALSE(wide.apic.accepts(Destination::Logical, 0x0003'0020));
  EXPECT_FALSE(wide.apic.accepts(Destination::Logical, 0x0002'0010));
}

TEST(LocalApic, init_keeps_id_base_and_mode) {
  LocalApicBench bench(7);
  bench.write(R::Id, 0x0900'0000);
  bench.enable();
  bench.write(R::TaskPriority, 0x40);
  bench.apic.accept(Delivery::Init, 0, Trigger::Edge);
  EXPECT_EQ(bench.read(R::Id), 0x0900'0000U);
  EXPECT_EQ(bench.read(R::TaskPriority), 0U);
  EXPECT_EQ(bench.read(R::Spurious), 0xffU);
  bench.apic.reset();
  EXPECT_EQ(bench.read(R::Id), 0x0700'0000U);
}

TEST(LocalApic, paravirtual_eoi_ends_an_edge_without_a_register) {
  LocalApicBench bench;
  bench.enable();
  EXPECT_TRUE(bench.apic.msr_write(kMsrPvEoi, 0x1001));
  bench.apic.accept(Delivery::Fixed, 0x40, Trigger::Edge);
  EXPECT_EQ(bench.apic.acknowledge(), 0x40);
  EXPECT_EQ(bench.word.value, 1U);
  bench.word.value = 0;  // the guest's handler is done
  bench.apic.accept(Delivery::Fixed, 0x30, Trigger::Edge);
  EXPECT_TRUE(bench.apic.interrupt_pending());
  EXPECT_EQ(bench.processor.wakes, 2U);
  EXPECT_EQ(bench.apic.acknowledge(), 0x30);  // lower: 40h has ended
}

TEST(LocalApic, paravirtual_eoi_is_taken_back_when_something_waits) {
  LocalApicBench bench;
  bench.enable();
  bench.apic.msr_write(kMsrPvEoi, 0x1001);
  bench.apic.accept(Delivery::Fixed, 0x40, Trigger::Edge);
  bench.apic.acknowledge();
  bench.apic.accept(Delivery::Fixed, 0x30, Trigger::Edge);
  EXPECT_TRUE(bench.apic.interrupt_pending());  // come and look
  EXPECT_EQ(bench.apic.acknowledge(), -1);
  EXPECT_EQ(bench.word.value, 0U);
  EXPECT_FALSE(bench.apic.interrupt_pending());
  bench.write(R::Eoi, 0);
  EXPECT_EQ(bench.apic.acknowledge(), 0x30);
}

TEST(LocalApic, paravirtual_eoi_is_not_offered_for_levels_nested_or_queued_interrupts) {
  LocalApicBench bench;
  bench.enable();
  bench.apic.msr_write(kMsrPvEoi, 0x1001);
  bench.apic.accept(Delivery::Fixed, 0x40, Trigger::Level);
  bench.apic.acknowledge();
  EXPECT_EQ(bench.word.value, 0U);
  bench.apic.accept(Delivery::Fixed, 0x50, Trigger::Edge);  // nests over 40h
  EXPECT_EQ(bench.apic.acknowledge(), 0x50);
  EXPECT_EQ(bench.word.value, 0U);
  bench.write(R::Eoi, 0);
  bench.write(R::Eoi, 0);
  bench.apic.accept(Delivery::Fixed, 0x60, Trigger::Edge);
  bench.apic.accept(Delivery::Fixed, 0x61, Trigger::Edge);
  EXPECT_EQ(bench.apic.acknowledge(), 0x61);
  EXPECT_EQ(bench.word.value, 0U);
}

TEST(LocalApic, a_register_eoi_after_an_offer_ends_one_interrupt_only) {
  LocalApicBench bench;
  bench.enable();
  bench.apic.msr_write(kMsrPvEoi, 0x1001);
  bench.apic.accept(Delivery::Fixed, 0x40, Trigger::Edge);
  bench.apic.acknowledge();
  bench.write(R::Eoi, 0);  // a guest that does not look at its word
  EXPECT_EQ(bench.word.value, 0U);
  EXPECT_EQ(bench.read(R::ProcessorPriority), 0U);
}

TEST(LocalApic, paravirtual_eoi_msr_faults_on_bad_values_and_when_absent) {
  LocalApicBench bench;
  EXPECT_FALSE(bench.apic.msr_write(kMsrPvEoi, 0x1003));
  EXPECT_FALSE(bench.apic.msr_write(kMsrPvEoi, 0x9001));
  u64 value = 1;
  EXPECT_TRUE(bench.apic.msr_read(kMsrPvEoi, value));
  EXPECT_EQ(value, 0U);
  LocalApic plain({bench.clock, bench.processor, bench.bus, bench.bus, bench.bus}, {});
  EXPECT_FALSE(plain.msr_read(kMsrPvEoi, value));
  EXPECT_FALSE(plain.msr_write(kMsrPvEoi, 0x1001));
}

TEST(LocalApic, a_restored_state_goes_on_where_it_was) {
  LocalApicBench before;
  before.enable();
  before.write(R::LvtTimer, 0x4'0040);
  before.apic.msr_write(0x6e0, 9'000'000);
  before.apic.accept(Delivery::Fixed, 0x77, Trigger::Level);
  LocalApicBench after;
  EXPECT_TRUE(after.apic.load(before.apic.state()).ok());
  EXPECT_EQ(after.apic.state(), before.apic.state());
  EXPECT_EQ(after.processor.wakes, 1U);
  EXPECT_EQ(after.apic.next_deadline(), 3'000'000U);
  EXPECT_EQ(after.apic.acknowledge(), 0x77);
}

TEST(LocalApic, refuses_damaged_states) {
  LocalApicBench bench;
  LocalApic::State state = bench.apic.state();
  state.version = 2;
  EXPECT_FALSE(bench.apic.load(state).ok());
  state = bench.apic.state();
  state.base = 0xfee0'0500;
  EXPECT_FALSE(bench.apic.load(state).ok());
  state = bench.apic.state();
  state.base = ~u64{0};
  EXPECT_FALSE(bench.apic.load(state).ok());
  state = bench.apic.state();
  state.id = 4;
  EXPECT_FALSE(bench.apic.load(state).ok());
}

TEST(LocalApic, lends_what_it_has_and_gets_it_back) {
  LocalApicBench bench;
  bench.apic.mmio_write(0xf0, 4, 0x1ff);
  bench.apic.mmio_write(0x320, 4, 0x20040);  // periodic
  bench.apic.mmio_write(0x3e0, 4, 0xb);      // by 1
  bench.apic.mmio_write(0x380, 4, 1'000'000);
  bench.apic.accept(Delivery::Fixed, 0x61, Trigger::Edge);
  bench.clock.now += 400'000;
  const LocalApic::Loan loan = bench.apic.lend();
  EXPECT_EQ(loan.current_count, 600'000u);
  EXPECT_EQ(loan.state.irr[3], 2u);

  // What is left is the 8259's wire.
  EXPECT_EQ(bench.apic.next_deadline(), time::kNever);
  EXPECT_FALSE(bench.apic.decodes_mmio());
  EXPECT_FALSE(bench.apic.accept(Delivery::Fixed, 0x62, Trigger::Edge));
  u64 value = 0;
  EXPECT_FALSE(bench.apic.msr_read(0x1b, value));
  EXPECT_FALSE(bench.apic.interrupt_pending());
  const unsigned wakes = bench.processor.wakes;
  bench.apic.set_lint(0, true);
  EXPECT_EQ(bench.processor.wakes, wakes + 1);
  EXPECT_TRUE(bench.apic.interrupt_pending());
  EXPECT_EQ(bench.apic.acknowledge(), 0x30);
  bench.apic.set_lint(0, false);
  EXPECT_FALSE(bench.apic.interrupt_pending());
  EXPECT_EQ(bench.apic.acknowledge(), -1);

  bench.clock.now += 5'000'000;  // somebody else's
  ASSERT_TRUE(bench.apic.take_back(loan).ok());
  EXPECT_EQ(bench.apic.next_deadline(), bench.clock.now + 600'000);
  EXPECT_EQ(bench.apic.mmio_read(0x380, 4), 1'000'000u);
  EXPECT_EQ(bench.apic.acknowledge(), 0x61);
}

TEST(LocalApic, a_damaged_loan_is_not_taken_back) {
  LocalApicBench bench;
  LocalApic::Loan loan = bench.apic.lend();
  loan.state.base = 0xfee0'0500;
  EXPECT_FALSE(bench.apic.take_back(loan).ok());
  EXPECT_TRUE(bench.apic.is_lent());
}

TEST(LocalApic, survives_random_sequences) {
  nacre::testing::run_random_sequences(local_apic_sequence, 2000);
}

}  // namespace
}  // namespace nacre::irq
