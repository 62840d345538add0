// The local APIC's timer. SDM vol. 3, 11.5.4. While the count runs it is stored as the instant at which
// it reaches 0; nothing is done per tick.
#include "irq/local_apic/local_apic.hpp"

namespace nacre::irq {
namespace {

constexpr unsigned kTimer = 0;  // index in State::lvt

}  // namespace

// Figure 11-10: bits 3, 1, 0 are log2 of the divisor minus 1, modulo 8.
unsigned LocalApic::divisor() const {
  const u32 code = (state_.divide & 3) | (state_.divide >> 1 & 4);
  return 1u << ((code + 1) & 7);
}

TimerMode LocalApic::timer_mode() const {
  return Lvt(state_.lvt[kTimer])[Lvt::timer_mode];
}

u32 LocalApic::current_count() {
  if (timer_mode() == TimerMode::TscDeadline || state_.timer_expiry_ns == time::kNever) return 0;
  const u64 now = ports_.clock.now_ns();
  advance(now);
  if (state_.timer_expiry_ns == time::kNever || state_.timer_expiry_ns <= now) return 0;
  const u64 ticks = (state_.timer_expiry_ns - now + divisor() - 1) / divisor();
  return ticks > state_.initial_count ? state_.initial_count : static_cast<u32>(ticks);
}

void LocalApic::start_timer(u32 count) {
  if (timer_mode() == TimerMode::TscDeadline) return;  // 11.5.4.1: ignored
  state_.initial_count = count;
  const u64 span = u64{count} * divisor();
  state_.timer_expiry_ns = count == 0 ? time::kNever : time::add_saturating(ports_.clock.now_ns(), span);
}

void LocalApic::write_divide(u32 value) {
  const u32 left = current_count();
  state_.divide = value;
  if (state_.timer_expiry_ns == time::kNever) return;
  state_.timer_expiry_ns = time::add_saturating(ports_.clock.now_ns(), u64{left} * divisor());
}

void LocalApic::write_timer_lvt(u32 value) {
  advance(ports_.clock.now_ns());  // what is due is due under the old entry
  const bool was_deadline = timer_mode() == TimerMode::TscDeadline;
  state_.lvt[kTimer] = value;
  // 11.5.4.1: changing to or from TSC-deadline mode disarms the timer.
  if (was_deadline == (timer_mode() == TimerMode::TscDeadline)) return;
  state_.timer_expiry_ns = time::kNever;
  state_.initial_count = 0;
  state_.tsc_deadline = 0;
  deadline_ns_ = time::kNever;
}

void LocalApic::write_tsc_deadline(u64 value) {
  if (timer_mode() != TimerMode::TscDeadline) return;  // 11.5.4.1: ignored
  state_.tsc_deadline = value;
  plan_deadline();
  if (deadline_ns_ != time::kNever) advance(ports_.clock.now_ns());
}

void LocalApic::tsc_changed() {
  if (lent_) return;
  plan_deadline();
}

void LocalApic::plan_deadline() {
  deadline_ns_ = time::kNever;
  if (state_.tsc_deadline == 0) return;
  const u64 now = ports_.clock.now_ns();
  const u64 tsc = ports_.processor.guest_tsc();
  const u64 ticks = state_.tsc_deadline > tsc ? state_.tsc_deadline - tsc : 0;
  const u64 wait = time::scale_up(ticks, 1'000'000, config_.tsc_khz);
  // Never kNever, which would mean disarmed; a deadline centuries away is as good as none.
  deadline_ns_ = time::add_saturating(now, wait);
}

u64 LocalApic::next_deadline() const {
  if (lent_ || mode() == Mode::Disabled) return time::kNever;
  if (timer_mode() == TimerMode::TscDeadline) return deadline_ns_;
  // A masked count needs no attention: it is worked out when somebody looks.
  return Lvt(state_.lvt[kTimer])[Lvt::masked] ? time::kNever : state_.timer_expiry_ns;
}

void LocalApic::advance(u64 now_ns) {
  if (lent_) return;
  if (timer_mode() == TimerMode::TscDeadline) {
    if (deadline_ns_ == time::kNever || now_ns < deadline_ns_) return;
    if (ports_.processor.guest_tsc() < state_.tsc_deadline) {
      plan_deadline();  // the two clocks disagree a little: wait for the rest
      if (now_ns < deadline_ns_) return;
    }
    state_.tsc_deadline = 0;  // 11.5.4.1: firing disarms
    deadline_ns_ = time::kNever;
    raise_local(ApicRegister::LvtTimer);
    return;
  }
  if (state_.timer_expiry_ns > now_ns || state_.timer_expiry_ns == time::kNever) return;
  if (timer_mode() == TimerMode::Periodic) {
    const u64 wanted = u64{state_.initial_count} * divisor();
    const u64 period = wanted < kShortestPeriodNs ? kShortestPeriodNs : wanted;
    const u64 late = now_ns - state_.timer_expiry_ns;
    state_.timer_expiry_ns = time::add_saturating(state_.timer_expiry_ns, (late / period + 1) * period);
  } else {
    state_.timer_expiry_ns = time::kNever;
  }
  raise_local(ApicRegister::LvtTimer);
}

}  // namespace nacre::irq
