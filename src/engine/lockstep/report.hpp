// Says in text how the two sides of a lock-step run differ. Not while vector registers hold the guest's
// values.
#pragma once

#include <span>
#include <string>

#include "cpu/mmu.hpp"
#include "cpu/state.hpp"
#include "engine/lockstep/memory_copy.hpp"
#include "engine/lockstep/platforms.hpp"
#include "x86/instruction.hpp"

namespace nacre::lockstep {

// Where an instruction of the history was.
struct Place {
  u64 rip = 0;
  u16 cs = 0;
};

// The bytes at an address as the processor in `state` sees it, whatever its privilege; how many there are.
usize guest_bytes(const cpu::State& state, const memory::AddressSpace& memory, u64 rip, std::span<u8> to);

// The instruction at an address; false when its bytes are no instruction or not there.
bool guest_instruction(const cpu::State& state, const memory::AddressSpace& memory, u64 rip,
                       x86::Instruction& instruction);

// "  ffffffff81000000  48 89 e5     mov rbp, rsp", a line each.
std::string listing(const cpu::State& state, const memory::AddressSpace& memory,
                    std::span<const Place> places);

std::string memory_lines(std::span<const MemoryCopy::Difference> differences);

// Of a shadow gone astray: what it asked for and what the log had.
std::string question(const Replayer& replayer);

}  // namespace nacre::lockstep
