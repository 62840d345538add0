// What a function writes to interrupt: MSI and MSI-X alike. Freestanding.
#pragma once

#include "irq/message.hpp"

namespace nacre::device::pci {

// Messages are interrupts only at 0xfee00000; elsewhere they would be stores to memory, which no guest wants.
inline void send_message(irq::MessageSink& sink, u64 address, u32 data) {
  if (address >> 20 == 0xfee) static_cast<void>(sink.deliver(irq::message_from_msi(address, data)));
}

}  // namespace nacre::device::pci
