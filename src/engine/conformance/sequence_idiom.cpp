// Idioms of a Sequence: several instructions that only make sense together.
#include <initializer_list>

#include "engine/conformance/sequence.hpp"
#include "x86/registers.hpp"

namespace nacre::conformance {

// What single random instructions do not make: jumps and calls through registers and memory, returns, stack
// frames, strings, bit strings, a push of what it overwrites, code that changes itself.
bool Sequence::make_idiom(Random& random, Piece& piece) const {
  piece.idiom = true;
  usize at = 0;
  const auto put = [&](std::initializer_list<u8> bytes) {
    for (const u8 byte : bytes) piece.bytes[at++] = byte;
  };
  const auto put_number = [&](u64 value, unsigned bytes) {
    for (unsigned n = 0; n < bytes; ++n) piece.bytes[at++] = static_cast<u8>(value >> (8 * n));
  };
  const auto put_target = [&] {
    piece.target_at = static_cast<u8>(at);
    at += 4;
  };
  // A memory operand off one of the pointers: ModRM with a REX prefix before the opcode.
  const bool high = random.percent(50);
  const u8 base = random.percent(60) ? 3 : 6;
  const u8 displacement = static_cast<u8>(random.below(192) - 96);
  const auto put_memory = [&](u8 rex, std::initializer_list<u8> opcode, u8 reg) {
    put({static_cast<u8>(rex | (high ? 1 : 0) | ((reg & 8) != 0 ? 4 : 0))});
    put(opcode);
    put({static_cast<u8>(0x40 | (reg & 7) << 3 | base), displacement});
  };
  const bool call = random.percent(50);
  const u8 call_or_jump = call ? 2 : 4;
  constexpr u8 kWide = 0x48, kNarrow = 0x40;
  switch (random.below(18)) {
    case 0:  // push target; ret
      put({0x68}), put_target(), put({0xc3});
      break;
    case 1:  // push target; ret 8
      put({0x68}), put_target(), put({0xc2, 8, 0});
      break;
    case 2:  // mov eax, target; jmp or call rax
      put({0xb8}), put_target(), put({0xff, static_cast<u8>(0xc0 | call_or_jump << 3)});
      break;
    case 3:  // mov r13d, target; jmp or call r13
      put({0x41, 0xbd}), put_target(), put({0x41, 0xff, static_cast<u8>(0xc5 | call_or_jump << 3)});
      break;
    case 4:  // mov qword [memory], target; jmp or call [memory]
      put_memory(kWide, {0xc7}, 0), put_target(), put_memory(kNarrow, {0xff}, call_or_jump);
      break;
    case 5:  // mov qword [rsp - 8], target; call [rsp - 8]
      put({0x48, 0xc7, 0x44, 0x24, 0xf8}), put_target(), put({0xff, 0x54, 0x24, 0xf8});
      break;
    case 6:  // push qword [rsp + about nothing]
      put({0xff, 0x74, 0x24, static_cast<u8>(random.below(24) - 15)});
      break;
    case 7:  // push qword [memory]
      put_memory(kNarrow, {0xff}, 6);
      break;
    case 8:  // push rax; pop qword [memory]
      put({0x50}), put_memory(kNarrow, {0x8f}, 0);
      break;
    case 9:  // push rsp; pop rsp
      put({0x54, 0x5c});
      break;
    case 10:  // push rbp; mov rbp, rsp; leave
      put({0x55, 0x48, 0x89, 0xe5, 0xc9});
      break;
    case 11:  // enter 16, 0; leave
      put({0xc8, 16, 0, 0, 0xc9});
      break;
    case 12:  // pushfq; popfq, or pop rax
      put({0x9c, static_cast<u8>(random.percent(50) ? 0x9d : 0x58)});
      break;
    case 13: {  // mov eax or r13d, bit; bt, bts, btr or btc [memory], rax or r13
      constexpr u8 kOpcodes[] = {0xa3, 0xab, 0xb3, 0xbb};
      const u8 opcode = kOpcodes[random.below(4)];
      const bool homeless = random.percent(40);
      if (homeless) put({0x41});
      put({static_cast<u8>(homeless ? 0xbd : 0xb8)}), put_number(random.below(800) - 400, 4);
      if (opcode != 0xa3 && random.percent(30)) put({0xf0});
      put_memory(random.percent(50) ? kWide : kNarrow, {0x0f, opcode}, homeless ? 13 : 0);
      piece.undefined = x86::Rflags::arithmetic & ~u32{x86::Rflags::CF};
      break;
    }
    case 14: {  // sub rsp, n; push rax; add rsp, n + 8
      const u8 bytes = static_cast<u8>(8 * random.below(12));
      put({0x48, 0x83, 0xec, bytes, 0x50, 0x48, 0x83, 0xc4, static_cast<u8>(bytes + 8)});
      break;
    }
    case 15: {                   // a string instruction, with RCX, RSI and RDI put aside
      if (loops_) return false;  // it may overwrite RCX where that was pushed
      constexpr u8 kOpcodes[][2] = {{0xf3, 0xa4}, {0xf3, 0xaa}, {0xf3, 0xac}, {0xf2, 0xae}, {0xf3, 0xa6}};
      const auto& opcode = kOpcodes[random.below(5)];
      put({0x51, 0x56, 0x57, 0xb9}), put_number(random.below(40), 4);
      // To the middle of a page, or about where it comes from, which is near an edge. Bytes or words of eight.
      put({0x48, 0x8d, static_cast<u8>(random.percent(50) ? 0x7b : 0x7e), displacement});
      if (random.percent(80)) put({opcode[0]});
      const bool wide = random.percent(40);
      if (wide) put({0x48});
      put({static_cast<u8>(opcode[1] | (wide ? 1 : 0)), 0x5f, 0x5e, 0x59});
      break;
    }
    case 16:  // rdtsc; xor eax, eax; xor edx, edx
      put({0x0f, 0x31, 0x31, 0xc0, 0x31, 0xd2});
      piece.undefined = x86::Rflags::AF;
      break;
    default:  // mov r12, alias; mov byte [r12], n; mov eax, …
      if (ring_ != Ring::Supervisor) return false;
      put({0x49, 0xbc});
      piece.alias_at = static_cast<u8>(at);
      at += 8;
      put({0x41, 0xc6, 0x04, 0x24, random.byte(), 0xb8, 1, 2, 3, 4});
  }
  piece.length = static_cast<u8>(at);
  return decode(piece.bytes, at, x86::CodeSize::Bits64, piece.instruction) == x86::DecodeStatus::Ok;
}

}  // namespace nacre::conformance
