// Seccomp: what system calls a thread may still make once guest code runs.
// docs/adr/0007-system-call-filters.md. A call that is not on the role's list ends the process by SIGSYS,
// after the terminal was put back and with a line that names it. There is no way back.
#pragma once

#include "base/result.hpp"
#include "base/types.hpp"

namespace nacre::host {

enum class ThreadRole : u8 {
  Processor,    // runs guest code: memory, timers, wake-ups, and writing to descriptors that are open
  KvmProcessor, // the same, and what KVM offers for a vCPU; neither new ones nor other memory
  KvmUserProcessor,  // the same where KVM emulates (kvm/user_vcpu.hpp): and memory, for what that makes it forget
  InputOutput,  // the main thread: the same, and reading, waiting, the terminal, ending
  Device,       // processes virtio queues: reading, writing and flushing disk images that are open
  Sockets,      // processes a socket device's queues: accepting, sending, receiving, closing
  Broker,       // not a thread of the machine's process: connects to Unix sockets for it (vsock/broker.hpp)
  Network,      // processes a network device's queues: sockets of the Internet, of which new ones too
  Link,         // the same, with the tap interface or the socket that it has, and no other
  Channel,      // processes a share's queues: reads and writes the channel to its server
  Share,        // not a thread of the machine's process: serves a folder's files (share/process.hpp)
};

// For the calling thread and what it starts. Does nothing under AddressSanitizer and ThreadSanitizer, whose
// runtimes make calls of its own.
Status confine(ThreadRole role);

}  // namespace nacre::host
