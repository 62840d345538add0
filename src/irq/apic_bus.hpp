// The system bus as APICs see it: takes messages and IPIs to the local APICs in their destination
// set. SDM vol. 3, 11.6.2. Freestanding; all calls under the board's lock.
#pragma once

#include "irq/local_apic/local_apic.hpp"
#include "irq/message.hpp"

namespace nacre::irq {

class ApicBus final : public MessageSink, public IpiSink {
 public:
  static constexpr usize kMaxApics = 64;

  // Attached for the life of the bus. False when the bus is full.
  bool attach(LocalApic& apic);
  [[nodiscard]] usize count() const { return count_; }
  [[nodiscard]] LocalApic& apic(usize i) { return *apics_[i]; }

  // Messages go there instead, as the local APICs are lent; null: they are here. LocalApic::lend().
  void lend(MessageSink* elsewhere) { elsewhere_ = elsewhere; }

  bool deliver(const Message& message) override;
  void expect_level(unsigned pin, const Message& message) override;
  void send(const Message& message, Shorthand shorthand, u32 sender) override;

 private:
  bool deliver_lowest_priority(const Message& message);

  LocalApic* apics_[kMaxApics] = {};
  usize count_ = 0;
  MessageSink* elsewhere_ = nullptr;
};

}  // namespace nacre::irq
