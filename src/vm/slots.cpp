#include "vm/slots.hpp"

#include <algorithm>

#include "net/cable.hpp"

namespace nacre::vm {
namespace {

// Cards of slots do not have the addresses of those that the machine began with (net::mac_of).
constexpr unsigned kFirstSlotMac = 0x7f;

}  // namespace

Slots::~Slots() {
  stop();
}

Status Slots::create(unsigned count, unsigned processors) {
  if (count > kMost)
    return Error("A guest can have at most ").append_number(kMost).append(" hot-plug slots.");
  processors_ = processors;
  for (unsigned i = 0; i < count; ++i) {
    slots_[i] = std::make_unique<Slot>(machine_, changes_, i + 1, count > 1);
    Slot& slot = *slots_[i];
    slot.loop = TRY(storage::Loop::create());
    slot.timer = TRY(StorageDisk::make_timer());
    slot.thread = TRY(DeviceThread::create());
    slot.thread->at_end([&slot] {
      if (slot.card.disk != nullptr) slot.card.disk->close();
    });
    machine_.board.chipset().pci().attach(kPciDevice, i, slot.port);
  }
  return {};
}

void Slots::start(const std::function<void(const Error&)>& failed) {
  for (auto& slot : slots_) {
    if (slot != nullptr) slot->thread->start("slot", failed);
  }
}

void Slots::stop() {
  for (auto& slot : slots_) {
    if (slot != nullptr) slot->thread->stop();
  }
}

Slots::Slot* Slots::find(unsigned number) {
  return number >= 1 && number <= kMost ? slots_[number - 1].get() : nullptr;
}

void Slots::tell(SlotEvent::Kind kind, unsigned slot, const char* why) {
  {
    const std::lock_guard hold(lock_);
    events_.push_back({kind, slot, why});
  }
  machine_.environment.call_input_output();
}

Result<unsigned> Slots::attach(const CardConfig& card, std::vector<host::UniqueFd> files) {
  if (slots_[0] == nullptr)
    return Error{
        "The machine has no slots for devices that come while it runs: set slots in its nacre.toml."};
  // Not the one that was emptied last: its guest is not through with that yet, and takes a card that comes
  // too soon only after second thoughts.
  for (unsigned i = 0; i < kMost; ++i) {
    auto& slot = slots_[(last_ + i) % kMost];
    if (slot == nullptr || slot->phase != Phase::Empty) continue;
    last_ = slot->number;
    slot->phase = Phase::Coming;
    slot->in_use = false;
    // A function object is copied; descriptors are not.
    auto handed = std::make_shared<std::vector<host::UniqueFd>>(std::move(files));
    slot->thread->call([this, &one = *slot, card, handed] { make_card(one, card, std::move(*handed)); });
    return slot->number;
  }
  return Error{"All of the machine's slots are taken; detach something first."};
}

// On the slot's thread.
void Slots::make_card(Slot& slot, const CardConfig& config, std::vector<host::UniqueFd> files) {
  Card& card = slot.card;
  card.ports = std::make_unique<VirtioSlot>(machine_, *slot.thread);
  const auto* const disk = std::get_if<DiskConfig>(&config);
  const Status made = disk != nullptr
                          ? make_disk(slot, *disk, std::move(files))
                          : make_network(slot, std::get<net::NetConfig>(config), std::move(files));
  if (!made) {
    const Card gone = std::exchange(card, {});
    return tell(SlotEvent::Kind::Refused, slot.number, made.error().message());
  }
  card.transport = std::make_unique<virtio::PciTransport>(*card.device, machine_.board.messages());
  card.transport->put_behind_port();
  u64 nowhere = 0;
  card.transport->reset(nowhere);
  card.ports->connect(*card.transport);
  {
    BoardGuard board(machine_);
    slot.port.plug(*card.transport);
  }
  tell(SlotEvent::Kind::Plugged, slot.number);
}

Status Slots::make_disk(Slot& slot, const DiskConfig& config, std::vector<host::UniqueFd> files) {
  Card& card = slot.card;
  card.disk = TRY(StorageDisk::adopt(config, *slot.loop, slot.timer.number(), std::move(files)));
  virtio::blk::BlkOptions options = {.bytes = card.disk->size(),
                                     .read_only = config.read_only,
                                     .queues = std::min(processors_, virtio::blk::Blk::kQueues),
                                     .discard_unit = card.disk->discard_unit()};
  const std::string serial = "slot" + std::to_string(slot.number);
  serial.copy(options.serial, sizeof options.serial);
  card.blk =
      std::make_unique<virtio::blk::Blk>(machine_.board.memory(), card.ports->ports(), *card.disk, options);
  card.device = card.blk.get();
  card.disk->connect(*card.blk);
  slot.thread->watch(card.disk->event_fd(), *card.blk);
  if (card.disk->timer_fd() >= 0) slot.thread->watch(card.disk->timer_fd(), *card.blk);
  return {};
}

Status Slots::make_network(Slot& slot, const net::NetConfig& config, std::vector<host::UniqueFd> files) {
  if (files.size() != 1) return Error{"A network that is attached comes with the end of one cable."};
  Card& card = slot.card;
  auto cable = std::make_unique<net::Cable>(std::move(files[0]));
  virtio::net::NetOptions options = {.mtu = net::mtu_of(config)};
  const net::Mac mac = net::mac_of(config, kFirstSlotMac + slot.number);
  std::copy(mac.begin(), mac.end(), options.mac);
  card.net =
      std::make_unique<virtio::net::Net>(machine_.board.memory(), card.ports->ports(), *cable, options);
  card.device = card.net.get();
  slot.thread->watch(*cable, *card.net);
  card.network = std::move(cable);
  return {};
}

// On the slot's thread: no guest reaches the card any more, and its device has been asked to stop.
void Slots::end_card(Slot& slot) {
  Card& card = slot.card;
  if (card.disk != nullptr) card.disk->close();
  card.device->run();
  NACRE_CHECK(card.device->phase() == virtio::Device::Phase::Stopped);
  slot.thread->forget(*card.device);
  const Card gone = std::exchange(card, {});
}

Status Slots::detach(unsigned number, Removal removal) {
  Slot* slot = find(number);
  if (slot == nullptr || (slot->phase != Phase::There && slot->phase != Phase::Leaving))
    return Error("There is nothing in slot ").append_number(number).append(".");
  slot->phase = Phase::Leaving;
  bool out = false;
  {
    BoardGuard board(machine_);
    // The guest has let go of it already, or has not heeded that it was pulled.
    out = !slot->port.is_powered() || (removal == Removal::Surprise && !slot->port.is_present());
    if (removal == Removal::Surprise) {
      slot->port.pull();
    } else if (slot->port.indicator() != Port::Indicator::Blink) {
      slot->port.press();
    }
  }
  if (out) take_out(*slot);
  return {};
}

void Slots::look_at(Slot& slot) {
  bool powered = false;
  bool used = false;
  {
    BoardGuard board(machine_);
    powered = slot.port.is_powered();
    used = slot.port.is_in_use();
    // Nobody has asked for that. A guest that was not through with the last card finds the next by itself,
    // and then takes the press with which it came for one more, after which it switches it off; another is
    // second thoughts.
    if (slot.phase == Phase::There && slot.port.is_leaving()) slot.port.press();
  }
  if (slot.phase == Phase::There && used && !slot.in_use) {
    slot.in_use = true;
    tell(SlotEvent::Kind::InUse, slot.number);
  }
  if (slot.phase == Phase::Leaving && !powered) take_out(slot);
}

void Slots::take_out(Slot& slot) {
  slot.phase = Phase::Ending;
  {
    BoardGuard board(machine_);
    slot.port.take_out();
    u64 nowhere = 0;
    slot.card.transport->lose_power(nowhere);
  }
  // A vCPU may be at the card's doorbell, for which there is no lock: afterwards none is.
  machine_.dma.settle();
  slot.thread->call([this, &slot] {
    end_card(slot);
    tell(SlotEvent::Kind::Gone, slot.number);
  });
}

std::optional<SlotEvent> Slots::next_event() {
  for (u32 changed = changes_.take(); changed != 0; changed &= changed - 1) {
    if (Slot* slot = find(static_cast<unsigned>(__builtin_ctz(changed)))) look_at(*slot);
  }
  std::optional<SlotEvent> event;
  {
    const std::lock_guard hold(lock_);
    if (events_.empty()) return {};
    event = std::move(events_.front());
    events_.pop_front();
  }
  Slot& slot = *find(event->slot);
  switch (event->kind) {
    case SlotEvent::Kind::Plugged:
      slot.phase = Phase::There;
      look_at(slot);
      break;
    case SlotEvent::Kind::Refused:
    case SlotEvent::Kind::Gone:
      slot.phase = Phase::Empty;
      break;
    case SlotEvent::Kind::InUse:
      break;
  }
  return event;
}

}  // namespace nacre::vm
