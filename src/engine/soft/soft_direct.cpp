// User code that runs as itself, in another process: engine/direct. docs/direct-execution.md.
#include "engine/soft/soft_vcpu.hpp"

namespace nacre::soft {

void SoftVcpu::set_up_direct(const engine::EngineContext& engine) {
  if (engine.direct == engine::DirectMode::Off) return;
  cpu::TranslationObserver& observer = *this;
  direct::PageClaims& claims = *this;
  const direct::DirectOptions options = {.ram_file = engine.ram_file,
                                         .vector_components = vector_mask_,
                                         .tsc_hz = engine.tsc_hz,
                                         .native_tsc = engine.native_tsc,
                                         .always = engine.direct == engine::DirectMode::Always};
  direct_.emplace(engine.memory, observer, claims, options);
}

Status SoftVcpu::enter_thread() {
  if (!direct_) return {};
  auto started = direct_->start();
  if (!started) direct_.reset();
  return started;
}

// Runs user code in the stub process. False: the translator must do it.
bool SoftVcpu::run_directly() {
  put_away_vector();
  switch (direct_->run(context_->state, context_->exit_request, context_->inside)) {
    case direct::Outcome::Declined:
      return false;
    case direct::Outcome::Interpret:
      interpreter_.execute_one(context_->state);
      return true;
    case direct::Outcome::Returned:
      return true;
    case direct::Outcome::Foreign:
      interpret_page();
      return true;
    case direct::Outcome::Failed:
      direct_lost_ = true;
      return true;
  }
  return true;
}

bool SoftVcpu::claim_code(GuestPhysical page, const u8* host_page, u8* flags) {
  const Crew::CodeClaim claim = crew_.claim_code(me_, page, flags);
  if (claim.own_tags) protect_writes(host_page);
  return claim.fresh;
}

// A short visit to a page that cannot run natively.
void SoftVcpu::interpret_page() {
  constexpr unsigned kShort = 400;  // instructions
  cpu::State& state = context_->state;
  const u64 page = state.rip >> kPageShift;
  for (unsigned i = 0; i < kShort; i++) {
    interpreter_.execute_one(state);
    if (state.rip >> kPageShift != page || state.cpl() != 3 || requested_now() ||
        state.pending.kind != cpu::Event::Kind::None || !translatable()) {
      return;
    }
  }
  direct_->refuse(state);
}

}  // namespace nacre::soft
