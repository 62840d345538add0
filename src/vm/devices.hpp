// Devices: the virtio devices of a VM, their places on the PCI bus, their backends and their threads.
// Threads: all functions are for the one that owns the VM.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/options.hpp"
#include "share/process.hpp"
#include "virtio/balloon/device.hpp"
#include "virtio/console/device.hpp"
#include "virtio/rng/device.hpp"
#include "virtio/vsock/device.hpp"
#include "vm/console_port.hpp"
#include "vm/disk.hpp"
#include "vm/slots.hpp"
#include "vm/virtio_slot.hpp"
#include "vsock/hub.hpp"

namespace nacre::vm {

struct VsockConfig {
  std::string path;  // of the Unix socket; docs/virtio.md
  u32 guest_cid = 3;
};

struct DeviceConfig {
  bool rng = true;
  bool balloon = true;
  bool console = false;  // virtio's, beside the serial ports
  std::vector<DiskConfig> disks;
  std::optional<VsockConfig> vsock;
  std::vector<net::NetConfig> networks;
  std::vector<share::ShareConfig> shares;
  unsigned slots = 0;  // for cards that come while it runs, to Slots::kMost
};

class Devices {
 public:
  explicit Devices(Machine& machine) : machine_(machine), slots_for_cards_(machine) {}
  Devices(const Devices&) = delete;
  Devices& operator=(const Devices&) = delete;

  // Makes the devices and puts them on the bus. Once, before the board is assembled.
  Status create(const DeviceConfig& config, unsigned processors);
  // `failed` hears of a thread that could not be confined.
  void start(const std::function<void(const Error&)>& failed);
  // When no vCPU runs any more.
  void stop();
  // Null: there is none.
  [[nodiscard]] ConsolePort* console() const { return console_port_.get(); }
  // The size of the terminal that is behind it.
  void resize_console(u16 columns, u16 rows);
  [[nodiscard]] Slots& slots() { return slots_for_cards_; }

 private:
  // From the kernel, not from the processor: it goes into the guest's pool.
  class HostEntropy final : public virtio::rng::Entropy {
   public:
    void fill(u8* to, usize bytes) override;
  };

  // Pages of the memory file are given back to the host; the next touch finds zeros.
  class HostBallast final : public virtio::balloon::Ballast {
   public:
    void release(u64 guest, u8* host, u64 bytes) override;
  };
  // A disk has a thread of its own: one that waits for its host file holds up no other.
  struct DiskDevice {
    std::unique_ptr<StorageDisk> disk;
    std::unique_ptr<virtio::blk::Blk> device;
  };

  // So has a network, for the same reason, and because it may do more than others (host/confine.hpp).
  struct NetDevice {
    std::unique_ptr<net::Port> port;
    std::unique_ptr<virtio::net::Net> device;
  };

  // And a shared folder: its thread waits for nothing but its server, a process.
  struct ShareDevice {
    std::string tag;
    std::unique_ptr<share::ShareProcess> server;
    std::unique_ptr<virtio::fs::Fs> device;
  };

  Result<DeviceThread*> add_thread(host::ThreadRole role = host::ThreadRole::Device);
  Status add_disk(const DiskConfig& config, unsigned processors);
  Status add_network(const net::NetConfig& config);
  Status start_share(const share::ShareConfig& config);
  Status add_share(ShareDevice& share);
  Status add_vsock(const VsockConfig& config);
  // The number of the first device on bus 0.
  [[nodiscard]] unsigned first_device() const;
  VirtioSlot& add_slot(DeviceThread& thread);
  void place(VirtioSlot& slot, virtio::Device& device);

  Machine& machine_;
  HostEntropy entropy_;
  HostBallast ballast_;
  std::vector<std::unique_ptr<VirtioSlot>> slots_;
  std::unique_ptr<ConsolePort> console_port_;
  std::unique_ptr<virtio::console::Console> console_;
  virtio::PciTransport* console_transport_ = nullptr;
  std::unique_ptr<virtio::rng::Rng> rng_;
  std::unique_ptr<virtio::balloon::Balloon> balloon_;
  std::vector<DiskDevice> disks_;
  std::unique_ptr<vsock::Hub> hub_;
  std::unique_ptr<virtio::vsock::Vsock> vsock_;
  std::vector<NetDevice> networks_;
  std::vector<ShareDevice> shares_;
  std::vector<std::unique_ptr<virtio::PciTransport>> transports_;
  std::vector<std::unique_ptr<DeviceThread>> threads_;  // last: they end first
  Slots slots_for_cards_;
};

}  // namespace nacre::vm
