// What the stub process and its vCPU share: one block of memory that both map. The stub has it at a secret
// address with its program in front; the vCPU has it wherever. Everything here is written by a process that
// runs hostile code: the vCPU copies a value once, checks it, and trusts nothing. docs/adr/0004.
#pragma once

#include <cstdint>

namespace nacre::direct {

// Offsets in the block. The program is flat and position-independent; it starts with its first instruction.
inline constexpr std::uint64_t kProgramBytes = 0x4000;
inline constexpr std::uint64_t kMailbox = 0x4000;
inline constexpr std::uint64_t kMailboxBytes = 0x8000;
inline constexpr std::uint64_t kStack = 0xc000;  // where signal frames are, so that both can reach them
inline constexpr std::uint64_t kStackBytes = 0x14000;
inline constexpr std::uint64_t kBlockBytes = 0x20000;
static_assert(kMailbox == kProgramBytes && kStack == kMailbox + kMailboxBytes && kBlockBytes == kStack + kStackBytes);

inline constexpr int kRamFile = 3;  // the stub's only descriptor

// One change of the stub's mappings. Protection 0: unmap.
struct Order {
  std::uint64_t address, bytes, offset;
  std::uint32_t protection, unused;
};
inline constexpr std::uint32_t kMaxOrders = 512;

struct Turn {
  static constexpr std::uint32_t vcpu = 0, stub = 1;
};

struct Mailbox {
  std::uint32_t turn;  // a futex: whose turn it is

  // From the vCPU.
  std::uint32_t orders;
  std::uint32_t go;          // run guest code when the orders are done
  std::uint32_t id_flag;     // RFLAGS.ID for guest code
  // To and from the stub.
  std::uint64_t fs_base, gs_base;
  // From the stub.
  std::uint64_t frame;       // offset of the ucontext in the block
  std::uint64_t address;     // si_addr, or si_call_addr
  std::int32_t signal, code;
  std::uint32_t failed;      // an order could not be done: its number + 1
  std::uint16_t selector[4]; // DS, ES, FS, GS

  Order order[kMaxOrders];
};
static_assert(sizeof(Mailbox) <= kMailboxBytes);

}  // namespace nacre::direct
