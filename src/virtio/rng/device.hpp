// The entropy device: fills the driver's buffers with random bytes. Virtio 1.2, 5.4.
// Freestanding. Threads: as virtio/device.hpp says; Entropy is called on the queues' side.
#pragma once

#include "virtio/device.hpp"

namespace nacre::virtio::rng {

// Where the bytes come from.
class Entropy {
 public:
  // Fills all of [to, to + bytes). Must not block for long.
  virtual void fill(u8* to, usize bytes) = 0;

 protected:
  ~Entropy() = default;
};

class Rng final : public Device {
 public:
  // A request is given at most so much; the driver comes back for more. 5.4.6.1 allows fewer than asked for.
  static constexpr u32 kMostBytes = 64 * kKiB;

  Rng(const memory::AddressSpace& space, const Ports& ports, Entropy& entropy);

  u64 config_read(u64, unsigned) override { return 0; }  // it has none

 private:
  void process(unsigned index) override;

  Entropy& entropy_;
  Queue queue_[1];
  Chain chain_;
};

}  // namespace nacre::virtio::rng
