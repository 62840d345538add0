// The console device: bytes to and from a terminal, whose size the guest is told. Virtio 1.2, 5.3; one port.
//
// Queues: receive, transmit. Freestanding. Threads: as virtio/device.hpp says; Terminal is called on the
// queues' side.
#pragma once

#include <atomic>

#include "virtio/console/registers.hpp"
#include "virtio/device.hpp"

namespace nacre::virtio::console {

// What the console is connected to.
class Terminal {
 public:
  // Output of the guest; returns how much was taken. When that is not all, run() is called again once there
  // is room.
  virtual u32 write(const u8* from, u32 bytes) = 0;
  // Input for the guest, at most `most` bytes; 0: none now.
  virtual u32 read(u8* to, u32 most) = 0;

 protected:
  ~Terminal() = default;
};

class Console final : public Device {
 public:
  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u16 columns = 0, rows = 0;
    constexpr bool operator==(const State&) const = default;
  };

  Console(const memory::AddressSpace& space, const Ports& ports, Terminal& terminal);

  // Under the board's lock: the terminal's size. True: it is another, and PciTransport::config_interrupt() is
  // due.
  bool resize(u16 columns, u16 rows);

  u64 config_read(u64 offset, unsigned size) override;

  // While neither side runs, after Device::save() and before Device::load(). Output that the terminal has not
  // taken stands in the queue.
  [[nodiscard]] State state() const;
  Status load(const State& state);
  using Device::load;

 private:
  static constexpr unsigned kReceive = 0, kTransmit = 1;

  void process(unsigned index) override;
  void poll() override;
  void started(u64 features) override;

  void transmit();
  bool send();
  void receive();
  bool fill();

  Terminal& terminal_;
  Config config_;         // under the board's lock
  // A driver has come that has not heard of the size: Linux reads it only when it is told of a change.
  bool announce_size_ = false;
  bool stalled_ = false;  // the terminal has not taken all
  u64 sent_ = 0;          // of the first chain, when stalled
  Queue queue_[2];
  Chain chain_;
};

}  // namespace nacre::virtio::console
