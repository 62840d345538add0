// The block of memory that the stub process and its vCPU share; the stub can only read it. docs/adr/0010.
#pragma once

#include <cstdint>

namespace nacre::direct {

// Offsets in the block; stub.S knows them too.
inline constexpr std::uint64_t kProgram = 0;           // execute and read
inline constexpr std::uint64_t kRunnerFilter = 0x800;  // sock_fprog, with its program behind it
inline constexpr std::uint64_t kMapperFilter = 0x900;
inline constexpr std::uint64_t kProgramBytes = 0x1000;
inline constexpr std::uint64_t kOrders = 0x1000;  // read
inline constexpr std::uint64_t kOrdersBytes = 0x3000;
inline constexpr std::uint64_t kBirth = 0x4000;  // written once: the runner's thread number. Then unmapped
inline constexpr std::uint64_t kBirthBytes = 0x1000;
inline constexpr std::uint64_t kBlockBytes = 0x5000;
static_assert(kOrders == kProgramBytes && kBirth == kOrders + kOrdersBytes &&
              kBlockBytes == kBirth + kBirthBytes);

// The stub's descriptors.
inline constexpr int kRamFile = 3;   // guest RAM
inline constexpr int kCopyFile = 4;  // copies of pages, with instructions replaced that must trap
inline constexpr int kReport = 5;    // a pipe: a Report from the mapper for every set of orders

// One change of the stub's mappings. Protection 0: unmap.
struct Order {
  std::uint64_t address, bytes, offset;
  std::uint32_t protection, file;
};
static_assert(sizeof(Order) == 32);
inline constexpr std::uint32_t kMaxOrders = 256;

struct Orders {
  std::uint32_t sequence;  // a futex: grows when there is something to do
  std::uint32_t count;
  std::uint64_t unused[3];
  Order order[kMaxOrders];
};
static_assert(sizeof(Orders) <= kOrdersBytes);

enum class Report : char { done = 'd', refused = 'r' };

}  // namespace nacre::direct
