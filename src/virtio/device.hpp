// Device: what all virtio devices share: the features, the queues, and who may touch them when. Virtio 1.2, 2
// and 3.
//
// Two threads know a device: the one that runs its queues, and whichever processor is in its registers (those
// come one at a time, under the board's lock). `phase` hands the queues from one to the other and is all that
// they share:
//
//   Stopped    the registers' side owns the queues and everything that is not said to be shared
//      | start(): DRIVER_OK
//   Running    the queues' side owns them: run() and what it calls
//      | request_stop(): the guest wrote 0 to the status
//   Stopping   still the queues' side; run() lets go of what is in flight, and
//      | run()
//   Stopped
//
// So a processor never waits for the queues' thread (the guest polls the status until it reads 0), and that
// thread may wait for processors (DmaObserver::settle()). Configuration space belongs to the board's lock
// alone: a device that has something for it from the queues' side keeps an atomic. Freestanding. Lock-free,
// any thread: ring(), phase(), is_broken().
#pragma once

#include <atomic>
#include <span>

#include "virtio/chain.hpp"
#include "virtio/queue.hpp"

namespace nacre::virtio {

enum class DeviceId : u16 { Net = 1, Block = 2, Console = 3, Entropy = 4, Balloon = 5, Vsock = 19, FileSystem = 26 };

struct Feature {  // bits that every device may have: 6
  static constexpr u64 indirect = u64{1} << 28, event_index = u64{1} << 29, version_1 = u64{1} << 32,
                       packed = u64{1} << 34;
  static constexpr u64 transport = indirect | event_index | version_1 | packed;
};

class Device {
 public:
  static constexpr unsigned kMaxQueues = 33;
  enum class Phase : u32 { Stopped, Running, Stopping };

  struct Traits {
    const char* name = "";
    DeviceId id = DeviceId::Entropy;
    u32 class_code = 0xff0000;  // PCI's, 24 bits
    u64 features = 0;           // the device's own; those of Feature::transport come by themselves
  };
  // What a snapshot has of the queues' side; device state of its own is the device's.
  struct QueuesState {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u32 running = 0;
    u32 broken = 0;
    u32 spare = 0;
    Queue::State queues[kMaxQueues];
    constexpr bool operator==(const QueuesState&) const = default;
  };

  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  [[nodiscard]] const char* name() const { return traits_.name; }
  [[nodiscard]] DeviceId id() const { return traits_.id; }
  [[nodiscard]] u32 class_code() const { return traits_.class_code; }
  [[nodiscard]] u64 features() const { return traits_.features | Feature::transport; }
  [[nodiscard]] unsigned queue_count() const { return static_cast<unsigned>(queues_.size()); }

  // --- the registers' side: under the board's lock ---
  // The device's own configuration space; [offset, offset + size) may pass its end: zeros, nothing.
  virtual u64 config_read(u64 offset, unsigned size) = 0;
  virtual void config_write(u64 offset, unsigned size, u64 value) {
    static_cast<void>(offset), static_cast<void>(size), static_cast<void>(value);
  }
  // Some features only make sense with others (virtio 1.2, 5.*.3). False: not this set.
  [[nodiscard]] virtual bool accepts(u64 features) const {
    static_cast<void>(features);
    return true;
  }
  // In Stopped. `places` has one for each queue, size 0 where the driver enabled none.
  void start(u64 features, std::span<const QueuePlace> places);
  // In Running: asks for Stopped. In any other phase nothing.
  void request_stop();
  // Changes whenever what config_read() gives does, but for changes by the guest.
  [[nodiscard]] u8 generation() const { return generation_; }

  // --- any thread ---
  void ring(unsigned queue) {
    if (queue < queue_count()) {
      pending_.fetch_or(u64{1} << queue, std::memory_order_release);
      ports_.notifier.wake();
    }
  }
  // Whether queues are rung for, somewhere else, without a call of ring(): then run() looks at all of them.
  void unheard_doorbells(bool unheard) { unheard_.store(unheard, std::memory_order_relaxed); }
  [[nodiscard]] Phase phase() const { return phase_.load(std::memory_order_acquire); }
  // A guest's mistake has stopped the queues: the status shows DEVICE_NEEDS_RESET. 2.1.
  [[nodiscard]] bool is_broken() const { return broken_.load(std::memory_order_acquire); }

  // --- the queues' side: one thread ---
  // Does what has come up: requests, a stop. Call after every Notifier::wake(), and after host events.
  void run();

  // --- the machine's owner, while neither side runs ---
  void power_on();
  void save(QueuesState& state) const;
  Status load(const QueuesState& state, u64 features, std::span<const QueuePlace> places);

 protected:
  // `queues` is the derived device's array of at most kMaxQueues.
  Device(const Traits& traits, std::span<Queue> queues, const memory::AddressSpace& space,
         const Ports& ports);
  ~Device() = default;

  // Running: serves one queue, for a bounded time; ring_again() when more is left.
  virtual void process(unsigned queue) = 0;
  // Host events and whatever else is not a queue's; run() calls it before the queues.
  virtual void poll() {}
  // Queues start, with these features; on the registers' side, before the phase is Running.
  virtual void started(u64 features) { static_cast<void>(features); }
  // The queues are about to be taken away. False: something in flight still uses guest memory; run() asks
  // again.
  virtual bool stopped() { return true; }
  // Registers' side, in Stopped: configuration space as after a reset.
  virtual void reset_config() {}
  friend class PciTransport;

  [[nodiscard]] Queue& queue(unsigned i) { return queues_[i]; }
  [[nodiscard]] GuestMemory& memory() { return memory_; }
  [[nodiscard]] Ports& ports() { return ports_; }
  [[nodiscard]] bool has(u64 feature) const { return (negotiated_ & feature) == feature; }
  [[nodiscard]] bool is_stopping() const { return phase() != Phase::Running; }
  // Queues' side: the guest broke the rules.
  void fail(const char* why);
  // Queues' side: pops, and fails the device when the ring is malformed.
  bool pop(unsigned index, Chain& chain);
  // Queues' side: shows what was pushed and interrupts when that is wanted.
  void publish(unsigned index);
  void ring_again(unsigned queue) { ring(queue); }
  // Under the board's lock: configuration space has changed. The caller sees to
  // PciTransport::config_interrupt().
  void config_changed() { ++generation_; }

  // Serves up to `budget` chains of a queue with `serve(chain)`, which returns how many bytes it wrote; the
  // usual way for devices that answer at once. `after` is how many are answered before the guest hears of it.
  template <typename Serve>
  void serve_queue(unsigned index, Chain& chain, unsigned budget, unsigned after, Serve serve) {
    Queue& q = queue(index);
    unsigned served = 0;
    do {
      q.suppress_doorbell(memory());
      while (!is_stopping() && !is_broken()) {
        if (served == budget) {
          publish(index);
          q.allow_doorbell(memory());
          return ring_again(index);
        }
        if (!pop(index, chain)) break;
        q.push(chain.id, serve(chain));
        if (++served % after == 0) publish(index);
      }
      publish(index);
    } while (!is_stopping() && !is_broken() && q.allow_doorbell(memory()));
  }

 private:
  [[nodiscard]] u64 all_queues() const { return (u64{1} << queue_count()) - 1; }
  void bring_up(u64 features, std::span<const QueuePlace> places);
  void let_go();

  const Traits traits_;
  std::span<Queue> queues_;
  GuestMemory memory_;
  Ports ports_;
  std::atomic<Phase> phase_ = Phase::Stopped;
  std::atomic<u64> pending_ = 0;  // queues to look at
  std::atomic<bool> broken_ = false;
  std::atomic<bool> unheard_ = false;
  // By phase, as the queues are.
  u64 negotiated_ = 0;
  const char* complaint_ = nullptr;  // why it is broken, until the host and the guest were told
  u8 generation_ = 0;                // under the board's lock
};

}  // namespace nacre::virtio
