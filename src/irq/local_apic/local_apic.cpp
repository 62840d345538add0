#include "irq/local_apic/local_apic.hpp"

#include <bit>

#include "base/check.hpp"

namespace nacre::irq {
namespace {

constexpr u32 bit_of(u8 vector) {
  return u32{1} << (vector & 31);
}

// The highest vector in a 256-bit set; -1 when empty.
int highest(const u32 (&set)[8]) {
  for (int word = 7; word >= 0; --word) {
    if (set[word] != 0) return word * 32 + 31 - std::countl_zero(set[word]);
  }
  return -1;
}

}  // namespace

LocalApic::LocalApic(const Ports& ports, const Config& config) : ports_(ports), config_(config) {
  NACRE_CHECK(config.tsc_khz != 0 && config.physical_bits >= 32 && config.physical_bits <= 52);
  reset();
}

void LocalApic::reset() {
  const u32 lint_level = state_.lint_level;
  state_ = State{};
  state_.lint_level = lint_level;
  state_.id = config_.id;
  state_.base =
      ApicBase(ApicBase::kDefaultAddress).with(ApicBase::EN, true).with(ApicBase::BSP, config_.bootstrap).raw;
  state_.xapic_id = config_.id << 24;
  reset_registers();
}

void LocalApic::init() {
  reset_registers();
}

// 11.4.7.1: the state after power-up, which INIT and disabling by IA32_APIC_BASE bring back too. The
// xAPIC id survives INIT (11.4.7.3).
void LocalApic::reset_registers() {
  State fresh;
  fresh.id = state_.id;
  fresh.base = state_.base;
  fresh.xapic_id = state_.xapic_id;
  fresh.lint_level = state_.lint_level;
  fresh.destination_format = 0xffff'ffff;
  fresh.spurious = Spurious::kReset;
  for (u32& entry : fresh.lvt) entry = Lvt::kReset;
  state_ = fresh;
  deadline_ns_ = time::kNever;
  update();
}

void LocalApic::configure_virtual_wire() {
  write_spurious(Spurious(0x0f).with(Spurious::enabled, true).raw);
  write_lvt(ApicRegister::LvtLint0, Lvt(0).with(Lvt::delivery, Delivery::ExtInt).raw);
  write_lvt(ApicRegister::LvtLint1, Lvt(0).with(Lvt::delivery, Delivery::Nmi).raw);
  update();
}

LocalApic::Mode LocalApic::mode() const {
  const ApicBase base(state_.base);
  if (!base[ApicBase::EN]) return Mode::Disabled;
  return base[ApicBase::EXTD] ? Mode::X2Apic : Mode::XApic;
}

u64 LocalApic::base_address() const {
  return state_.base & ~(kPageSize - 1);
}

u32 LocalApic::id() const {
  return mode() == Mode::X2Apic ? state_.id : state_.xapic_id >> 24;
}

Lvt LocalApic::lvt(ApicRegister entry) const {
  return Lvt(state_.lvt[static_cast<u8>(entry) - static_cast<u8>(ApicRegister::LvtTimer)]);
}

// 11.8.3.1: the higher of the task priority and the class being served.
u8 LocalApic::processor_priority() const {
  const u8 task = static_cast<u8>(state_.task_priority);
  const int serving = highest(state_.isr);
  if (serving < 0 || (task >> 4) >= (serving >> 4)) return task;
  return static_cast<u8>(serving & 0xf0);
}

// A disabled local APIC is a wire from LINT0 to the processor's INTR pin (11.4.3).
bool LocalApic::takes_extint() const {
  if (state_.extint_latched != 0) return true;
  if ((state_.lint_level & 1) == 0) return false;
  if (mode() == Mode::Disabled) return true;
  const Lvt lint0 = lvt(ApicRegister::LvtLint0);
  return !lint0[Lvt::masked] && lint0[Lvt::delivery] == Delivery::ExtInt;
}

void LocalApic::update() {
  if (lent_) return follow_wire();
  const int vector = highest(state_.irr);
  bool ready = takes_extint() || (vector >= 0 && (vector >> 4) > (processor_priority() >> 4));
  // What is in service may have ended in guest memory: let the processor come and look.
  if (vector >= 0 && state_.pv_eoi_offered != 0 &&
      (vector >> 4) > (static_cast<int>(state_.task_priority) >> 4)) {
    ready = true;
  }
  const bool rises = ready && !ready_;
  ready_ = ready;
  if (rises) ports_.processor.interrupt_ready();
}

int LocalApic::acknowledge() {
  if (lent_) return acknowledge_wire();
  settle_pv_eoi();
  if (!ready_) return -1;
  if (takes_extint()) {
    state_.extint_latched = 0;
    const int vector = ports_.extint.acknowledge();
    update();
    return vector;
  }
  const int vector = highest(state_.irr);
  state_.irr[vector / 32] &= ~bit_of(static_cast<u8>(vector));
  state_.isr[vector / 32] |= bit_of(static_cast<u8>(vector));
  offer_pv_eoi(vector);
  update();
  return vector;
}

void LocalApic::end_of_interrupt() {
  const int vector = highest(state_.isr);
  if (vector < 0) return;
  const u32 bit = bit_of(static_cast<u8>(vector));
  state_.isr[vector / 32] &= ~bit;
  const bool level = (state_.tmr[vector / 32] & bit) != 0;
  update();
  if (level && !Spurious(state_.spurious)[Spurious::no_broadcast]) ports_.eoi.end_of_interrupt(static_cast<u8>(vector));
}

void LocalApic::set_cr8(u8 value) {
  settle_pv_eoi();
  state_.task_priority = static_cast<u32>(value & 0xf) << 4;
  update();
}

// 11.6.2: physical ids, the flat and cluster models of xAPIC, and x2APIC's cluster model (11.12.10).
bool LocalApic::accepts(Destination destination_mode, u32 destination) const {
  if (lent_ || mode() == Mode::Disabled) return false;
  if (destination == kBroadcast) return true;
  const bool wide = mode() == Mode::X2Apic;
  if (destination_mode == Destination::Physical) return destination == id();
  if (wide) {
    const u32 logical = state_.id << 12 & 0xffff'0000;
    return (destination & 0xffff'0000) == logical && (destination & (u32{1} << (state_.id & 0xf))) != 0;
  }
  const u32 set = destination & 0xff;
  const u32 own = state_.logical_destination >> 24;
  if (destination > 0xff) return false;
  if (state_.destination_format >> 28 == 0xf) return (set & own) != 0;
  return set >> 4 == own >> 4 && (set & own & 0xf) != 0;
}

bool LocalApic::accept(Delivery delivery, u8 vector, Trigger trigger) {
  if (lent_ || mode() == Mode::Disabled) return false;
  switch (delivery) {
    case Delivery::Fixed:
    case Delivery::LowestPriority:
      break;
    case Delivery::Smi:
      ports_.processor.smi();
      return true;
    case Delivery::Nmi:
      ports_.processor.nmi();
      return true;
    case Delivery::Init:
      init();
      ports_.processor.init();
      return true;
    case Delivery::Startup:
      ports_.processor.startup(vector);
      return true;
    case Delivery::ExtInt:
      state_.extint_latched = 1;
      update();
      return true;
    default:
      return false;
  }
  if (!software_enabled()) return false;  // 11.4.7.2
  if (vector < 16) {
    report_error(ApicError::receive_illegal_vector);
    return false;
  }
  const u32 bit = bit_of(vector);
  u32& tmr = state_.tmr[vector / 32];
  tmr = trigger == Trigger::Level ? tmr | bit : tmr & ~bit;
  state_.irr[vector / 32] |= bit;
  update();
  return true;
}

void LocalApic::set_lint(unsigned pin, bool asserted) {
  if (pin > 1) return;
  const u32 bit = u32{1} << pin;
  const bool rises = asserted && (state_.lint_level & bit) == 0;
  state_.lint_level = asserted ? state_.lint_level | bit : state_.lint_level & ~bit;
  if (lent_) return follow_wire();
  if (mode() == Mode::Disabled) {
    if (rises && pin == 1) ports_.processor.nmi();  // LINT1 is the NMI pin then. 11.4.3
  } else if (rises) {
    raise_local(pin == 0 ? ApicRegister::LvtLint0 : ApicRegister::LvtLint1);
  }
  update();
}

// An event of the local vector table: delivered to this processor alone. 11.5.1
void LocalApic::raise_local(ApicRegister entry) {
  const Lvt value = lvt(entry);
  if (value[Lvt::masked]) return;
  const bool fixed_only = entry == ApicRegister::LvtTimer || entry == ApicRegister::LvtError;
  const Delivery delivery = fixed_only ? Delivery::Fixed : value[Lvt::delivery];
  if (delivery == Delivery::ExtInt) return;  // followed as a level: takes_extint()
  if (delivery == Delivery::Startup || delivery == Delivery::LowestPriority) return;  // not LVT modes
  // Level-triggered LINT pins are only meant for fixed delivery and would need remote IRR; taken as
  // edges, as processors do for everything but that case.
  accept(delivery, value[Lvt::vector], Trigger::Edge);
}

// 11.5.3: errors collect unseen until the register is written.
void LocalApic::report_error(u32 error) {
  const bool is_new = (state_.error_pending & error) == 0;
  state_.error_pending |= error;
  const Lvt entry = lvt(ApicRegister::LvtError);
  // A bad vector in the error entry itself must not report forever.
  if (is_new && entry[Lvt::vector] >= 16) raise_local(ApicRegister::LvtError);
}

void LocalApic::write_spurious(u32 value) {
  state_.spurious = value & Spurious::kWritable;
  if (software_enabled()) return;
  for (u32& entry : state_.lvt) entry = Lvt(entry).with(Lvt::masked, true).raw;  // 11.4.7.2
}

// 11.6.1; the reserved and de-assert combinations of figure 11-12 do nothing.
void LocalApic::send_command() {
  const Command command(state_.command);
  Message message;
  message.vector = command[Command::vector];
  message.delivery = command[Command::delivery];
  message.mode = command[Command::mode];
  message.trigger = Trigger::Edge;  // level is for INIT de-assert only. Table 11-3
  message.destination = mode() == Mode::X2Apic ? command[Command::wide_destination]
                                               : destination_from_8_bits(command[Command::destination]);
  const Shorthand shorthand = command[Command::shorthand];
  if (message.delivery == Delivery::RemoteRead || message.delivery == Delivery::ExtInt) return;
  if (message.delivery == Delivery::Init && !command[Command::assert_level] &&
      command[Command::trigger] == Trigger::Level) {
    return;
  }
  const bool plain = message.delivery == Delivery::Fixed || message.delivery == Delivery::LowestPriority;
  if (plain && message.vector < 16) {
    report_error(ApicError::send_illegal_vector);
    return;
  }
  // INIT and Startup to oneself by shorthand are reserved. Table 11-3
  const bool including_self = shorthand == Shorthand::Self || shorthand == Shorthand::All;
  if (including_self && !plain) return;
  ports_.ipi.send(message, shorthand, state_.id);
}

}  // namespace nacre::irq
