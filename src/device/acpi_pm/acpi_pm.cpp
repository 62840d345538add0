#include "device/acpi_pm/acpi_pm.hpp"

#include <type_traits>

namespace nacre::device {

// A snapshot is these bytes: none of them may be padding.
static_assert(std::has_unique_object_representations_v<AcpiPm::State>);

namespace {

// Byte offsets inside the window. PM1_CNT is two bytes in a four-byte block.
constexpr u16 kStatus = 0, kEnable = 2, kControl = 4, kTimer = 8;
constexpr u16 kStatusBits =
    AcpiPm::TMR | AcpiPm::GBL | AcpiPm::PWRBTN | AcpiPm::SLPBTN | AcpiPm::RTC | AcpiPm::WAK;
constexpr u16 kEnableBits = AcpiPm::TMR | AcpiPm::GBL | AcpiPm::PWRBTN | AcpiPm::SLPBTN | AcpiPm::RTC;
constexpr u16 kControlBits = AcpiPm::SCI_EN | AcpiPm::BM_RLD | AcpiPm::SLP_TYP;

// TMR status is set whenever the timer's top bit changes: ACPI 6.4, 4.8.3.3.
constexpr unsigned kHalfPeriodBits = 31;

u16 merge(u16 old, unsigned byte, u8 value) {
  return static_cast<u16>(byte == 0 ? (old & 0xff00) | value : (old & 0xff) | value << 8);
}

}  // namespace

void AcpiPm::reset() {
  state_ = State{};
  state_.timer_seen = time::ticks_at(clock_.now_ns(), kTimerHz) >> kHalfPeriodBits;
  sci_.set(false);
}

u8 AcpiPm::read_byte(u16 offset) const {
  const unsigned shift = 8 * (offset & 1);
  switch (offset & ~1u) {
    case kStatus:
      return static_cast<u8>(state_.status >> shift);
    case kEnable:
      return static_cast<u8>(state_.enable >> shift);
    case kControl:
      return static_cast<u8>(state_.control >> shift);
    default:
      return 0;
  }
}

u32 AcpiPm::read(u16 offset, unsigned size) {
  if (offset >= kTimer) {
    const u32 timer = static_cast<u32>(time::ticks_at(clock_.now_ns(), kTimerHz));
    const unsigned byte = offset - kTimer;
    return byte > 3 ? 0
                    : static_cast<u32>((timer >> (8 * byte)) &
                                       (size >= 4 ? 0xffff'ffff : (u32{1} << (8 * size)) - 1));
  }
  collect_timer();
  u32 value = 0;
  for (unsigned i = 0; i < size && i < 4; ++i) {
    const unsigned at = offset + i;
    if (at < kTimer) value |= u32{read_byte(static_cast<u16>(at))} << (8 * i);
  }
  return value;
}

void AcpiPm::write(u16 offset, unsigned size, u32 value) {
  collect_timer();
  u16 control = state_.control;
  bool control_written = false;
  for (unsigned i = 0; i < size && i < 4; ++i) {
    const unsigned at = offset + i;
    const u8 byte = static_cast<u8>(value >> (8 * i));
    switch (at & ~1u) {
      case kStatus:
        state_.status = static_cast<u16>(state_.status & ~(byte << (8 * (at & 1))));
        break;
      case kEnable:
        state_.enable = merge(state_.enable, at & 1, byte) & kEnableBits;
        break;
      case kControl:
        control = merge(control, at & 1, byte);
        control_written = true;
        break;
      default:
        break;  // the timer is read-only
    }
  }
  update_sci();
  if (control_written) write_control(control);
}

void AcpiPm::write_control(u16 value) {
  state_.control = (value & kControlBits) | SCI_EN;
  if ((value & SLP_EN) == 0) return;
  const unsigned type = (value & SLP_TYP) >> 10;
  if (type == kSleepTypeS5) power_.power_off();
  // Other sleep types are not in the DSDT; a guest that asks all the same stays awake.
}

void AcpiPm::press_power_button() {
  state_.status |= PWRBTN;
  update_sci();
}

void AcpiPm::collect_timer() {
  const u64 halves = time::ticks_at(clock_.now_ns(), kTimerHz) >> kHalfPeriodBits;
  if (halves == state_.timer_seen) return;
  state_.timer_seen = halves;
  state_.status |= TMR;
  update_sci();
}

void AcpiPm::update_sci() {
  sci_.set((state_.status & state_.enable & kEnableBits) != 0);
}

u64 AcpiPm::next_deadline() const {
  if ((state_.enable & TMR) == 0 || (state_.status & TMR) != 0) return time::kNever;
  return time::instant_of((state_.timer_seen + 1) << kHalfPeriodBits, kTimerHz);
}

void AcpiPm::advance(u64) {
  collect_timer();
}

Status AcpiPm::load(const State& state) {
  if (state.version != State::kVersion)
    return Error("the ACPI power block's saved state has an unknown version");
  if (state.timer_seen >> 32 != 0)
    return Error("the ACPI power block's saved state is damaged: its timer is out of range");
  state_ = state;
  state_.status &= kStatusBits;
  state_.enable &= kEnableBits;
  state_.control = (state.control & kControlBits) | SCI_EN;
  update_sci();
  return {};
}

}  // namespace nacre::device
