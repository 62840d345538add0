// StubProcess: the process that guest user code runs in, and the block of memory through which its vCPU talks
// to it. Made and used on the vCPU's thread (the stub dies with it); interrupt() also from signal handlers of
// that thread.
#pragma once

#include <sys/types.h>
#include <ucontext.h>

#include <atomic>
#include <memory>

#include "base/result.hpp"
#include "engine/direct/protocol.hpp"
#include "host/mapping.hpp"

namespace nacre::direct {

class StubProcess {
 public:
  // Error: this host does not let us (no user FSGSBASE, seccomp denied, …); says what.
  static Result<std::unique_ptr<StubProcess>> create(int ram_file);
  ~StubProcess();
  StubProcess(const StubProcess&) = delete;
  StubProcess& operator=(const StubProcess&) = delete;

  // Where the stub's own memory is in its address space: guest code must have nothing mapped there.
  [[nodiscard]] u64 block() const { return block_; }

  [[nodiscard]] Mailbox& mailbox() { return *reinterpret_cast<Mailbox*>(memory_.data() + kMailbox); }

  // The guest's registers as the stub's last signal found them, in shared memory; null when the stub says nonsense.
  struct Frame {
    greg_t* registers = nullptr;  // by REG_*
    u8* xsave = nullptr;          // at least `xsave_bytes` long
  };
  [[nodiscard]] Frame frame(usize xsave_bytes);

  // Hands the stub its turn and waits until it answers. False: it has died, or does not answer to interrupt().
  [[nodiscard]] bool exchange();
  // Makes guest code that runs, or is about to, come back. Async-signal-safe.
  void interrupt();

 private:
  explicit StubProcess(host::Mapping memory) : memory_(std::move(memory)) {}
  [[nodiscard]] bool start(int block_file, int ram_file);
  [[nodiscard]] bool wait();
  [[nodiscard]] bool alive();

  host::Mapping memory_;
  u64 block_ = 0;
  std::atomic<pid_t> process_{0};
  std::atomic<u64> interrupted_{0};  // since the last exchange began
};

}  // namespace nacre::direct
