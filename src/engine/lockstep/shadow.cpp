#include "engine/lockstep/shadow.hpp"

namespace nacre::lockstep {

Result<std::unique_ptr<Shadow>> Shadow::create(const engine::EngineContext& context, Log& log) {
  auto copy = TRY(MemoryCopy::create(context.memory));
  auto vector = TRY(engine::HostedVectorUnit::create());
  std::unique_ptr<Shadow> shadow(new Shadow(context, std::move(copy), std::move(vector), log));
  if (auto status = shadow->copy_.map_to(shadow->memory_); !status) return status.error();
  return shadow;
}

Shadow::Shadow(const engine::EngineContext& context, MemoryCopy copy, std::unique_ptr<engine::HostedVectorUnit> vector, Log& log)
    : copy_(std::move(copy)),
      vector_(std::move(vector)),
      replayer_(log, memory_),
      interpreter_(new interp::Interpreter(memory_, replayer_, context.model, vector_->unit(), this)),
      is_written_(copy_.pages()) {
  interpreter_->set_listener(this);
}

bool Shadow::can_step() const {
  return state.activity == cpu::Activity::Running || state.nmi_pending != 0 || replayer_.interrupt_next();
}

void Shadow::step() {
  delivered_ = {};
  const bool due = state.pending.kind != cpu::Event::Kind::None ||
                   (state.nmi_pending != 0 && !state.nmi_blocked && !state.interrupt_shadow);
  if (due || replayer_.interrupt_next()) {
    interpreter_->step(state);
  } else {
    interpreter_->execute_one(state);
  }
}

void Shadow::code_written(GuestPhysical address, usize bytes) {
  const u8* host = memory_.host(address, false);
  if (host == nullptr) return;
  for (usize page = copy_.page_at(host); page <= copy_.page_at(host + bytes - 1); ++page) {
    if (is_written_[page]) continue;
    is_written_[page] = true;
    written_.push_back(page);
  }
}

void Shadow::table_marked(GuestPhysical entry) {
  const u8* host = memory_.host(entry, false);
  if (host != nullptr) copy_.mark_table(copy_.page_at(host));
}

bool Shadow::pages_equal(const Allowed& allowed, Found& found, std::vector<Difference>* differences) const {
  bool equal = true;
  for (const usize page : written_) {
    if (copy_.equal(page, allowed, found, differences)) continue;
    equal = false;
    if (differences == nullptr) break;
  }
  return equal;
}

void Shadow::adopt_pages() {
  for (const usize page : written_) copy_.take_over(page);
}

void Shadow::forget_written() {
  for (const usize page : written_) {
    is_written_[page] = false;
    copy_.touch(page);
  }
  written_.clear();
}

}  // namespace nacre::lockstep
