#include "device/pci/endpoint.hpp"

#include <type_traits>

#include "base/check.hpp"

namespace nacre::device::pci {
namespace {

static_assert(std::has_unique_object_representations_v<Endpoint::State>);

constexpr u64 kNowhere = u64{1} << 63;  // beyond physical memory

}  // namespace

Endpoint::Endpoint(irq::MessageSink& sink, const Identity& identity, const Region& region, unsigned vectors)
    : region_(region), msix_(sink, vectors), doorbells_(kNowhere) {
  NACRE_CHECK(region.bytes >= kPageSize && (region.bytes & (region.bytes - 1)) == 0);
  config_.set_header(identity.vendor, identity.device, identity.class_code << 8 | identity.revision);
  set_config(Offset::bar, 4, kBar64, ~(region.bytes - 1));
  set_config(Offset::bar + 4, 4, 0, ~u32{0});
  set_config(Offset::subsystem_vendor, 2, identity.subsystem_vendor);
  set_config(Offset::subsystem, 2, identity.subsystem);

  const u16 msix = add_capability(CapabilityId::msi_x, 12);
  msix_control_ = static_cast<u16>(msix + 2);
  set_config(msix_control_, 2, vectors - 1, MsiXControl::kWritable);
  set_config(static_cast<u16>(msix + 4), 4, region.table);
  set_config(static_cast<u16>(msix + 8), 4, region.pending);
  express_ = config_.add_express(kExpressIntegrated);
}

void Endpoint::put_behind_port() {
  set_config(static_cast<u16>(express_ + ExpressOffset::flags), 2, kExpressEndpoint);
  set_config(static_cast<u16>(express_ + ExpressOffset::link_capabilities), 4, kLinkX1);
  set_config(static_cast<u16>(express_ + ExpressOffset::link_control), 2, 0, 0x0fff);
  set_config(static_cast<u16>(express_ + ExpressOffset::link_status), 2, kLinkX1);
}

u32 Endpoint::config_read(u16 offset, unsigned size) {
  return config(offset, size);
}

void Endpoint::config_write(u16 offset, unsigned size, u32 value) {
  config_.write(offset, size, value);
  settings_changed();
}

u64 Endpoint::region_base() const {
  const u64 low = config(Offset::bar, 4) & ~u32{0xf};
  return u64{config(Offset::bar + 4, 4)} << 32 | low;
}

// What follows from the registers: where doorbells are found, and whether interrupts are open.
void Endpoint::settings_changed() {
  const bool anywhere = config_.decodes_memory() && region_.doorbell_bytes != 0;
  const u64 doorbells = anywhere ? region_base() + region_.doorbells : kNowhere;
  if (doorbells != doorbells_.load(std::memory_order_relaxed)) {
    doorbells_.store(doorbells, std::memory_order_relaxed);
    doorbells_moved(anywhere, GuestPhysical(doorbells));
  }
  const MsiXControl control(static_cast<u16>(config(msix_control_, 2)));
  msix_.control(control[MsiXControl::enabled], control[MsiXControl::masked]);
}

bool Endpoint::decodes(GuestPhysical address, unsigned size, u64& offset) const {
  if (!config_.decodes_memory()) return false;
  offset = address.value() - region_base();
  return offset < region_.bytes && region_.bytes - offset >= size;
}

bool Endpoint::memory_read(GuestPhysical address, unsigned size, u64& value) {
  u64 offset = 0;
  if (!decodes(address, size, offset)) return false;
  const u64 page = offset & ~(kPageSize - 1);
  if (page == region_.table) {
    value = msix_.read_table(offset - page, size);
  } else if (page == region_.pending) {
    value = msix_.read_pending(offset - page, size);
  } else {
    value = region_read(offset, size);
  }
  return true;
}

bool Endpoint::memory_write(GuestPhysical address, unsigned size, u64 value) {
  u64 offset = 0;
  if (!decodes(address, size, offset)) return false;
  const u64 page = offset & ~(kPageSize - 1);
  if (page == region_.table) {
    msix_.write_table(offset - page, size, value);
  } else if (page != region_.pending) {
    region_write(offset, size, value);
  }
  return true;
}

bool Endpoint::ring(GuestPhysical address) {
  const u64 offset = address.value() - doorbells_.load(std::memory_order_relaxed);
  if (offset >= region_.doorbell_bytes) return false;
  doorbell(static_cast<u32>(offset));
  return true;
}

void Endpoint::reset_registers(u64& next) {
  config_.reset();
  next = (next + region_.bytes - 1) & ~u64{region_.bytes - 1};
  config_.put(Offset::bar, 4, static_cast<u32>(next) | kBar64);
  config_.put(Offset::bar + 4, 4, static_cast<u32>(next >> 32));
  next += region_.bytes;
  msix_.reset();
  settings_changed();
}

void Endpoint::reset(u64& next) {
  reset_registers(next);
  device_reset();
}

void Endpoint::lose_power(u64& next) {
  reset_registers(next);
  device_lost_power();
}

void Endpoint::save_to(State& state) const {
  state.version = State::kVersion;
  config_.save(state.config);
  state.msix = msix_.state();
}

Status Endpoint::load_from(const State& state) {
  if (state.version != State::kVersion) return Error("a PCI device's saved state has an unknown version");
  TRY(msix_.load(state.msix));
  config_.load(state.config);
  settings_changed();
  return {};
}

}  // namespace nacre::device::pci
