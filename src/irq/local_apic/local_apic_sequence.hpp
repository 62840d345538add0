// Any sequence of accesses, messages, wires and times against one local APIC: what the fuzz target and the
// bounded random test run.
#pragma once

#include "base/check.hpp"
#include "irq/local_apic/local_apic_testing.hpp"

namespace nacre::irq {

inline void local_apic_sequence(nacre::testing::ByteSource bytes) {
  LocalApicBench bench;
  LocalApic& apic = bench.apic;
  constexpr u32 registers[] = {0x20,  0x80,  0xb0,  0xd0,  0xe0,  0xf0,  0x280, 0x300,
                               0x310, 0x320, 0x350, 0x370, 0x380, 0x390, 0x3e0, 0x3f0};
  constexpr unsigned sizes[] = {1, 2, 4, 8};
  while (!bytes.empty()) {
    u64 value = 0;
    switch (bytes.take<u8>() % 16) {
      case 0:
        apic.mmio_write(bytes.take<u16>(), bytes.pick(sizes), bytes.take<u64>());
        break;
      case 1:
      case 2:
        apic.mmio_write(bytes.pick(registers), 4, bytes.take<u32>());
        break;
      case 3:
        apic.mmio_read(bytes.take<u16>(), bytes.pick(sizes));
        break;
      case 4:
      case 5:
        apic.msr_write(0x800 + (bytes.pick(registers) >> 4), bytes.take<u32>());
        break;
      case 6:
        apic.msr_read(0x800 + bytes.take<u8>(), value);
        break;
      case 7:
        apic.msr_write(0x1b, 0xfee0'0000 | (bytes.take<u16>() & 0xd00));
        break;
      case 8:
        apic.msr_write(0x6e0, bytes.take<u64>() >> (bytes.take<u8>() & 63));
        break;
      case 9:
        apic.accept(static_cast<Delivery>(bytes.take<u8>() & 7), bytes.take<u8>(),
                    static_cast<Trigger>(bytes.take<u8>() & 1));
        break;
      case 10:
        apic.set_lint(bytes.take<u8>() & 3, (bytes.take<u8>() & 1) != 0);
        break;
      case 11: {
        const bool pending = apic.interrupt_pending();
        NACRE_CHECK((apic.acknowledge() >= 0) == pending);
        break;
      }
      case 12:
        apic.set_cr8(bytes.take<u8>());
        break;
      case 13:
        bench.clock.now += bytes.take<u64>() >> (20 + (bytes.take<u8>() & 31));
        apic.advance(bench.clock.now);
        NACRE_CHECK(apic.next_deadline() > bench.clock.now);
        break;
      case 14:
        (void)apic.accepts(static_cast<Destination>(bytes.take<u8>() & 1), bytes.take<u32>());
        break;
      default: {
        LocalApic::State state = apic.state();
        const usize at = bytes.take<u16>() % sizeof state;  // a damaged snapshot
        reinterpret_cast<u8*>(&state)[at] = bytes.take<u8>();
        if (apic.load(state).ok()) {
          const LocalApic::State kept = apic.state();
          NACRE_CHECK(apic.load(kept).ok() && apic.state() == kept);
        }
        break;
      }
    }
    if (!apic.interrupt_pending()) NACRE_CHECK(apic.acknowledge() == -1);
  }
}

}  // namespace nacre::irq
