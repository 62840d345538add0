// The memory balloon: takes pages from the guest and gives them back, reads its statistics, and lets go of
// pages that the guest reports as free. Virtio 1.2, 5.5.
//
// Queues: inflate, deflate, statistics, reporting; the last two close up where the driver takes only one of
// them. Freestanding. Threads: as virtio/device.hpp says; Ballast is called on the queues' side.
#pragma once

#include "virtio/balloon/registers.hpp"
#include "virtio/device.hpp"

namespace nacre::virtio::balloon {

// The backend: the host's memory behind the guest's.
class Ballast {
 public:
  // Whole pages of guest RAM are of no use to the guest now. They may be lost: they read as zeros, or as
  // before.
  virtual void release(u64 guest, u8* host, u64 bytes) = 0;
  // New statistics are there: Balloon::statistic().
  virtual void statistics() {}

 protected:
  ~Ballast() = default;
};

class Balloon final : public Device {
 public:
  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u32 pages = 0, actual = 0, spare = 0;
    constexpr bool operator==(const State&) const = default;
  };

  Balloon(const memory::AddressSpace& space, const Ports& ports, Ballast& ballast);

  u64 config_read(u64 offset, unsigned size) override;
  void config_write(u64 offset, unsigned size, u64 value) override;

  // How many pages of 4 KiB the guest is asked to do without. Under the board's lock; then
  // PciTransport::config_interrupt().
  void set_target(u32 pages);
  // Any thread.
  [[nodiscard]] u32 actual() const { return actual_.load(std::memory_order_relaxed); }
  [[nodiscard]] u64 statistic(Statistic which) const {
    return statistics_[static_cast<u16>(which)].load(std::memory_order_relaxed);
  }
  // Asks the guest for statistics. Any thread.
  void request_statistics();

  // While neither side runs; load() after the transport's.
  [[nodiscard]] State state() const;
  Status load(const State& state);

 private:
  enum class Role : u8 { Inflate, Deflate, Statistics, Reporting, None };

  void process(unsigned index) override;
  void poll() override;
  void started(u64 features) override;
  void reset_config() override;
  bool stopped() override;

  [[nodiscard]] Role role_of(unsigned index) const;
  void inflate(const Chain& chain);
  void release(u64 address, u64 bytes);
  void take_statistics(unsigned index);

  Ballast& ballast_;
  u32 target_ = 0;  // under the board's lock
  std::atomic<u32> actual_ = 0;
  std::atomic<u64> statistics_[kStatistics] = {};
  std::atomic<bool> asked_ = false;
  // The driver's buffer, which goes back to it when statistics are wanted. 5.5.6.3.
  bool have_buffer_ = false;
  ChainId buffer_;
  Queue queue_[4];
  Chain chain_;
};

}  // namespace nacre::virtio::balloon
