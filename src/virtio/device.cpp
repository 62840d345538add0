#include "virtio/device.hpp"

#include <type_traits>

namespace nacre::virtio {

static_assert(std::has_unique_object_representations_v<Device::QueuesState>);

Device::Device(const Traits& traits, std::span<Queue> queues, const memory::AddressSpace& space,
               const Ports& ports)
    : traits_(traits), queues_(queues), memory_(space, ports.dma), ports_(ports) {
  NACRE_CHECK(!queues.empty() && queues.size() <= kMaxQueues);
}

void Device::bring_up(u64 features, std::span<const QueuePlace> places) {
  negotiated_ = features;
  const QueueFeatures format = {.packed = (features & Feature::packed) != 0,
                                .event_index = (features & Feature::event_index) != 0,
                                .indirect = (features & Feature::indirect) != 0};
  for (unsigned i = 0; i < queue_count(); ++i) {
    if (i >= places.size() || places[i].size == 0) continue;
    if (!queues_[i].start(places[i], format, memory_))
      fail("a queue lies outside of memory or is not aligned");
  }
  started(features);
}

void Device::start(u64 features, std::span<const QueuePlace> places) {
  if (phase() != Phase::Stopped) return;
  bring_up(features, places);
  // Requests that came before are looked at now, rung for or not.
  pending_.store(all_queues(), std::memory_order_relaxed);
  phase_.store(Phase::Running, std::memory_order_release);
  ports_.notifier.wake();
}

void Device::request_stop() {
  Phase expected = Phase::Running;
  if (phase_.compare_exchange_strong(expected, Phase::Stopping, std::memory_order_acq_rel)) {
    ports_.notifier.wake();
  }
}

void Device::let_go() {
  for (Queue& q : queues_) q.stop();
  negotiated_ = 0;
  complaint_ = nullptr;
  pending_.store(0, std::memory_order_relaxed);
  broken_.store(false, std::memory_order_relaxed);
  phase_.store(Phase::Stopped, std::memory_order_release);
}

void Device::run() {
  const Phase now = phase();
  if (now == Phase::Stopped) return;
  if (now == Phase::Stopping) {
    if (stopped()) let_go();
    return;
  }
  if (!is_broken()) poll();
  u64 pending = pending_.exchange(0, std::memory_order_acquire);
  if (unheard_.load(std::memory_order_relaxed)) pending = all_queues();
  for (; pending != 0 && !is_stopping() && !is_broken(); pending &= pending - 1) {
    process(static_cast<unsigned>(__builtin_ctzll(pending)));
  }
  if (complaint_ != nullptr) {
    ports_.complaints.complain(traits_.name, complaint_);
    complaint_ = nullptr;
    ports_.interrupts.config();  // 2.1.1: the driver is told
  }
}

void Device::fail(const char* why) {
  if (is_broken()) return;
  complaint_ = why;
  broken_.store(true, std::memory_order_release);
}

bool Device::pop(unsigned index, Chain& chain) {
  switch (queues_[index].pop(chain, memory_)) {
    case Pop::Chain:
      return true;
    case Pop::Empty:
      return false;
    case Pop::Malformed:
      fail("the guest's queue is malformed");
      return false;
  }
  return false;
}

void Device::publish(unsigned index) {
  if (queues_[index].publish(memory_)) ports_.interrupts.queue(index);
}

void Device::power_on() {
  static_cast<void>(stopped());
  let_go();
  generation_ = 0;
  reset_config();
}

void Device::save(QueuesState& state) const {
  state.version = QueuesState::kVersion;
  state.running = phase() == Phase::Running ? 1 : 0;
  state.broken = is_broken() ? 1 : 0;
  for (unsigned i = 0; i < kMaxQueues; ++i) {
    state.queues[i] = i < queues_.size() ? queues_[i].state() : Queue::State{};
  }
}

Status Device::load(const QueuesState& state, u64 features, std::span<const QueuePlace> places) {
  if (state.version != QueuesState::kVersion)
    return Error("a virtio device's saved state has an unknown version");
  let_go();
  if (state.running == 0) return {};
  bring_up(features, places);
  if (state.broken != 0) fail("it was broken when it was saved");
  for (unsigned i = 0; i < queue_count(); ++i) {
    if (queues_[i].running()) queues_[i].load(state.queues[i]);
  }
  pending_.store(all_queues(), std::memory_order_relaxed);
  phase_.store(Phase::Running, std::memory_order_release);
  return {};
}

}  // namespace nacre::virtio
