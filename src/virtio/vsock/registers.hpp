// The socket device's configuration space and packets. Virtio 1.2, 5.10. Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::virtio::vsock {

inline constexpr u64 kHostCid = 2;

struct [[gnu::packed]] PacketHeader {  // 5.10.6
  u64 source_cid = 0, target_cid = 0;
  u32 source_port = 0, target_port = 0, bytes = 0;
  u16 type = 0, operation = 0;
  u32 flags = 0;
  u32 buffer_bytes = 0, forwarded = 0;  // the sender's credit
};
static_assert(sizeof(PacketHeader) == 44);

struct PacketType {
  static constexpr u16 stream = 1;
};
enum class Operation : u16 {
  Invalid,
  Request,
  Response,
  Reset,
  Shutdown,
  ReadWrite,
  CreditUpdate,
  CreditRequest
};

inline constexpr u32 kMostPayload = 64 * 1024;

}  // namespace nacre::virtio::vsock
