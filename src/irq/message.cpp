#include "irq/message.hpp"

#include "base/bits.hpp"

namespace nacre::irq {

Message message_from_msi(u64 address, u32 data) {
  Message message;
  message.destination = destination_from_8_bits(static_cast<u8>(extract(address, 19, 12)));
  message.mode = extract(address, 2, 2) != 0 ? Destination::Logical : Destination::Physical;
  message.vector = static_cast<u8>(data);
  message.delivery = static_cast<Delivery>(extract(data, 10, 8));
  // Bit 14 (level) is ignored for edges; a de-assert message of a level interrupt does nothing here.
  message.trigger = extract(data, 15, 15) != 0 ? Trigger::Level : Trigger::Edge;
  return message;
}

Msi msi_from_message(const Message& message) {
  constexpr u64 kBase = 0xfee0'0000, kRedirect = 1 << 3;
  constexpr u32 kAssert = 1 << 14;
  Msi msi;
  msi.address = kBase | u64{message.destination & 0xff} << 12;
  if (message.mode == Destination::Logical) msi.address |= u64{1} << 2;
  if (message.delivery == Delivery::LowestPriority) msi.address |= kRedirect;
  msi.data = message.vector | static_cast<u32>(message.delivery) << 8;
  if (message.trigger == Trigger::Level) msi.data |= u32{1} << 15 | kAssert;
  return msi;
}

}  // namespace nacre::irq
