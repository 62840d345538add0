#include <type_traits>

#include "virtio/net/device.hpp"

namespace nacre::virtio::net {

static_assert(std::has_unique_object_representations_v<Net::State>);

// A packet that waits for buffers is not kept: networks lose packets.
Net::State Net::state() const {
  State state;
  state.link = link_.load(std::memory_order_relaxed);
  const u64 mac = mac_.load(std::memory_order_relaxed);
  for (unsigned i = 0; i < 6; ++i) state.mac[i] = static_cast<u8>(mac >> (8 * i));
  state.active_pairs = active_pairs_;
  state.offloads = (offloads_.csum ? 1U : 0) | (offloads_.tso4 ? 2U : 0) | (offloads_.tso6 ? 4U : 0);
  return state;
}

Status Net::load(const State& state) {
  if (state.version != State::kVersion)
    return Error("the network device's saved state has an unknown version");
  if (state.active_pairs == 0 || state.active_pairs > options_.pairs) {
    return Error("the network device's saved state has another number of queues");
  }
  link_.store(state.link & (LinkStatus::up | LinkStatus::announce), std::memory_order_relaxed);
  store_mac(state.mac);
  active_pairs_ = state.active_pairs;
  tell_offloads({.csum = (state.offloads & 1) != 0,
                 .tso4 = (state.offloads & 2) != 0,
                 .tso6 = (state.offloads & 4) != 0});
  return {};
}

}  // namespace nacre::virtio::net
