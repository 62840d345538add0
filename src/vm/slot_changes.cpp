#include "vm/slot_changes.hpp"

namespace nacre::vm {

void SlotChanges::slot_changed(unsigned number) {
  changed_.fetch_or(u32{1} << number);
  environment_.call_input_output();
}

}  // namespace nacre::vm
