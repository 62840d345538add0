// The two faces of the local APIC's registers: memory-mapped (xAPIC) and MSRs (x2APIC), and
// IA32_APIC_BASE, which chooses between them.
#include "base/bits.hpp"
#include "irq/local_apic/local_apic.hpp"

namespace nacre::irq {
namespace {

constexpr u32 kMsrApicBase = 0x1b, kMsrTscDeadline = 0x6e0, kMsrX2Apic = 0x800;

constexpr u8 index_of(ApicRegister r) {
  return static_cast<u8>(r);
}
constexpr bool in_block(u8 index, ApicRegister first) {
  return index >= index_of(first) && index < index_of(first) + 8;
}
constexpr bool is_lvt(u8 index) {
  return index >= index_of(ApicRegister::LvtTimer) && index <= index_of(ApicRegister::LvtError);
}

// Bits that an x2APIC write may have set without #GP: the writable ones and the read-only status bits.
constexpr u32 x2apic_allowed(ApicRegister r) {
  switch (r) {
    case ApicRegister::TaskPriority:
      return 0xff;
    case ApicRegister::Spurious:
      return Spurious::kWritable;
    case ApicRegister::LvtTimer:
    case ApicRegister::LvtThermal:
    case ApicRegister::LvtPerformance:
    case ApicRegister::LvtError:
      return lvt_writable(r) | (1 << 12);
    case ApicRegister::LvtLint0:
    case ApicRegister::LvtLint1:
      return lvt_writable(r) | Lvt::kReadOnly;
    case ApicRegister::InitialCount:
      return 0xffff'ffff;
    case ApicRegister::DivideConfiguration:
      return 0xb;
    case ApicRegister::SelfIpi:
      return 0xff;
    default:
      return 0;  // Eoi, ErrorStatus: only 0 may be written. Table 11-6
  }
}

}  // namespace

void LocalApic::write_lvt(ApicRegister entry, u32 value) {
  u32 kept = value & lvt_writable(entry);
  if (!software_enabled()) kept |= Lvt::kReset;  // 11.4.7.2: cannot be unmasked
  if (entry == ApicRegister::LvtTimer) {
    write_timer_lvt(kept);
    return;
  }
  state_.lvt[index_of(entry) - index_of(ApicRegister::LvtTimer)] = kept;
}

bool LocalApic::read_register(u8 index, u32& value) {
  if (in_block(index, ApicRegister::InService)) return value = state_.isr[index & 7], true;
  if (in_block(index, ApicRegister::TriggerMode)) return value = state_.tmr[index & 7], true;
  if (in_block(index, ApicRegister::Request)) return value = state_.irr[index & 7], true;
  if (is_lvt(index)) return value = lvt(static_cast<ApicRegister>(index)).raw, true;
  const bool wide = mode() == Mode::X2Apic;
  switch (static_cast<ApicRegister>(index)) {
    case ApicRegister::Id:
      value = wide ? state_.id : state_.xapic_id;
      return true;
    case ApicRegister::Version:
      value = kVersion;
      return true;
    case ApicRegister::TaskPriority:
      value = state_.task_priority;
      return true;
    case ApicRegister::ProcessorPriority:
      value = processor_priority();
      return true;
    case ApicRegister::LogicalDestination:
      // 11.12.10.2: derived from the id in x2APIC mode.
      value =
          wide ? (state_.id << 12 & 0xffff'0000) | (u32{1} << (state_.id & 0xf)) : state_.logical_destination;
      return true;
    case ApicRegister::Spurious:
      value = state_.spurious;
      return true;
    case ApicRegister::ErrorStatus:
      value = state_.error_status;
      return true;
    case ApicRegister::CommandLow:
      value = static_cast<u32>(state_.command);
      return true;
    case ApicRegister::InitialCount:
      value = state_.initial_count;
      return true;
    case ApicRegister::CurrentCount:
      value = current_count();
      return true;
    case ApicRegister::DivideConfiguration:
      value = state_.divide;
      return true;
    default:
      break;
  }
  if (wide) return false;
  switch (static_cast<ApicRegister>(index)) {
    case ApicRegister::ArbitrationPriority:
    case ApicRegister::RemoteRead:
    case ApicRegister::Eoi:
      value = 0;
      return true;
    case ApicRegister::DestinationFormat:
      value = state_.destination_format;
      return true;
    case ApicRegister::CommandHigh:
      value = static_cast<u32>(state_.command >> 32);
      return true;
    default:
      return false;
  }
}

// Registers that both interfaces can write, with reserved bits already refused or to be dropped here.
bool LocalApic::write_register(u8 index, u32 value) {
  if (is_lvt(index)) {
    write_lvt(static_cast<ApicRegister>(index), value);
    return true;
  }
  switch (static_cast<ApicRegister>(index)) {
    case ApicRegister::TaskPriority:
      state_.task_priority = value & 0xff;
      return true;
    case ApicRegister::Eoi:
      end_of_interrupt();
      return true;
    case ApicRegister::Spurious:
      write_spurious(value);
      return true;
    case ApicRegister::ErrorStatus:
      state_.error_status = state_.error_pending;
      state_.error_pending = 0;
      return true;
    case ApicRegister::InitialCount:
      start_timer(value);
      return true;
    case ApicRegister::DivideConfiguration:
      write_divide(value & 0xb);
      return true;
    default:
      return false;
  }
}

u64 LocalApic::mmio_read(u64 offset, unsigned size) {
  settle_pv_eoi();
  if (!decodes_mmio()) return low_bytes_mask(size);
  if (offset >= kWindowBytes) return 0;
  u32 value = 0;
  if (offset >= 0x400 || !read_register(static_cast<u8>(offset >> 4), value)) {
    report_error(ApicError::illegal_register);
    update();
    return 0;
  }
  // 11.4.1: registers are the low 4 bytes of each 16; the other bytes are undefined, here 0.
  const unsigned byte = offset & 0xf;
  return byte > 3 ? 0 : (u64{value} >> (8 * byte)) & low_bytes_mask(size);
}

void LocalApic::mmio_write(u64 offset, unsigned size, u64 value) {
  settle_pv_eoi();
  if (!decodes_mmio() || offset >= kWindowBytes) return;
  if ((offset & 0xf) != 0 || size < 4) return;  // 11.4.1: only aligned 32-bit writes are defined
  const u32 low = static_cast<u32>(value);
  const u8 index = offset < 0x400 ? static_cast<u8>(offset >> 4) : u8{0};
  switch (static_cast<ApicRegister>(index)) {
    case ApicRegister::Id:
      state_.xapic_id = low & 0xff00'0000;
      break;
    case ApicRegister::LogicalDestination:
      state_.logical_destination = low & 0xff00'0000;
      break;
    case ApicRegister::DestinationFormat:
      state_.destination_format = low | 0x0fff'ffff;
      break;
    case ApicRegister::CommandHigh:
      state_.command = (state_.command & 0xffff'ffff) | (u64{low & 0xff00'0000} << 32);
      break;
    case ApicRegister::CommandLow:
      state_.command = (state_.command & ~u64{0xffff'ffff}) | (low & Command::kWritableLow);
      send_command();
      break;
    default:
      // Read-only registers ignore writes; what is no register is an error.
      if (u32 ignored = 0; !write_register(index, low) && !read_register(index, ignored)) {
        report_error(ApicError::illegal_register);
      }
      break;
  }
  update();
}

bool LocalApic::msr_read(u32 msr, u64& value) {
  if (lent_) return false;
  settle_pv_eoi();
  if (msr == kMsrPvEoi) return value = state_.pv_eoi_msr, ports_.pv_eoi != nullptr;
  if (msr == kMsrApicBase) return value = state_.base, true;
  if (msr == kMsrTscDeadline) {
    value = timer_mode() == TimerMode::TscDeadline ? state_.tsc_deadline : 0;
    return true;
  }
  if (!owns_msr(msr) || mode() != Mode::X2Apic) return false;
  const u32 index = msr - kMsrX2Apic;
  if (index == index_of(ApicRegister::CommandLow)) return value = state_.command, true;
  u32 low = 0;
  if (index > index_of(ApicRegister::SelfIpi) || !read_register(static_cast<u8>(index), low)) return false;
  value = low;
  return true;
}

bool LocalApic::msr_write(u32 msr, u64 value) {
  if (lent_) return false;
  settle_pv_eoi();
  if (msr == kMsrPvEoi) return write_pv_eoi_msr(value);
  if (msr == kMsrApicBase) return write_base(value);
  if (msr == kMsrTscDeadline) {
    write_tsc_deadline(value);
    return true;
  }
  if (!owns_msr(msr) || mode() != Mode::X2Apic) return false;
  const u32 index = msr - kMsrX2Apic;
  if (index > index_of(ApicRegister::SelfIpi)) return false;
  const bool done = write_x2apic(static_cast<u8>(index), value);
  update();
  return done;
}

bool LocalApic::write_x2apic(u8 index, u64 value) {
  const ApicRegister r = static_cast<ApicRegister>(index);
  if (r == ApicRegister::CommandLow) {
    constexpr u64 allowed = 0xffff'ffff'0000'0000 | Command::kWritableLow;
    if ((value & ~allowed) != 0) return false;
    state_.command = value;
    send_command();
    return true;
  }
  if ((value & ~u64{x2apic_allowed(r)}) != 0) return false;
  if (r == ApicRegister::SelfIpi) {  // 11.12.11: always fixed and edge
    if (value < 16) {
      report_error(ApicError::send_illegal_vector);
    } else {
      accept(Delivery::Fixed, static_cast<u8>(value), Trigger::Edge);
    }
    return true;
  }
  return write_register(index, static_cast<u32>(value));
}

// 11.12.5.1, figure 11-26: which changes of EN and EXTD are legal.
bool LocalApic::write_base(u64 value) {
  const ApicBase now(state_.base);
  const ApicBase next(value);
  const u64 reserved = ~((u64{1} << config_.physical_bits) - 1) | ApicBase::kReservedLow;
  if ((value & reserved) != 0) return false;
  const bool enabled = next[ApicBase::EN];
  const bool extended = next[ApicBase::EXTD];
  if (extended && !enabled) return false;
  if (now[ApicBase::EXTD] && enabled && !extended) return false;  // x2APIC leaves only by disabling
  if (!now[ApicBase::EN] && extended) return false;               // and is entered only from xAPIC
  const Mode before = mode();
  state_.base = value;
  if (mode() == Mode::Disabled && before != Mode::Disabled) {
    state_.xapic_id = state_.id << 24;
    reset_registers();
  }
  // 11.12.10.1 and 11.12.9: the id becomes the initial one; ICR's destination widens and starts at 0.
  if (mode() == Mode::X2Apic && before != Mode::X2Apic) state_.command &= 0xffff'ffff;
  update();
  return true;
}

}  // namespace nacre::irq
