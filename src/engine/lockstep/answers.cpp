#include "engine/lockstep/answers.hpp"

namespace nacre::lockstep {

void Answers::prepare() {
  by_the_processor_ = false;
  while (const Entry* entry = log_.front()) {
    switch (entry->kind) {
      case Entry::Kind::TaskPriority:
        task_priority_ = static_cast<u8>(entry->value);
        break;
      case Entry::Kind::Tsc:
        tsc_ = entry->value;
        by_the_processor_ = true;
        break;
      case Entry::Kind::Random:
      case Entry::Kind::Hypercall:
        by_the_processor_ = true;
        break;
      case Entry::Kind::SetTaskPriority:
      case Entry::Kind::Acknowledge:
        break;
      default:
        own_.append(*entry);
    }
    log_.pop();
  }
  replayer_.apply_ram_writes();
}

void Answers::forget() {
  prepare();
  while (own_.front() != nullptr) {
    replayer_.apply_ram_writes();
    if (own_.front() != nullptr) own_.pop();
  }
}

}  // namespace nacre::lockstep
