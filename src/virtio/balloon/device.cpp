#include "virtio/balloon/device.hpp"

#include <type_traits>

#include "virtio/registers.hpp"

namespace nacre::virtio::balloon {
namespace {

using F = BalloonFeature;

static_assert(std::has_unique_object_representations_v<Balloon::State>);

constexpr unsigned kBudget = 64;

struct [[gnu::packed]] StatisticEntry {
  u16 tag = 0;
  u64 value = 0;
};
static_assert(sizeof(StatisticEntry) == 10);

}  // namespace

Balloon::Balloon(const memory::AddressSpace& space, const Ports& ports, Ballast& ballast)
    : Device({.name = "balloon",
              .id = DeviceId::Balloon,
              .class_code = 0x00ff00,
              .features = F::stats | F::deflate_on_oom | F::reporting},
             queue_, space, ports),
      ballast_(ballast) {}

u64 Balloon::config_read(u64 offset, unsigned size) {
  const Config config = {.pages = target_, .actual = actual()};
  return config_bytes(&config, sizeof config, offset, size);
}

void Balloon::config_write(u64 offset, unsigned size, u64 value) {
  if (offset == __builtin_offsetof(Config, actual) && size == 4) {
    actual_.store(static_cast<u32>(value), std::memory_order_relaxed);
  }
}

void Balloon::set_target(u32 pages) {
  target_ = pages;
  config_changed();
}

void Balloon::reset_config() {
  actual_.store(0, std::memory_order_relaxed);
}

void Balloon::request_statistics() {
  asked_.store(true);
  ports().notifier.wake();
}

void Balloon::started(u64) {
  have_buffer_ = false;
}

bool Balloon::stopped() {
  have_buffer_ = false;
  return true;
}

Balloon::Role Balloon::role_of(unsigned index) const {
  if (index == 0) return Role::Inflate;
  if (index == 1) return Role::Deflate;
  if (index == 2 && has(F::stats)) return Role::Statistics;
  return index == (has(F::stats) ? 3 : 2) && has(F::reporting) ? Role::Reporting : Role::None;
}

void Balloon::process(unsigned index) {
  switch (role_of(index)) {
    case Role::Inflate:
      return serve_queue(index, chain_, kBudget, kBudget, [this](const Chain& chain) -> u32 {
        inflate(chain);
        return 0;
      });
    case Role::Deflate:  // the pages come back when they are touched
      return serve_queue(index, chain_, kBudget, kBudget, [](const Chain&) -> u32 { return 0; });
    case Role::Reporting:
      // The buffers themselves are the free pages; the guest touches them again after they were used.
      return serve_queue(index, chain_, kBudget, kBudget, [this](const Chain& chain) -> u32 {
        for (unsigned i = 0; i < chain.total; ++i) release(chain.segments[i].guest, chain.segments[i].bytes);
        return 0;
      });
    case Role::Statistics:
      return take_statistics(index);
    case Role::None:
      return;
  }
}

// Page numbers, 32 bits each. Those in a row are let go together.
void Balloon::inflate(const Chain& chain) {
  ChainReader reader(chain);
  u64 start = 0, bytes = 0;
  for (u32 number = 0; reader.read(number);) {
    const u64 address = u64{number} << kPageShiftOfBalloon;
    if (bytes != 0 && address == start + bytes) {
      bytes += kPageSize;
      continue;
    }
    if (bytes != 0) release(start, bytes);
    start = address;
    bytes = kPageSize;
  }
  if (bytes != 0) release(start, bytes);
}

// What lies in RAM of it, in whole pages.
void Balloon::release(u64 address, u64 bytes) {
  const u64 start = (address + kPageSize - 1) & ~(kPageSize - 1);
  const u64 skipped = start - address;
  if (start < address || bytes < skipped + kPageSize) return;
  const u64 whole = (bytes - skipped) & ~(kPageSize - 1);
  u8* host = memory().translate(start, whole);
  if (host == nullptr) return;
  ballast_.release(start, host, whole);
  memory().written(start, whole);  // its content is another now
}

void Balloon::take_statistics(unsigned index) {
  Queue& q = queue(index);
  if (!have_buffer_ && pop(index, chain_)) {
    ChainReader reader(chain_);
    for (StatisticEntry entry; reader.read(entry);) {
      if (entry.tag < kStatistics) statistics_[entry.tag].store(entry.value, std::memory_order_relaxed);
    }
    have_buffer_ = true;
    buffer_ = chain_.id;
    ballast_.statistics();
  }
  q.allow_doorbell(memory());  // there is one buffer, and it is here
}

void Balloon::poll() {
  if (!has(F::stats) || !have_buffer_ || !asked_.exchange(false)) return;
  have_buffer_ = false;
  queue(2).push(buffer_, 0);
  publish(2);
}

Balloon::State Balloon::state() const {
  State state;
  state.pages = target_;
  state.actual = actual();
  return state;
}

// The statistics buffer is not kept: a driver that waits for it gets it back with the next request after a
// reset.
Status Balloon::load(const State& state) {
  if (state.version != State::kVersion)
    return Error("the memory balloon's saved state has an unknown version");
  target_ = state.pages;
  actual_.store(state.actual, std::memory_order_relaxed);
  return {};
}

}  // namespace nacre::virtio::balloon
