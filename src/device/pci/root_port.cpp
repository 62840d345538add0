#include "device/pci/root_port.hpp"

#include <type_traits>

#include "base/bits.hpp"
#include "base/check.hpp"
#include "device/pci/message.hpp"

namespace nacre::device::pci {
namespace {

static_assert(std::has_unique_object_representations_v<RootPort::State>);

// An identity that other virtual machine monitors use for such a port; drivers go by the class.
constexpr u16 kVendor = 0x1b36, kDevice = 0x000c;
constexpr u32 kClass = 0x060400;  // bridge, PCI to PCI
constexpr u8 kTypeBridge = 0x01, kSeveralFunctions = 0x80;
constexpr u64 kClosed = u64{1} << 32;  // first MiB 1, last 0: nothing
constexpr u16 kWindowWritable = 0xfff0;

constexpr u16 indicator_bits(RootPort::Indicator indicator) {
  return static_cast<u16>(static_cast<u16>(indicator) << 8);
}
constexpr u16 kAttentionOff = 3 << 6, kPowerOff = 1 << 10;

}  // namespace

RootPort::RootPort(irq::MessageSink& sink, SlotObserver& observer, u8 number, bool several)
    : sink_(sink), observer_(observer), number_(number), window_(kClosed) {
  NACRE_CHECK(number != 0);
  config_.set_header(kVendor, kDevice, kClass << 8);
  config_.set(Offset::header_type, 1, kTypeBridge | (several ? kSeveralFunctions : 0));
  config_.set(BridgeOffset::primary, 3, 0, 0xffffff);
  config_.set(BridgeOffset::memory_base, 2, 0, kWindowWritable);
  config_.set(BridgeOffset::memory_limit, 2, 0, kWindowWritable);
  config_.set(BridgeOffset::control, 2, 0, BridgeControl::kWritable);

  using E = ExpressOffset;
  using S = SlotCapability;
  express_ = config_.add_express(kExpressRootPort);
  const auto express = [this](u16 part) { return static_cast<u16>(express_ + part); };
  slot_control_ = express(E::slot_control);
  config_.set(express(E::link_capabilities), 4,
              u32{number} << 24 | LinkCapability::active_reporting | kLinkX1);
  config_.set(express(E::link_control), 2, 0, LinkControl::kWritable);
  config_.set(express(E::slot_capabilities), 4,
              u32{number} << S::number_shift | S::attention_button | S::power_controller |
                  S::power_indicator | S::surprise | S::hot_plug | S::no_command_completed);
  config_.set(slot_control_, 2, kAttentionOff | indicator_bits(Indicator::Off) | kPowerOff,
              SlotControl::kWritable);
  config_.set(express(E::root_control), 2, 0, 0x1f);

  msi_ = config_.add_capability(CapabilityId::msi, MsiOffset::bytes);
  config_.set(static_cast<u16>(msi_ + MsiOffset::control), 2, MsiControl::address_64, MsiControl::enable);
  config_.set(static_cast<u16>(msi_ + MsiOffset::address), 4, 0, ~u32{3});
  config_.set(static_cast<u16>(msi_ + MsiOffset::address_high), 4, 0, ~u32{0});
  config_.set(static_cast<u16>(msi_ + MsiOffset::data), 2, 0, 0xffff);
}

// --- the slot ---

void RootPort::plug(Function& card) {
  NACRE_CHECK(card_ == nullptr);
  card_ = &card;
  present_ = true;
  doorbells_.store(card_, std::memory_order_release);
  look_at_link();
  event(SlotEvent::presence_changed | SlotEvent::attention_button);
}

void RootPort::press() {
  event(SlotEvent::attention_button);
}

void RootPort::pull() {
  if (!present_) return;
  present_ = false;
  look_at_link();
  event(SlotEvent::presence_changed);
}

Function* RootPort::take_out() {
  Function* card = card_;
  card_ = nullptr;
  doorbells_.store(nullptr, std::memory_order_release);
  if (present_) {
    present_ = false;
    look_at_link();
    event(SlotEvent::presence_changed);
  }
  return card;
}

bool RootPort::link_is_up() const {
  const u32 link = config_.read(static_cast<u16>(express_ + ExpressOffset::link_control), 2);
  return present_ && is_powered() && (link & LinkControl::disable) == 0;
}

// Whatever the link hangs on has changed.
void RootPort::look_at_link() {
  const bool up = link_is_up();
  if (up == link_up_) return;
  link_up_ = up;
  event(SlotEvent::link_changed);
}

void RootPort::look_at_indicator() {
  in_use_ = is_powered() && (in_use_ || indicator() == Indicator::On);
}

// Without power, and after a reset of its bus, a card is as new.
void RootPort::cut_card() {
  if (card_ == nullptr) return;
  u64 next = u64{config_.read(BridgeOffset::memory_base, 2) & kWindowWritable} << 16;
  card_->lose_power(next);
}

void RootPort::event(u16 bits) {
  status_ |= bits;
  update_interrupt();
}

// 6.7.3.4: a message is sent when the first enabled event comes, not with each.
void RootPort::update_interrupt() {
  const SlotControl slot = control();
  u16 enabled = 0;
  if (slot[SlotControl::attention_button_enable]) enabled |= SlotEvent::attention_button;
  if (slot[SlotControl::presence_enable]) enabled |= SlotEvent::presence_changed;
  if (slot[SlotControl::link_enable]) enabled |= SlotEvent::link_changed;
  const u32 msi = config_.read(static_cast<u16>(msi_ + MsiOffset::control), 2);
  const bool assert_now =
      slot[SlotControl::interrupt_enable] && (status_ & enabled) != 0 && (msi & MsiControl::enable) != 0;
  const bool sends = assert_now && !asserted_;
  asserted_ = assert_now;
  if (!sends) return;
  const u64 low = config_.read(static_cast<u16>(msi_ + MsiOffset::address), 4);
  const u64 high = config_.read(static_cast<u16>(msi_ + MsiOffset::address_high), 4);
  const u32 data = config_.read(static_cast<u16>(msi_ + MsiOffset::data), 2);
  send_message(sink_, high << 32 | low, data);
}

// --- the bus ---

u32 RootPort::config_read(u16 offset, unsigned size) {
  u32 value = config_.read(offset, size);
  // Status registers that are not kept in the space itself.
  const auto overlay = [&](u16 at, u16 bits) {
    for (u16 i = 0; i < 2; ++i) {
      const int place = at + i - offset;
      if (place >= 0 && place < static_cast<int>(size)) value |= (u32{bits} >> (8 * i) & 0xff) << (8 * place);
    }
  };
  overlay(static_cast<u16>(express_ + ExpressOffset::slot_status),
          static_cast<u16>(status_ | (present_ ? SlotStatus::present : 0)));
  overlay(static_cast<u16>(express_ + ExpressOffset::link_status),
          static_cast<u16>(link_up_ ? kLinkX1 | LinkStatus::active : 0));
  return value;
}

void RootPort::config_write(u16 offset, unsigned size, u32 value) {
  const SlotControl before = control();
  const u32 bridge_before = config_.read(BridgeOffset::control, 2);
  config_.write(offset, size, value);
  const u16 status = static_cast<u16>(express_ + ExpressOffset::slot_status);
  for (u16 i = 0; i < 2; ++i) {  // events are cleared by writing ones
    const int place = status + i - offset;
    if (place >= 0 && place < static_cast<int>(size))
      status_ &= static_cast<u16>(~((value >> (8 * place) & 0xff) << (8 * i)));
  }
  const SlotControl after = control();
  const u32 set = config_.read(BridgeOffset::control, 2) & ~bridge_before;
  const bool switched = before[SlotControl::power_off] != after[SlotControl::power_off];
  if (switched || (set & BridgeControl::secondary_bus_reset) != 0) cut_card();
  settings_changed();
  look_at_link();
  look_at_indicator();
  update_interrupt();
  if (switched || before[SlotControl::power_indicator] != after[SlotControl::power_indicator])
    observer_.slot_changed(number_);
}

// What follows from the registers: which memory is behind the port.
void RootPort::settings_changed() {
  const bool decoding = config_.decodes_memory();
  const u64 first = config_.read(BridgeOffset::memory_base, 2) >> 4;
  const u64 last = config_.read(BridgeOffset::memory_limit, 2) >> 4;
  window_.store(decoding ? first << 32 | last : kClosed, std::memory_order_relaxed);
}

bool RootPort::routes(GuestPhysical address, unsigned size) const {
  const u64 window = window_.load(std::memory_order_relaxed);
  const u64 first = (window >> 32) * kMiB, end = ((window & 0xffff'ffff) + 1) * kMiB;
  return address.value() >= first && address.value() < end && end - address.value() >= size;
}

bool RootPort::memory_read(GuestPhysical address, unsigned size, u64& value) {
  return card_ != nullptr && is_powered() && routes(address, size) &&
         card_->memory_read(address, size, value);
}

bool RootPort::memory_write(GuestPhysical address, unsigned size, u64 value) {
  return card_ != nullptr && is_powered() && routes(address, size) &&
         card_->memory_write(address, size, value);
}

// A card without power does not decode its doorbells: it has lost its registers.
bool RootPort::ring(GuestPhysical address) {
  Function* card = doorbells_.load(std::memory_order_acquire);
  return card != nullptr && routes(address, 1) && card->ring(address);
}

// There is one device on a link, and its one function.
Function* RootPort::behind(u32 number) {
  const u32 bus = number >> 8;
  if (bus == 0 || bus != config_.read(BridgeOffset::secondary, 1)) return nullptr;
  return (number & 0xff) == 0 && link_up_ ? card_ : nullptr;
}

void RootPort::reset(u64& next) {
  config_.reset();
  next = (next + kMiB - 1) & ~(kMiB - 1);
  config_.put(BridgeOffset::secondary, 1, number_);
  config_.put(BridgeOffset::subordinate, 1, number_);
  config_.put(BridgeOffset::memory_base, 2, static_cast<u32>(next >> 16) & kWindowWritable);
  config_.put(BridgeOffset::memory_limit, 2,
              static_cast<u32>((next + kWindowBytes - 1) >> 16) & kWindowWritable);
  if (card_ != nullptr) {
    config_.put(slot_control_, 2, kAttentionOff | indicator_bits(Indicator::On));
    u64 inside = next;
    card_->reset(inside);
    NACRE_CHECK(inside <= next + kWindowBytes);
  }
  next += kWindowBytes;
  present_ = card_ != nullptr;
  link_up_ = link_is_up();
  look_at_indicator();
  status_ = 0;
  asserted_ = false;
  settings_changed();
}

RootPort::State RootPort::state() const {
  State state;
  config_.save(state.config);
  state.status = status_;
  state.present = present_ ? 1 : 0;
  state.occupied = card_ != nullptr ? 1 : 0;
  return state;
}

Status RootPort::load(const State& state) {
  if (state.version != State::kVersion) return Error("a root port's saved state has an unknown version");
  if ((state.occupied != 0) != (card_ != nullptr))
    return Error("a root port's saved state has another slot than this one: with a card, or without");
  config_.load(state.config);
  status_ = state.status & SlotEvent::kAll;
  present_ = card_ != nullptr && state.present != 0;
  link_up_ = link_is_up();
  look_at_indicator();
  settings_changed();
  asserted_ = true;  // what was sent then is not sent again
  update_interrupt();
  return {};
}

}  // namespace nacre::device::pci
