// What travels between APICs: IPIs, IOAPIC redirections and MSIs are all one Message to a set of
// destinations. SDM vol. 3, 11.6 (ICR), 11.11 (MSI), 82093AA 3.2.4. Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::irq {

// The encoding shared by the ICR, redirection entries, LVT entries and MSI data. SDM vol. 3, 11.6.1.
enum class Delivery : u8 {
  Fixed = 0,
  LowestPriority = 1,
  Smi = 2,
  RemoteRead = 3,  // reserved since the P6 family: never delivered
  Nmi = 4,
  Init = 5,
  Startup = 6,  // ICR only
  ExtInt = 7,
};
enum class Destination : u8 { Physical = 0, Logical = 1 };
enum class Trigger : u8 { Edge = 0, Level = 1 };

// Destination that reaches every local APIC in either mode; the 8-bit formats' 0xff means this.
inline constexpr u32 kBroadcast = 0xffff'ffff;
constexpr u32 destination_from_8_bits(u8 id) {
  return id == 0xff ? kBroadcast : id;
}

struct Message {
  u8 vector = 0;
  Delivery delivery = Delivery::Fixed;
  Trigger trigger = Trigger::Edge;
  Destination mode = Destination::Physical;
  u32 destination = 0;  // an x2APIC-width id or logical set; kBroadcast for all

  constexpr bool operator==(const Message&) const = default;
};

// Takes a message to its destinations. True when at least one local APIC took it.
class MessageSink {
 public:
  virtual bool deliver(const Message& message) = 0;
  // Pin `pin` of the I/O APIC will send this, level-triggered, until the next call for that pin: where local APICs are
  // elsewhere, they tell the end of such interrupts only as they were told to.
  virtual void expect_level(unsigned pin, const Message& message) { static_cast<void>(pin), static_cast<void>(message); }

 protected:
  ~MessageSink() = default;
};

// Hears the end of a level-triggered interrupt: local APICs broadcast its vector to the IOAPICs.
class EoiSink {
 public:
  virtual void end_of_interrupt(u8 vector) = 0;

 protected:
  ~EoiSink() = default;
};

// What an ExtINT makes the processor ask: the INTA cycle of the 8259 pair.
class ExtIntSource {
 public:
  virtual u8 acknowledge() = 0;

 protected:
  ~ExtIntSource() = default;
};

// A PCI message-signalled interrupt as it is written to memory at 0xfee00000. SDM vol. 3, 11.11.
Message message_from_msi(u64 address, u32 data);

// The other way, for destinations below 255 and kBroadcast.
struct Msi {
  u64 address = 0;
  u32 data = 0;
};
Msi msi_from_message(const Message& message);

}  // namespace nacre::irq
