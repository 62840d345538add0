// The `soft` engine: guest code translated to host code of the same architecture. docs/soft-engine.md is
// its map. This is the runtime: it finds or makes blocks, enters them, answers their requests, keeps the
// software TLB, and hands the interpreter what translated code does not do. 64-bit code is translated;
// 16- and 32-bit code, single-stepping and hardware breakpoints are interpreted.
//
// Threads: everything on the vCPU's own thread but kick().
#pragma once

#include <memory>

#include "engine/context.hpp"
#include "engine/engine.hpp"

namespace nacre::soft {

// What the processors of a guest share; of this kind must be EngineContext::group.
Result<std::unique_ptr<engine::Group>> make_group(const memory::AddressSpace& memory, unsigned processors);
Result<std::unique_ptr<engine::Vcpu>> make(const engine::EngineContext& context);

}  // namespace nacre::soft
