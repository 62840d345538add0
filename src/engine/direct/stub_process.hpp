// StubProcess: the process that guest user code runs in. The thread that makes it is its tracer and the only
// one that may use it, also after it was confined (host/confine.hpp); the stub dies with it. interrupt() also
// from signal handlers of that thread.
//
// Everything that guest code does but computing on memory that is mapped for it (faults, traps, every system
// call) stops the runner, and the kernel tells us: there is nothing in the stub that guest code could lie
// with. docs/adr/0010.
#pragma once

#include <signal.h>
#include <sys/types.h>
#include <sys/user.h>

#include <atomic>
#include <memory>

#include "base/result.hpp"
#include "engine/direct/protocol.hpp"
#include "host/fd.hpp"
#include "host/mapping.hpp"

namespace nacre::direct {

// What Linux gives every 64-bit program, and so what is in the runner's registers.
inline constexpr u16 kUserCs = 0x33, kUserSs = 0x2b;

// Pages of code with some instructions replaced; the stub maps them in the place of the guest's.
inline constexpr u32 kCopies = 512;

class StubProcess {
 public:
  // Error: this host does not let us (ptrace or seccomp denied, …); says what.
  static Result<std::unique_ptr<StubProcess>> create(int ram_file, bool native_tsc);
  ~StubProcess();
  StubProcess(const StubProcess&) = delete;
  StubProcess& operator=(const StubProcess&) = delete;

  // Where the stub's own memory is in its address space: guest code must have nothing mapped there.
  [[nodiscard]] u64 block() const { return block_; }
  [[nodiscard]] pid_t process() const { return process_; }

  // Where carry_out() takes its orders from; kMaxOrders.
  [[nodiscard]] Order* orders() { return reinterpret_cast<Orders*>(memory_.data() + kOrders)->order; }
  [[nodiscard]] u8* copy(u32 number) { return copies_.data() + u64{number} * kPageSize; }

  // Changes the stub's mappings, in order. Refused: the host would not (it has a limit of mappings), and some
  // may have been done. Dead: the process is no more.
  enum class Done : u8 { All, Refused, Dead };
  [[nodiscard]] Done carry_out(u32 count);

  // Lets guest code run until it stops; says by which signal. 0: the stub is dead.
  [[nodiscard]] int go();
  // Makes guest code that runs, or is about to, stop by kInterrupt. Async-signal-safe.
  void interrupt();
  static constexpr int kInterrupt = SIGUSR1;
  // Processor time that the stub has had, in ns; exact while it is stopped.
  [[nodiscard]] u64 processor_time() const;

  // While it is stopped. `xsave`: an area in the standard format, `bytes` long. False: the stub is dead.
  [[nodiscard]] bool registers(user_regs_struct& registers);
  [[nodiscard]] bool set_registers(const user_regs_struct& registers);
  [[nodiscard]] bool vector_state(u8* xsave, usize bytes);
  [[nodiscard]] bool set_vector_state(const u8* xsave, usize bytes);
  [[nodiscard]] bool signal_info(siginfo_t& info);
  // RFLAGS.ID and NT, which set_registers() cannot change, by POPF. The other registers are lost.
  [[nodiscard]] bool pop_flags(u64 flags);

 private:
  StubProcess(host::Mapping memory, host::Mapping copies, host::UniqueFd reports)
      : memory_(std::move(memory)), copies_(std::move(copies)), reports_(std::move(reports)) {}
  void write_program();
  [[nodiscard]] Status start(int block_file, int copy_file, int ram_file, host::UniqueFd report,
                             bool native_tsc);
  [[nodiscard]] int first_stop();
  [[nodiscard]] int wait();
  [[nodiscard]] Done read_report();

  host::Mapping memory_, copies_;
  host::UniqueFd reports_;  // at its end: the stub has died
  u64 block_ = 0;
  pid_t process_ = 0, runner_ = 0;
};

}  // namespace nacre::direct
