// The `soft` engine: guest code translated to host code of the same architecture. docs/soft-engine.md is
// its map. This is the runtime: it finds or makes blocks, enters them, answers their requests, keeps the
// software TLB, and hands the interpreter what translated code does not do. 64-bit code is translated;
// 16- and 32-bit code, single-stepping and hardware breakpoints are interpreted.
//
// Threads: everything on the vCPU's own thread but kick().
#pragma once

#include <memory>
#include <string_view>

#include "engine/context.hpp"
#include "engine/engine.hpp"

namespace nacre::soft {

// What the processors of a guest share; of this kind must be EngineContext::group.
Result<std::unique_ptr<engine::Group>> make_group(const memory::AddressSpace& memory, unsigned processors);
Result<std::unique_ptr<engine::Vcpu>> make(const engine::EngineContext& context);

// A vCPU that stops after a number of blocks, to be compared with another engine (engine/lockstep). Its code differs
// from the usual in that each block counts at its entry, and that an instruction which takes all of RFLAGS at once
// (PUSHF, LAHF, SYSCALL) begins a block and is done only if it is the first: so that nobody stores flags which the
// manual leaves undefined before they have been compared. run() returns Kicked when the fuel is used up. All but
// kick() on the owning thread, run() not executing unless said otherwise.
class CountedVcpu : public engine::Vcpu {
 public:
  // Blocks, and instructions and events left to the interpreter by the dispatcher, that run() may still do. May be
  // called from within Platform and Tracer calls too.
  // At most kMostFuel (context.hpp).
  virtual void set_fuel(u64 fuel) = 0;
  [[nodiscard]] virtual u64 fuel() const = 0;
  // RIP where the block, or the interpreted instruction, began that left so much fuel.
  [[nodiscard]] virtual u64 entered(u64 fuel_left) const = 0;
  // The next run() is also stopped, as by a kick, some host instructions after it has entered a block. 0: never.
  virtual void stop_after(u32 host_instructions) = 0;
  // The arithmetic flags that somebody may read before they are overwritten. Dead ones are not exact.
  virtual u64 live_flags() = 0;
  // Tells `observer` of table_marked() alone. Before the first run().
  virtual void observe_tables(cpu::TranslationObserver& observer) = 0;
};

// `mistranslate`: a mnemonic that is translated wrongly (RAX comes out one too high), so that somebody can see
// whether the comparison finds it. Empty: none. The text must outlive the vCPU.
Result<std::unique_ptr<CountedVcpu>> make_counted(const engine::EngineContext& context, std::string_view mistranslate);

}  // namespace nacre::soft
