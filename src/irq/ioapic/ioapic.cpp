#include "irq/ioapic/ioapic.hpp"

#include <type_traits>

namespace nacre::irq {

// A snapshot is these bytes: none of them may be padding.
static_assert(std::has_unique_object_representations_v<Ioapic::State>);

namespace {

constexpr u32 kVersionRegister = 0x20 | ((Ioapic::kPins - 1) << 16);

bool is_level(Redirection entry) {
  return entry[Redirection::trigger] == Trigger::Level;
}

Message message_of(Redirection entry) {
  Message message;
  message.vector = entry[Redirection::vector];
  message.delivery = entry[Redirection::delivery];
  message.mode = entry[Redirection::mode];
  message.trigger = entry[Redirection::trigger];
  message.destination = destination_from_8_bits(entry[Redirection::destination]);
  return message;
}

}  // namespace

void Ioapic::reset() {
  const u32 level = state_.level;
  state_ = State{};
  state_.id = initial_id_;
  state_.level = level;
  for (u64& entry : state_.redirection) entry = Redirection::kReset;
}

void Ioapic::set_pin(unsigned pin, bool asserted) {
  if (pin >= kPins) return;
  const u32 bit = u32{1} << pin;
  const bool was_asserted = (state_.level & bit) != 0;
  state_.level = asserted ? state_.level | bit : state_.level & ~bit;
  if (!asserted || was_asserted) return;
  const Redirection entry(state_.redirection[pin]);
  if (is_level(entry)) {
    deliver_if_level_pending(pin);
  } else if (!entry[Redirection::masked]) {
    deliver(pin);
  }
}

void Ioapic::deliver_if_level_pending(unsigned pin) {
  const Redirection entry(state_.redirection[pin]);
  const bool asserted = (state_.level >> pin & 1) != 0;
  if (is_level(entry) && asserted && !entry[Redirection::masked] && !entry[Redirection::remote_irr])
    deliver(pin);
}

void Ioapic::deliver(unsigned pin) {
  const Redirection entry(state_.redirection[pin]);
  const Message message = message_of(entry);
  // Remote IRR is set when a local APIC accepts a level interrupt that it will broadcast an EOI for.
  // It is set before the message goes out, because the EOI may come from inside deliver().
  const bool expects_eoi = is_level(entry) && (message.delivery == Delivery::Fixed ||
                                               message.delivery == Delivery::LowestPriority);
  if (expects_eoi) state_.redirection[pin] = entry.with(Redirection::remote_irr, true).raw;
  if (!bus_.deliver(message) && expects_eoi) {
    state_.redirection[pin] = Redirection(state_.redirection[pin]).with(Redirection::remote_irr, false).raw;
  }
}

// A masked entry is left as it was told: what it sent may be in service.
void Ioapic::announce(unsigned pin) {
  const Redirection entry(state_.redirection[pin]);
  if (is_level(entry) && !entry[Redirection::masked]) bus_.expect_level(pin, message_of(entry));
}

void Ioapic::end_of_interrupt(u8 vector) {
  for (unsigned pin = 0; pin < kPins; ++pin) {
    const Redirection entry(state_.redirection[pin]);
    if (!entry[Redirection::remote_irr] || entry[Redirection::vector] != vector) continue;
    state_.redirection[pin] = entry.with(Redirection::remote_irr, false).raw;
    deliver_if_level_pending(pin);
  }
}

u64 Ioapic::read(u64 offset, unsigned size) {
  u32 value = 0;
  if (offset == IoapicRegister::kSelect) value = state_.select;
  if (offset == IoapicRegister::kWindow) value = read_selected();
  return value & low_bytes_mask(size);
}

void Ioapic::write(u64 offset, unsigned size, u64 value) {
  const u32 low = static_cast<u32>(value & low_bytes_mask(size));
  switch (offset) {
    case IoapicRegister::kSelect:
      state_.select = low & 0xff;
      break;
    case IoapicRegister::kWindow:
      write_selected(low);
      break;
    case IoapicRegister::kEoi:
      end_of_interrupt(static_cast<u8>(low));
      break;
    default:
      break;
  }
}

u32 Ioapic::read_selected() const {
  switch (state_.select) {
    case IoapicRegister::kId:
    case IoapicRegister::kArbitration:
      return state_.id << 24;
    case IoapicRegister::kVersion:
      return kVersionRegister;
    default:
      break;
  }
  const u32 pin = (state_.select - IoapicRegister::kRedirection) / 2;
  if (state_.select < IoapicRegister::kRedirection || pin >= kPins) return 0;
  return static_cast<u32>(state_.redirection[pin] >> (state_.select % 2 * 32));
}

void Ioapic::write_selected(u32 value) {
  if (state_.select == IoapicRegister::kId) state_.id = value >> 24 & 0xf;
  const u32 pin = (state_.select - IoapicRegister::kRedirection) / 2;
  if (state_.select < IoapicRegister::kRedirection || pin >= kPins) return;

  const unsigned shift = state_.select % 2 * 32;
  const u64 mask = (u64{0xffff'ffff} << shift) & Redirection::kWritable;
  u64& raw = state_.redirection[pin];
  raw = (raw & ~mask) | ((u64{value} << shift) & mask);
  // An edge entry has no remote IRR. Linux relies on it to clear a stuck one on version 1xh parts.
  if (!is_level(Redirection(raw))) raw = Redirection(raw).with(Redirection::remote_irr, false).raw;
  announce(pin);
  deliver_if_level_pending(pin);
}

Status Ioapic::load(const State& state) {
  if (state.version != State::kVersion) return Error("the IOAPIC's saved state has an unknown version");
  State checked = state;
  checked.select &= 0xff;
  checked.id &= 0xf;
  checked.level &= (u32{1} << kPins) - 1;
  for (u64& raw : checked.redirection) {
    raw &= Redirection::kWritable | Redirection::kReadOnly;
    raw = Redirection(raw).with(Redirection::send_pending, false).raw;
    if (!is_level(Redirection(raw))) raw = Redirection(raw).with(Redirection::remote_irr, false).raw;
  }
  state_ = checked;
  announce_all();
  return {};
}

}  // namespace nacre::irq
