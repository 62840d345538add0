// A local APIC whose contents somebody else has for the time being.
#include "irq/local_apic/local_apic.hpp"

namespace nacre::irq {

LocalApic::Loan LocalApic::lend() {
  settle_pv_eoi();
  Loan loan;
  loan.current_count = current_count();
  loan.state = state_;
  loan.state.timer_expiry_ns = time::kNever;
  lent_ = true;
  deadline_ns_ = time::kNever;
  ready_ = false;  // a wire that is up is to be heard of again
  follow_wire();
  return loan;
}

Status LocalApic::take_back(const Loan& loan) {
  State state = loan.state;
  state.lint_level = state_.lint_level;  // it stayed here
  state.timer_expiry_ns = time::kNever;
  const bool was_lent = lent_;
  lent_ = false;
  if (auto status = load(state); !status) {
    lent_ = was_lent;
    return status;
  }
  if (loan.current_count != 0 && timer_mode() != TimerMode::TscDeadline) {
    state_.timer_expiry_ns =
        time::add_saturating(ports_.clock.now_ns(), u64{loan.current_count} * divisor());
  }
  return {};
}

void LocalApic::follow_wire() {
  const bool asserted = (state_.lint_level & 1) != 0;
  const bool rises = asserted && !ready_;
  ready_ = asserted;
  if (rises) ports_.processor.interrupt_ready();
}

int LocalApic::acknowledge_wire() {
  if (!ready_) return -1;
  const int vector = ports_.extint.acknowledge();
  follow_wire();
  return vector;
}

}  // namespace nacre::irq
