#include "vm/devices.hpp"

#include <sys/mman.h>
#include <sys/random.h>

#include <algorithm>

#include "vsock/broker.hpp"

namespace nacre::vm {
namespace {

constexpr usize kMostDisks = 16;
constexpr usize kMostNetworks = 8;
constexpr usize kMostShares = 4;

}  // namespace

void Devices::HostEntropy::fill(u8* to, usize bytes) {
  while (bytes != 0) {
    const ssize_t got = getrandom(to, bytes, 0);
    if (got <= 0) continue;  // interrupted
    to += got;
    bytes -= static_cast<usize>(got);
  }
}

void Devices::HostBallast::release(u64, u8* host, u64 bytes) {
  // Where it is refused, the pages stay: the guest has lost nothing.
  static_cast<void>(madvise(host, bytes, MADV_REMOVE));
}

unsigned Devices::first_device() const {
  return machine_.board.options().firmware == nullptr ? board::kFirstPciDevice : board::kFirstPciDeviceWithFirmware;
}

Result<DeviceThread*> Devices::add_thread(host::ThreadRole role) {
  threads_.push_back(TRY(DeviceThread::create(role)));
  return threads_.back().get();
}

VirtioSlot& Devices::add_slot(DeviceThread& thread) {
  slots_.push_back(std::make_unique<VirtioSlot>(machine_, thread));
  return *slots_.back();
}

void Devices::place(VirtioSlot& slot, virtio::Device& device) {
  transports_.push_back(std::make_unique<virtio::PciTransport>(device, machine_.board.messages()));
  slot.connect(*transports_.back());
  const unsigned number = first_device() + static_cast<unsigned>(transports_.size()) - 1;
  machine_.board.chipset().pci().attach(number, 0, *transports_.back());
}

Status Devices::create(const DeviceConfig& config, unsigned processors) {
  const auto& memory = machine_.board.memory();
  if (config.disks.size() > kMostDisks) {
    return Error("A guest can have at most ").append_number(kMostDisks).append(" disks.");
  }
  if (config.networks.size() > kMostNetworks) {
    return Error("A guest can have at most ").append_number(kMostNetworks).append(" networks.");
  }
  if (config.shares.size() > kMostShares) {
    return Error("A guest can have at most ").append_number(kMostShares).append(" shared folders.");
  }
  // Each is a device of bus 0; the last is the slots'.
  const usize count = usize{config.rng} + config.balloon + config.console + config.vsock.has_value() +
                      config.disks.size() + config.networks.size() + config.shares.size();
  if (first_device() + count > Slots::kPciDevice) {
    return Error("A guest can have at most ").append_number(Slots::kPciDevice - first_device()).append(" devices of all kinds.");
  }
  // Their servers are processes: begun before disks have threads.
  for (const share::ShareConfig& share : config.shares) TRY(start_share(share));
  DeviceThread* quick = nullptr;  // of the devices that never wait
  if (config.rng || config.balloon || config.console) quick = TRY(add_thread());
  if (config.balloon) {
    VirtioSlot& slot = add_slot(*quick);
    balloon_ = std::make_unique<virtio::balloon::Balloon>(memory, slot.ports(), ballast_);
    place(slot, *balloon_);
  }
  if (config.rng) {
    VirtioSlot& slot = add_slot(*quick);
    rng_ = std::make_unique<virtio::rng::Rng>(memory, slot.ports(), entropy_);
    place(slot, *rng_);
  }
  if (config.console) {
    VirtioSlot& slot = add_slot(*quick);
    console_port_ = std::make_unique<ConsolePort>(machine_.environment, *quick);
    console_ = std::make_unique<virtio::console::Console>(memory, slot.ports(), *console_port_);
    place(slot, *console_);
    console_transport_ = transports_.back().get();
  }
  if (config.vsock) TRY(add_vsock(*config.vsock));
  for (const DiskConfig& disk : config.disks) TRY(add_disk(disk, processors));
  for (const net::NetConfig& network : config.networks) TRY(add_network(network));
  for (ShareDevice& share : shares_) TRY(add_share(share));
  return slots_for_cards_.create(config.slots, processors);
}

Status Devices::add_network(const net::NetConfig& config) {
  auto port = TRY(net::open(config));
  DeviceThread& thread = *TRY(add_thread(port->role()));
  VirtioSlot& slot = add_slot(thread);
  virtio::net::NetOptions options = {.pairs = config.queues, .mtu = net::mtu_of(config)};
  const net::Mac mac = net::mac_of(config, static_cast<unsigned>(networks_.size()));
  std::copy(mac.begin(), mac.end(), options.mac);
  auto device = std::make_unique<virtio::net::Net>(machine_.board.memory(), slot.ports(), *port, options);
  thread.watch(*port, *device);
  place(slot, *device);
  networks_.push_back({std::move(port), std::move(device)});
  return {};
}

Status Devices::start_share(const share::ShareConfig& config) {
  std::string tag = TRY(share::tag_of(config));
  const board::Options& board = machine_.board.options();
  auto server = TRY(share::ShareProcess::start(config, {board.ram, board.memory_bytes}));
  shares_.push_back({std::move(tag), std::move(server), nullptr});
  return {};
}

Status Devices::add_share(ShareDevice& share) {
  DeviceThread& thread = *TRY(add_thread(host::ThreadRole::Channel));
  VirtioSlot& slot = add_slot(thread);
  share.device = std::make_unique<virtio::fs::Fs>(machine_.board.memory(), slot.ports(), *share.server, share.tag.c_str());
  share.server->connect(*share.device);
  thread.watch(share.server->descriptor(), *share.device);
  place(slot, *share.device);
  return {};
}

Status Devices::add_vsock(const VsockConfig& config) {
  auto listener = TRY(vsock::Listener::create(config.path));
  auto broker = TRY(vsock::Broker::start(config.path, listener));
  hub_ = TRY(vsock::Hub::create(std::move(listener.socket), std::move(broker)));
  DeviceThread& thread = *TRY(add_thread(host::ThreadRole::Sockets));
  VirtioSlot& slot = add_slot(thread);
  vsock_ =
      std::make_unique<virtio::vsock::Vsock>(machine_.board.memory(), slot.ports(), *hub_, config.guest_cid);
  thread.watch(hub_->descriptor(), *vsock_);
  place(slot, *vsock_);
  return {};
}

Status Devices::add_disk(const DiskConfig& config, unsigned processors) {
  auto disk = TRY(StorageDisk::open(config));
  DeviceThread& thread = *TRY(add_thread());
  VirtioSlot& slot = add_slot(thread);
  virtio::blk::BlkOptions options = {.bytes = disk->size(),
                                     .read_only = config.read_only,
                                     .queues = std::min(processors, virtio::blk::Blk::kQueues),
                                     .discard_unit = disk->discard_unit()};
  // What `ls /dev/disk/by-id` shows: disk0, disk1 …
  const std::string serial = "disk" + std::to_string(disks_.size());
  serial.copy(options.serial, sizeof options.serial);
  auto device = std::make_unique<virtio::blk::Blk>(machine_.board.memory(), slot.ports(), *disk, options);
  disk->connect(*device);
  thread.watch(disk->event_fd(), *device);
  if (disk->timer_fd() >= 0) thread.watch(disk->timer_fd(), *device);
  thread.at_end([&closed = *disk] { closed.close(); });
  place(slot, *device);
  disks_.push_back({std::move(disk), std::move(device)});
  return {};
}

void Devices::resize_console(u16 columns, u16 rows) {
  if (console_ == nullptr) return;
  BoardGuard board(machine_);
  if (console_->resize(columns, rows)) console_transport_->config_interrupt();
}

void Devices::start(const std::function<void(const Error&)>& failed) {
  for (auto& thread : threads_) thread->start("virtio", failed);
  slots_for_cards_.start(failed);
}

void Devices::stop() {
  for (auto& thread : threads_) thread->stop();
  slots_for_cards_.stop();
}

}  // namespace nacre::vm
