// RootPort: a PCI Express root port with a hot-plug slot: a bridge (type 1 header) to a bus on which one card
// may sit, as device 0, function 0. PCI-to-PCI Bridge 1.2, 3.2; PCI Express Base 4.0, 6.7 and 7.5.3. It
// interrupts by MSI. It has no I/O window, no prefetchable one and no message of completed commands: commands
// are done at once.
//
// The slot has power control, a power indicator and an attention button, and says that cards may be pulled by
// surprise. A card comes with a press of the button, as Linux looks for one only then: plug(). To take one
// away in order: press(), wait until SlotObserver hears that the guest has switched the slot off, take_out().
// By surprise: pull(): configuration space is gone at once, while the card's registers still answer (Linux's
// virtio driver waits for them), until the guest has switched the slot off, or take_out().
//
// Freestanding. Threads: as function.hpp says. After take_out() a thread may still be in the card's ring():
// its owner waits until all have left it before the card is no more.
#pragma once

#include <atomic>

#include "base/result.hpp"
#include "device/pci/config_space.hpp"
#include "device/pci/function.hpp"
#include "irq/message.hpp"

namespace nacre::device::pci {

// Hears of a slot under the board's lock, from within a guest's access: notes it, and calls nothing here.
class SlotObserver {
 public:
  // The guest has switched the slot's power or changed its indicator.
  virtual void slot_changed(unsigned number) = 0;

 protected:
  ~SlotObserver() = default;
};

class RootPort final : public Function {
 public:
  enum class Indicator : u16 { None = 0, On = 1, Blink = 2, Off = 3 };
  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u8 config[ConfigSpace::kBytes] = {};
    u16 status = 0;   // slot status, and whether
    u8 present = 0;   // a card can be seen
    u8 occupied = 0;  // and one is there; a pulled one still is
    constexpr bool operator==(const State&) const = default;
  };

  // `number` is the slot's, 1 to 255, which the guest shows to its user; `several`: the port is one of many
  // functions of its device.
  RootPort(irq::MessageSink& sink, SlotObserver& observer, u8 number, bool several);
  RootPort(const RootPort&) = delete;
  RootPort& operator=(const RootPort&) = delete;

  // --- the slot ---
  // A card in the empty slot. Before the machine starts: it is found like any other.
  void plug(Function& card);
  // The attention button: asks the guest to let the card go, or to take it.
  void press();
  void pull();
  // Empties the slot; returns the card, or null.
  Function* take_out();
  [[nodiscard]] bool is_occupied() const { return card_ != nullptr; }
  // There is one that has not been pulled.
  [[nodiscard]] bool is_present() const { return present_; }
  [[nodiscard]] bool is_powered() const { return !control()[SlotControl::power_off]; }
  // The guest uses the card: since it gave the slot power it has shown so.
  [[nodiscard]] bool is_in_use() const { return is_powered() && in_use_; }
  // It has used it, and is about to switch it off, as after a press of the button.
  [[nodiscard]] bool is_leaving() const { return is_in_use() && indicator() == Indicator::Blink; }
  [[nodiscard]] Indicator indicator() const {
    return static_cast<Indicator>(control()[SlotControl::power_indicator]);
  }

  // --- the bus ---
  u32 config_read(u16 offset, unsigned size) override;
  void config_write(u16 offset, unsigned size, u32 value) override;
  bool memory_read(GuestPhysical address, unsigned size, u64& value) override;
  bool memory_write(GuestPhysical address, unsigned size, u64 value) override;
  bool ring(GuestPhysical address) override;
  // As firmware does: the bus behind it has the slot's number, and a window of kWindowBytes.
  void reset(u64& next) override;
  Function* behind(u32 number) override;
  [[nodiscard]] bool leads_on() const override { return true; }

  static constexpr u64 kWindowBytes = 2 * kMiB;

  // The card has a state of its own. load(): with a card in the slot, or none, as in the state.
  [[nodiscard]] State state() const;
  Status load(const State& state);

 private:
  [[nodiscard]] SlotControl control() const {
    return SlotControl(static_cast<u16>(config_.read(slot_control_, 2)));
  }
  [[nodiscard]] bool link_is_up() const;
  [[nodiscard]] bool routes(GuestPhysical address, unsigned size) const;
  void event(u16 bits);
  void look_at_link();
  void look_at_indicator();
  void settings_changed();
  void update_interrupt();
  void cut_card();

  irq::MessageSink& sink_;
  SlotObserver& observer_;
  const u8 number_;
  ConfigSpace config_;
  u16 express_ = 0, msi_ = 0, slot_control_ = 0;  // offsets
  Function* card_ = nullptr;
  bool present_ = false;                        // the card can be seen: not pulled
  bool in_use_ = false;                         // the indicator was on after the slot got power
  bool link_up_ = false;                        // when it was last looked at
  u16 status_ = 0;                              // events of slot status
  bool asserted_ = false;                       // an enabled event is there: a message was sent when it came
  std::atomic<Function*> doorbells_ = nullptr;  // the card, where its doorbells are to be found
  std::atomic<u64> window_;                     // first and last MiB that are decoded: high and low half
};

}  // namespace nacre::device::pci
