// A local APIC with everything around it recorded, for its tests.
#pragma once

#include <deque>
#include <vector>

#include "irq/local_apic/local_apic.hpp"
#include "irq/testing/byte_source.hpp"

namespace nacre::irq {

struct RecordedProcessor final : Processor {
  unsigned wakes = 0, nmis = 0, smis = 0, inits = 0;
  std::vector<u8> startups;
  nacre::testing::ManualClock* clock = nullptr;
  u64 tsc_per_us = 3000;
  u64 tsc_skew = 0;
  void interrupt_ready() override { ++wakes; }
  void nmi() override { ++nmis; }
  void smi() override { ++smis; }
  void init() override { ++inits; }
  void startup(u8 vector) override { startups.push_back(vector); }
  u64 guest_tsc() override { return time::scale(clock->now, tsc_per_us, 1000) + tsc_skew; }
};

struct SentIpi {
  Message message;
  Shorthand shorthand;
  bool operator==(const SentIpi&) const = default;
};
struct RecordedBus final : IpiSink, EoiSink, ExtIntSource {
  std::vector<SentIpi> sent;
  std::vector<u8> ended;
  u8 extint_vector = 0x30;
  void send(const Message& message, Shorthand shorthand, u32) override {
    sent.push_back({message, shorthand});
  }
  void end_of_interrupt(u8 vector) override { ended.push_back(vector); }
  u8 acknowledge() override { return extint_vector; }
};

// One word of guest RAM at 0x1000.
struct RecordedWord final : GuestWord {
  u32 value = 0;
  bool load(GuestPhysical address, u32& to) override {
    to = value;
    return address.value() == 0x1000;
  }
  bool store(GuestPhysical address, u32 from) override {
    if (address.value() != 0x1000) return false;
    value = from;
    return true;
  }
};

struct LocalApicBench {
  nacre::testing::ManualClock clock;
  RecordedProcessor processor;
  RecordedBus bus;
  RecordedWord word;
  LocalApic apic;

  explicit LocalApicBench(u32 id = 0)
      : apic({clock, processor, bus, bus, bus, &word},
             {.id = id, .bootstrap = id == 0, .tsc_khz = 3'000'000}) {
    processor.clock = &clock;
  }
  LocalApicBench(const LocalApicBench&) = delete;

  u32 read(ApicRegister r) { return static_cast<u32>(apic.mmio_read(u64{static_cast<u8>(r)} << 4, 4)); }
  void write(ApicRegister r, u32 value) { apic.mmio_write(u64{static_cast<u8>(r)} << 4, 4, value); }
  void enable() { write(ApicRegister::Spurious, 0x1ff); }
  void enter_x2apic() { apic.msr_write(0x1b, apic.apic_base() | 1 << 10); }
  void at(u64 ns) {
    clock.now = ns;
    apic.advance(ns);
  }
};

}  // namespace nacre::irq
