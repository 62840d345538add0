#include "virtio/rng/device.hpp"

namespace nacre::virtio::rng {
namespace {

constexpr unsigned kBudget = 32;  // requests at a time: at most 2 MiB of randomness

}  // namespace

Rng::Rng(const memory::AddressSpace& space, const Ports& ports, Entropy& entropy)
    : Device({.name = "rng", .id = DeviceId::Entropy, .class_code = 0xff0000}, queue_, space, ports),
      entropy_(entropy) {}

void Rng::process(unsigned index) {
  serve_queue(index, chain_, kBudget, kBudget, [this](const Chain& chain) {
    ChainWriter writer(chain, memory());
    while (writer.written() < kMostBytes) {
      const Segment piece = writer.take(kMostBytes - writer.written());
      if (piece.bytes == 0) break;
      entropy_.fill(piece.host, piece.bytes);
      writer.wrote(piece);
    }
    return writer.written();
  });
}

}  // namespace nacre::virtio::rng
