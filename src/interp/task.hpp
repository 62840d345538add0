// Hardware task switches. SDM vol. 3, 7.2 and 7.3. Not in long mode, where there are none.
// Freestanding; owned by the vCPU's thread.
#pragma once

#include "interp/segments.hpp"

namespace nacre::interp {

enum class TaskCause : u8 { Jump, Call, Event, Return };  // Event: an interrupt or exception through a task gate

struct TaskSwitch {
  TaskCause cause = TaskCause::Jump;
  u16 selector = 0;       // of the TSS
  u64 return_rip = 0;     // where the old task goes on
  u64 flags = 0;          // what of RFLAGS it keeps
  bool external = false;  // EXT of error codes
};

// False before anything has changed: a fault of the old task. False after that: a fault of the new one, whose state
// is current, RIP included; it may have no usable segments. True: the new task is current, at core.next_rip.
bool switch_task(Core& core, const TaskSwitch& how);
// The same by a gate, which is at `slot` and whose privilege has been looked at.
bool switch_by_gate(Core& core, const cpu::Descriptor& gate, TaskSwitch how);
// IRET with NT set: to the task that the current one's back link names.
bool return_from_task(Core& core, u64 return_rip);
// After an event's switch: the error code goes onto the new task's stack.
bool push_error_code(Core& core, u32 error_code);

}  // namespace nacre::interp
