#include "virtio/console/device.hpp"

#include <type_traits>
#include <utility>

#include "virtio/registers.hpp"

namespace nacre::virtio::console {
namespace {

constexpr unsigned kBudget = 64;  // requests of one queue before the other has its turn

}  // namespace

static_assert(std::has_unique_object_representations_v<Console::State>);

Console::Console(const memory::AddressSpace& space, const Ports& ports, Terminal& terminal)
    : Device({.name = "console",
              .id = DeviceId::Console,
              .class_code = 0x078000,
              .features = ConsoleFeature::size},
             queue_, space, ports),
      terminal_(terminal) {}

bool Console::resize(u16 columns, u16 rows) {
  if (columns == config_.columns && rows == config_.rows) return false;
  config_.columns = columns;
  config_.rows = rows;
  config_changed();
  return true;
}

u64 Console::config_read(u64 offset, unsigned size) {
  return config_bytes(&config_, sizeof config_, offset, size);
}

Console::State Console::state() const {
  return {.columns = config_.columns, .rows = config_.rows};
}

Status Console::load(const State& state) {
  if (state.version != State::kVersion)
    return Error("the console device's saved state has an unknown version");
  config_.columns = state.columns;
  config_.rows = state.rows;
  return {};
}

void Console::started(u64 features) {
  stalled_ = false;
  sent_ = 0;
  announce_size_ = (features & ConsoleFeature::size) != 0 && config_.columns != 0;
}

void Console::process(unsigned index) {
  if (index == kTransmit) transmit();
  if (index == kReceive) receive();
}

void Console::poll() {
  if (std::exchange(announce_size_, false)) ports().interrupts.config();
  if (stalled_) transmit();
  receive();
}

void Console::transmit() {
  Queue& q = queue(kTransmit);
  stalled_ = false;
  unsigned served = 0;
  do {
    q.suppress_doorbell(memory());
    while (!is_stopping() && !is_broken()) {
      if (served == kBudget) {
        publish(kTransmit);
        q.allow_doorbell(memory());
        return ring_again(kTransmit);
      }
      if (!pop(kTransmit, chain_)) break;
      if (!send()) {
        q.unpop(chain_.id);
        stalled_ = true;
        break;
      }
      q.push(chain_.id, 0);
      ++served;
    }
    publish(kTransmit);
  } while (!stalled_ && !is_stopping() && !is_broken() && q.allow_doorbell(memory()));
}

// The chain's bytes behind those that were taken before. False: not all of them now.
bool Console::send() {
  ChainReader reader(chain_);
  // The guest may have made the buffer shorter since: then there is nothing left.
  for (u64 skipped = 0; skipped < sent_;) {
    const Segment piece = reader.take(sent_ - skipped);
    if (piece.bytes == 0) break;
    skipped += piece.bytes;
  }
  for (Segment piece = reader.take(~u64{0}); piece.bytes != 0; piece = reader.take(~u64{0})) {
    const u32 taken = terminal_.write(piece.host, piece.bytes);
    NACRE_CHECK(taken <= piece.bytes);
    sent_ += taken;
    if (taken < piece.bytes) return false;
  }
  sent_ = 0;
  return true;
}

void Console::receive() {
  Queue& q = queue(kReceive);
  for (unsigned filled = 0; !is_stopping() && !is_broken(); ++filled) {
    if (filled == kBudget) {
      ring_again(kReceive);
      break;
    }
    // No room: the driver is asked to ring; it may have made some just before it heard.
    if (!fill() && (is_broken() || !q.allow_doorbell(memory()) || !fill())) break;
  }
  publish(kReceive);
}

// Input into one buffer. False: no buffer, or no input.
bool Console::fill() {
  if (!pop(kReceive, chain_)) return false;
  ChainWriter writer(chain_, memory());
  if (writer.left() == 0) {
    fail("a receive buffer has no room");
    return false;
  }
  u32 total = 0;
  for (bool more = true; more && writer.left() != 0;) {
    // Looked at before it is taken: what the terminal has may be less than a piece.
    const Segment piece = writer.take(~u64{0});
    const u32 got = terminal_.read(piece.host, piece.bytes);
    NACRE_CHECK(got <= piece.bytes);
    if (got != 0) writer.wrote({piece.host, piece.guest, got});
    total += got;
    more = got == piece.bytes;
  }
  if (total == 0) {
    queue(kReceive).unpop(chain_.id);
    return false;
  }
  queue(kReceive).push(chain_.id, total);
  return true;
}

}  // namespace nacre::virtio::console
