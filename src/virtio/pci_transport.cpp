#include "virtio/pci_transport.hpp"

#include <type_traits>

#include "base/bits.hpp"

namespace nacre::virtio {
namespace {

using device::pci::MsiX;

static_assert(std::has_unique_object_representations_v<PciTransport::Registers>);
static_assert(std::has_unique_object_representations_v<PciTransport::State>);

// A vector for each queue and one for the configuration.
unsigned vectors_for(const Device& device) {
  return device.queue_count() + 1;
}

device::pci::Endpoint::Identity identity_of(const Device& device) {
  const u16 id = static_cast<u16>(kPciDeviceBase + static_cast<u16>(device.id()));
  return {.vendor = kPciVendor,
          .device = id,
          .subsystem_vendor = kPciVendor,
          .subsystem = id,
          .class_code = device.class_code(),
          .revision = 1};  // not transitional. 4.1.2.1
}

device::pci::Endpoint::Region region_of(const Device& device) {
  return {.bytes = BarLayout::bytes,
          .table = BarLayout::table,
          .pending = BarLayout::pending,
          .doorbells = BarLayout::doorbells,
          .doorbell_bytes = BarLayout::doorbell_stride * device.queue_count()};
}

// The fields of the common configuration: where they start and how wide they are. 4.1.4.3.
struct FieldPlace {
  u8 offset, bytes;
};
constexpr FieldPlace kFields[] = {
    {CommonOffset::device_feature_select, 4},
    {CommonOffset::device_feature, 4},
    {CommonOffset::driver_feature_select, 4},
    {CommonOffset::driver_feature, 4},
    {CommonOffset::config_vector, 2},
    {CommonOffset::queue_count, 2},
    {CommonOffset::status, 1},
    {CommonOffset::generation, 1},
    {CommonOffset::queue_select, 2},
    {CommonOffset::queue_size, 2},
    {CommonOffset::queue_vector, 2},
    {CommonOffset::queue_enable, 2},
    {CommonOffset::queue_notify_offset, 2},
    {CommonOffset::queue_descriptors, 8},
    {CommonOffset::queue_driver, 8},
    {CommonOffset::queue_device, 8},
    {CommonOffset::queue_notify_data, 2},
    {CommonOffset::queue_reset, 2},
};

const FieldPlace* field_at(u64 offset) {
  for (const FieldPlace& place : kFields) {
    if (offset >= place.offset && offset < u64{place.offset} + place.bytes) return &place;
  }
  return nullptr;
}

// A 64-bit field's half, or all of it, replaced.
u64 merged(u64 old, u64 within, unsigned size, u64 value) {
  const u64 mask = low_bytes_mask(size) << (8 * within);
  return (old & ~mask) | (value << (8 * within) & mask);
}

}  // namespace

PciTransport::PciTransport(Device& device, irq::MessageSink& sink)
    : Endpoint(sink, identity_of(device), region_of(device), vectors_for(device)), device_(device) {
  add_virtio_capability(CapabilityType::Common, BarLayout::common, BarLayout::page);
  add_virtio_capability(CapabilityType::Isr, BarLayout::isr, BarLayout::page);
  add_virtio_capability(CapabilityType::Device, BarLayout::device, BarLayout::page);
  add_virtio_capability(CapabilityType::Notify, BarLayout::doorbells,
                        BarLayout::doorbell_stride * device.queue_count());
  add_virtio_capability(CapabilityType::PciConfig, 0, 0);
  forget_driver();
}

void PciTransport::add_virtio_capability(CapabilityType type, u32 offset, u32 length) {
  const u8 bytes = type == CapabilityType::Notify      ? Capability::notify_bytes
                   : type == CapabilityType::PciConfig ? Capability::config_bytes
                                                       : Capability::bytes;
  const u16 at = add_capability(device::pci::CapabilityId::vendor, bytes);
  const bool window = type == CapabilityType::PciConfig;
  const u32 writable = window ? ~u32{0} : 0;
  const auto place = [at](u16 part) { return static_cast<u16>(at + part); };
  set_config(place(Capability::length_of), 1, bytes);
  set_config(place(Capability::type), 1, static_cast<u8>(type));
  set_config(place(Capability::bar), 1, 0, writable);
  set_config(place(Capability::offset), 4, offset, writable);
  set_config(place(Capability::length), 4, length, writable);
  if (type == CapabilityType::Notify)
    set_config(place(Capability::multiplier), 4, BarLayout::doorbell_stride);
  if (window) config_window_ = at;
}

// --- BAR 0 through configuration space, for those who cannot reach memory: 4.1.4.9 ---

// Which access the capability's registers describe. False: none that may be made.
bool PciTransport::through_config(u64& offset, unsigned& size) const {
  offset = config(static_cast<u16>(config_window_ + Capability::offset), 4);
  size = config(static_cast<u16>(config_window_ + Capability::length), 4);
  const u32 bar = config(static_cast<u16>(config_window_ + Capability::bar), 1);
  return bar == 0 && (size == 1 || size == 2 || size == 4) && offset % size == 0 && offset < BarLayout::bytes;
}

u32 PciTransport::config_read(u16 offset, unsigned size) {
  const u16 data = static_cast<u16>(config_window_ + Capability::data);
  u64 at = 0;
  unsigned bytes = 0;
  if (offset >= data && offset < data + 4 && through_config(at, bytes)) {
    return static_cast<u32>(region_read(at, bytes) >> (8 * (offset - data)) & low_bytes_mask(size));
  }
  return Endpoint::config_read(offset, size);
}

void PciTransport::config_write(u16 offset, unsigned size, u32 value) {
  Endpoint::config_write(offset, size, value);
  u64 at = 0;
  unsigned bytes = 0;
  if (offset == config_window_ + Capability::data && through_config(at, bytes)) {
    region_write(at, bytes, value & low_bytes_mask(bytes));
  }
}

// --- BAR 0 ---

u64 PciTransport::region_read(u64 offset, unsigned size) {
  const u64 within = offset % BarLayout::page;
  switch (offset - within) {
    case BarLayout::common:
      return common_read(within, size);
    case BarLayout::isr: {
      if (within != 0) return 0;
      const u8 isr = registers_.isr;
      registers_.isr = 0;  // reading clears
      return isr;
    }
    case BarLayout::device:
      return device_.config_read(within, size);
    default:
      return 0;
  }
}

void PciTransport::region_write(u64 offset, unsigned size, u64 value) {
  const u64 within = offset % BarLayout::page;
  switch (offset - within) {
    case BarLayout::common:
      return common_write(within, size, value);
    case BarLayout::device:
      return device_.config_write(within, size, value);
    case BarLayout::doorbells:
      return doorbell(static_cast<u32>(within));
    default:
      return;
  }
}

// --- common configuration ---

// Is the device at rest after a reset? While it is not, its registers do not change. 2.4.2 and 4.1.4.3.2: the
// driver waits until it reads a status of 0.
bool PciTransport::settled() {
  if (registers_.resetting == 0) return true;
  if (device_.phase() != Device::Phase::Stopped) return false;
  forget_driver();
  device_.reset_config();
  return true;
}

void PciTransport::forget_driver() {
  registers_ = Registers{};
  for (u16& vector : registers_.vectors) vector = MsiX::kNoVector;
  for (unsigned i = 0; i < device_.queue_count(); ++i) registers_.places[i].size = kMaxQueueSize;
}

u8 PciTransport::status() {
  static_cast<void>(settled());
  const bool broken = registers_.resetting == 0 && device_.is_broken();
  return static_cast<u8>(registers_.status | (broken ? DeviceStatus::needs_reset : 0));
}

u64 PciTransport::field(u64 offset) {
  const unsigned q = registers_.queue_select;
  const bool exists = q < device_.queue_count();
  switch (offset) {
    case CommonOffset::device_feature_select:
      return registers_.device_feature_select;
    case CommonOffset::device_feature:
      return registers_.device_feature_select < 2
                 ? device_.features() >> (32 * registers_.device_feature_select) & 0xffff'ffff
                 : 0;
    case CommonOffset::driver_feature_select:
      return registers_.driver_feature_select;
    case CommonOffset::driver_feature:
      return registers_.driver_feature_select < 2
                 ? registers_.driver_features >> (32 * registers_.driver_feature_select) & 0xffff'ffff
                 : 0;
    case CommonOffset::config_vector:
      return registers_.config_vector;
    case CommonOffset::queue_count:
      return device_.queue_count();
    case CommonOffset::status:
      return status();
    case CommonOffset::generation:
      return device_.generation();
    case CommonOffset::queue_select:
      return registers_.queue_select;
    case CommonOffset::queue_size:
      return exists ? registers_.places[q].size : 0;
    case CommonOffset::queue_vector:
      return exists ? registers_.vectors[q] : MsiX::kNoVector;
    case CommonOffset::queue_enable:
      return exists ? registers_.enabled[q] : 0;
    case CommonOffset::queue_notify_offset:
      return exists ? q : 0;
    case CommonOffset::queue_descriptors:
      return exists ? registers_.places[q].descriptors : 0;
    case CommonOffset::queue_driver:
      return exists ? registers_.places[q].driver : 0;
    case CommonOffset::queue_device:
      return exists ? registers_.places[q].device : 0;
    case CommonOffset::queue_notify_data:
      return exists ? q : 0;
    default:
      return 0;
  }
}

u64 PciTransport::common_read(u64 offset, unsigned size) {
  static_cast<void>(settled());
  const FieldPlace* place = field_at(offset);
  if (place == nullptr || offset - place->offset + size > place->bytes) return 0;
  return field(place->offset) >> (8 * (offset - place->offset)) & low_bytes_mask(size);
}

void PciTransport::common_write(u64 offset, unsigned size, u64 value) {
  if (!settled()) return;
  const FieldPlace* place = field_at(offset);
  if (place == nullptr) return;
  // Fields are written whole, but for 64-bit ones, which may come in halves. 4.1.3.1.
  const bool whole = offset == place->offset && size == place->bytes;
  const bool half = place->bytes == 8 && size == 4 && offset % 4 == 0;
  if (!whole && !half) return;
  const u16 vector = value < msix().vectors() ? static_cast<u16>(value) : MsiX::kNoVector;
  switch (place->offset) {
    case CommonOffset::device_feature_select:
      registers_.device_feature_select = static_cast<u32>(value);
      return;
    case CommonOffset::driver_feature_select:
      registers_.driver_feature_select = static_cast<u32>(value);
      return;
    case CommonOffset::driver_feature:
      if (registers_.driver_feature_select >= 2 || (registers_.status & DeviceStatus::features_ok) != 0)
        return;
      registers_.driver_features =
          merged(registers_.driver_features, 4 * registers_.driver_feature_select, 4, value);
      return;
    case CommonOffset::config_vector:
      registers_.config_vector = vector;
      return;
    case CommonOffset::status:
      return write_status(static_cast<u8>(value));
    case CommonOffset::queue_select:
      registers_.queue_select = static_cast<u16>(value);
      return;
    case CommonOffset::queue_vector:
      if (registers_.queue_select < device_.queue_count())
        registers_.vectors[registers_.queue_select] = vector;
      return;
    default:
      return write_queue(offset, size, value);
  }
}

// Where the selected queue is. Only before it is enabled: afterwards the device has it.
void PciTransport::write_queue(u64 offset, unsigned size, u64 value) {
  const unsigned q = registers_.queue_select;
  if (q >= device_.queue_count() || registers_.enabled[q] != 0) return;
  QueuePlace& place = registers_.places[q];
  switch (offset & ~u64{7}) {
    case CommonOffset::queue_descriptors:
      place.descriptors = merged(place.descriptors, offset & 7, size, value);
      return;
    case CommonOffset::queue_driver:
      place.driver = merged(place.driver, offset & 7, size, value);
      return;
    case CommonOffset::queue_device:
      place.device = merged(place.device, offset & 7, size, value);
      return;
    default:
      break;
  }
  if (offset == CommonOffset::queue_size && value != 0 && value <= kMaxQueueSize) {
    place.size = static_cast<u16>(value);
  } else if (offset == CommonOffset::queue_enable && value == 1) {
    registers_.enabled[q] = 1;
  }
}

void PciTransport::write_status(u8 value) {
  using S = DeviceStatus;
  if (value == 0) {
    registers_.resetting = 1;
    device_.request_stop();
    static_cast<void>(settled());  // at once, if it was not running
    return;
  }
  const u8 before = registers_.status;
  u8 now = static_cast<u8>(before | (value & ~S::needs_reset));  // bits are only ever added. 2.1.2
  if ((now & S::features_ok) != 0 && (before & S::features_ok) == 0) {
    const u64 wanted = registers_.driver_features;
    const bool possible = (wanted & ~device_.features()) == 0 && (wanted & Feature::version_1) != 0;
    if (!possible || !device_.accepts(wanted)) now &= static_cast<u8>(~S::features_ok);
  }
  const bool ready = (now & S::features_ok) != 0 && (now & S::failed) == 0;
  if (!ready) now &= static_cast<u8>(~S::driver_ok);
  registers_.status = now;
  if ((now & S::driver_ok) != 0 && (before & S::driver_ok) == 0) start_device();
}

void PciTransport::start_device() {
  QueuePlace places[Device::kMaxQueues];
  for (unsigned i = 0; i < device_.queue_count(); ++i) {
    if (registers_.enabled[i] != 0) places[i] = registers_.places[i];
  }
  device_.start(registers_.driver_features, {places, device_.queue_count()});
}

void PciTransport::interrupt(unsigned queue) {
  if (registers_.resetting != 0 || queue >= device_.queue_count()) return;
  registers_.isr |= Isr::queue;
  msix().fire(registers_.vectors[queue]);
}

void PciTransport::config_interrupt() {
  if (registers_.resetting != 0 || (registers_.status & DeviceStatus::driver_ok) == 0) return;
  registers_.isr |= Isr::config;
  msix().fire(registers_.config_vector);
}

void PciTransport::device_reset() {
  device_.power_on();
  forget_driver();
}

// As if the guest had asked for a reset: the queues' side may be at work.
void PciTransport::device_lost_power() {
  registers_.resetting = 1;
  device_.request_stop();
  static_cast<void>(settled());
}

PciTransport::State PciTransport::state() {
  State state;
  state.device = static_cast<u32>(device_.id());
  save_to(state.endpoint);
  state.registers = registers_;
  device_.save(state.queues);
  return state;
}

Status PciTransport::load(const State& state) {
  if (state.version != State::kVersion) return Error("a virtio device's saved state has an unknown version");
  if (state.device != static_cast<u32>(device_.id())) {
    return Error("a virtio device's saved state is of another kind of device: ").append_number(state.device);
  }
  TRY(load_from(state.endpoint));
  device_.power_on();
  forget_driver();
  const Registers initial = registers_;
  registers_ = state.registers;
  registers_.resetting = 0;
  if (state.registers.resetting != 0) {
    registers_ = initial;  // the reset is over now
    return {};
  }
  const bool accepted = (registers_.driver_features & ~device_.features()) == 0;
  if (!accepted) return Error("a virtio device's saved state has features that this device does not offer");
  QueuePlace places[Device::kMaxQueues];
  for (unsigned i = 0; i < Device::kMaxQueues; ++i) {
    const bool exists = i < device_.queue_count();
    registers_.enabled[i] = exists ? registers_.enabled[i] & 1 : 0;
    if (!exists) registers_.places[i] = QueuePlace{};
    if (registers_.places[i].size > kMaxQueueSize) registers_.places[i].size = kMaxQueueSize;
    if (registers_.vectors[i] >= msix().vectors()) registers_.vectors[i] = MsiX::kNoVector;
    if (registers_.enabled[i] != 0) places[i] = registers_.places[i];
  }
  if (registers_.config_vector >= msix().vectors()) registers_.config_vector = MsiX::kNoVector;
  return device_.load(state.queues, registers_.driver_features, {places, device_.queue_count()});
}

}  // namespace nacre::virtio
