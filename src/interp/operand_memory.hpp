// OperandMemory: the memory operand of one instruction as the vector unit sees it. Freestanding; owned
// by the vCPU's thread.
#pragma once

#include "interp/core.hpp"
#include "interp/vector_unit.hpp"

namespace nacre::interp {

class OperandMemory final : public VectorMemory {
 public:
  OperandMemory(Core& core, SegmentIndex segment, unsigned address_size)
      : core_(core), segment_(segment), mask_(low_bytes_mask(address_size)) {}

  bool read(u64 offset, void* to, unsigned bytes) override {
    u64 linear = 0;
    return address(offset, bytes, AccessType::Read, linear) &&
           core_.read_linear_bytes(linear, static_cast<u8*>(to), bytes, core_.privilege);
  }
  bool write(u64 offset, const void* from, unsigned bytes) override {
    u64 linear = 0;
    return address(offset, bytes, AccessType::Write, linear) &&
           core_.write_linear_bytes(linear, static_cast<const u8*>(from), bytes, core_.privilege);
  }
  bool probe_write(u64 offset, unsigned bytes) override {
    u64 linear = 0;
    return address(offset, bytes, AccessType::Write, linear) &&
           core_.probe_write(linear, bytes, core_.privilege);
  }

 private:
  bool address(u64 offset, unsigned bytes, AccessType type, u64& linear) {
    return core_.linear_address(segment_, offset & mask_, bytes, type, linear);
  }

  Core& core_;
  SegmentIndex segment_;
  u64 mask_;
};

}  // namespace nacre::interp
