#include "device/piix/piix.hpp"

namespace nacre::device::piix {
namespace {

constexpr u16 kIntel = 0x8086;
constexpr u8 kMultifunction = 0x80;
constexpr u32 kHostBridge = 0x06000002, kIsaBridge = 0x06010000, kOtherBridge = 0x06800003;
constexpr u8 kIrqDisabled = 0x80;

}  // namespace

Function::Function(u16 device, u32 class_revision, u8 header_type) {
  config_.set_header(kIntel, device, class_revision);
  config_.set(pci::Offset::status, 2, 0);  // no capabilities
  config_.set(pci::Offset::header_type, 1, header_type);
}

Function::State Function::state() const {
  State state;
  config_.save(state.config);
  return state;
}

Status Function::load(const State& state) {
  if (state.version != State::kVersion) return Error("the saved state of a bridge has an unknown version");
  config_.load(state.config);
  return {};
}

HostBridge::HostBridge() : Function(kDevice, kHostBridge, 0) {
  for (u16 n = 0; n < kPamCount; ++n) config_.set(static_cast<u16>(kPam0 + n), 1, 0x33, 0x33);
  config_.set(kPam0, 1, 0x30, 0x30);  // its lower half is reserved
  config_.set(kSmram, 1, 0x02, 0x7f);
}

IsaBridge::IsaBridge() : Function(kDevice, kIsaBridge, kMultifunction) {
  config_.set(pci::Offset::command, 2, 7);  // it decodes, whatever is written
  for (u16 n = 0; n < 4; ++n) config_.set(static_cast<u16>(kRoutes + n), 1, kIrqDisabled, 0x8f);
}

PowerManagement::PowerManagement(u16 base) : Function(kDevice, kOtherBridge, 0) {
  config_.set(kBase, 4, base | 1u, 0xffc0);
  config_.set(kEnable, 1, 1, 1);
  // There is no system-management mode. SeaBIOS, which would wait for it, takes this bit for its being set
  // up.
  config_.set(kActivityB, 4, kApmcEnable);
}

}  // namespace nacre::device::piix
