// Slots: the hot-plug slots of a VM, into which cards are put and from which they are taken while it runs.
// What a confined process cannot make later is made with the machine: for each slot a root port, a thread for
// the card's queues, and what a disk needs of the kernel. A card's files come with it, open: a disk's image,
// the end of the cable (net/cable.hpp) to a network, which is in another process. docs/adr/0016-hot-plug.md.
//
// Threads: all for the one that owns the VM (the I/O thread). The card itself is made, and ended, on the
// slot's thread. A guest may take its time, or never answer: nothing here waits for it; what comes of a
// request is told by next_event(), for which attention is raised.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>

#include "net/options.hpp"
#include "virtio/net/device.hpp"
#include "vm/disk.hpp"
#include "vm/slot_changes.hpp"
#include "vm/virtio_slot.hpp"

namespace nacre::vm {

// What a card is. Of a network, what its guest sees: the network itself is made by now.
using CardConfig = std::variant<DiskConfig, net::NetConfig>;

struct SlotEvent {
  enum class Kind : u8 {
    Plugged,  // the card is in the slot; the guest does not have it yet
    Refused,  // it could not be made: `why`
    InUse,    // the guest has switched the slot on and says that it uses the card
    Gone,     // it is out, and its files are closed
  };
  Kind kind;
  unsigned slot;
  std::string why;
};

class Slots {
 public:
  static constexpr unsigned kMost = 8;
  static constexpr unsigned kPciDevice = 31;  // the ports are its functions

  explicit Slots(Machine& machine) : machine_(machine), changes_(machine.environment) {}
  Slots(const Slots&) = delete;
  Slots& operator=(const Slots&) = delete;
  ~Slots();

  // Once, before the board is assembled.
  Status create(unsigned count, unsigned processors);
  void start(const std::function<void(const Error&)>& failed);
  // When no vCPU runs any more.
  void stop();

  // Puts a card into a free slot, whose number is returned; then Plugged or Refused. An Error: no slot is
  // free.
  Result<unsigned> attach(const CardConfig& card, std::vector<host::UniqueFd> files);
  // Asks the guest to let a card go; Gone when it has. Asking again presses the button again, unless the
  // guest is at it. By surprise: the guest finds that it is gone. Asked for again, the slot is emptied
  // whether the guest has heeded that or not. An Error: the slot is empty.
  enum class Removal : u8 { Orderly, Surprise };
  Status detach(unsigned slot, Removal removal);

  // Looks at what guest and threads have done, then gives what there is to tell, one after another.
  std::optional<SlotEvent> next_event();

 private:
  using Port = device::pci::RootPort;
  enum class Phase : u8 { Empty, Coming, There, Leaving, Ending };
  struct Card {
    std::unique_ptr<VirtioSlot> ports;
    std::unique_ptr<StorageDisk> disk;  // of a disk
    std::unique_ptr<virtio::blk::Blk> blk;
    std::unique_ptr<net::Port> network;  // of a network
    std::unique_ptr<virtio::net::Net> net;
    virtio::Device* device = nullptr;  // whichever it is
    std::unique_ptr<virtio::PciTransport> transport;
  };
  struct Slot {
    Slot(Machine& machine, SlotChanges& changes, unsigned which, bool several)
        : number(which), port(machine.board.messages(), changes, static_cast<u8>(which), several) {}
    const unsigned number;
    Port port;  // under the board's lock
    std::unique_ptr<storage::Loop> loop;
    host::UniqueFd timer;
    Card card;            // the thread's, but between events
    bool in_use = false;  // the guest has been heard to use it
    Phase phase = Phase::Empty;
    std::unique_ptr<DeviceThread> thread;  // last: it ends first
  };

  void make_card(Slot& slot, const CardConfig& config, std::vector<host::UniqueFd> files);
  Status make_disk(Slot& slot, const DiskConfig& config, std::vector<host::UniqueFd> files);
  Status make_network(Slot& slot, const net::NetConfig& config, std::vector<host::UniqueFd> files);
  static void end_card(Slot& slot);
  void look_at(Slot& slot);
  void take_out(Slot& slot);
  void tell(SlotEvent::Kind kind, unsigned slot, const char* why = "");
  Slot* find(unsigned number);

  Machine& machine_;
  unsigned processors_ = 1;
  unsigned last_ = 0;  // the slot that was filled last
  SlotChanges changes_;
  std::mutex lock_;  // guards events_; leaf
  std::deque<SlotEvent> events_;
  std::array<std::unique_ptr<Slot>, kMost> slots_;
};

}  // namespace nacre::vm
