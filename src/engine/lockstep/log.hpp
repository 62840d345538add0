// The log of a step: what the running engine asked of the world outside its processor, with the answers, in
// order; and what the board wrote to guest memory meanwhile, behind the call that caused it. Fixed size: it
// is appended to while vector registers hold the guest's values. Owned by the vCPU's thread.
#pragma once

#include "base/types.hpp"

namespace nacre::lockstep {

struct Entry {
  enum class Kind : u8 {
    MmioRead,
    MmioWrite,
    PortRead,
    PortWrite,
    MsrRead,
    MsrWrite,
    Hypercall,
    TaskPriority,
    SetTaskPriority,
    Tsc,
    Random,
    Acknowledge,
    RamWrite,  // up to 8 bytes
  };
  Kind kind{};
  u8 size = 0;     // bytes
  bool ok = true;  // MSRs
  u64 where = 0;   // port, address, MSR, number of a hypercall
  u64 value = 0;

  bool operator==(const Entry&) const = default;
};

const char* name_of(Entry::Kind kind);

class Log {
 public:
  static constexpr usize kCapacity = 16384;
  // A step should end when it is this full: one repeated string instruction on a device can add 4096 more.
  static constexpr usize kNearlyFull = 8192;

  // The entry, for its answer to be put in: good until the log is emptied.
  Entry& append(const Entry& entry) {
    if (size_ == kCapacity) {
      overflowed_ = true;
      return entries_[kCapacity - 1];
    }
    return entries_[size_++] = entry;
  }
  // The next entry to be answered from; null when all are used up.
  [[nodiscard]] const Entry* front() const { return next_ == size_ ? nullptr : &entries_[next_]; }
  void pop() {
    if (++next_ == size_) next_ = size_ = 0;
  }
  [[nodiscard]] bool empty() const { return next_ == size_; }
  [[nodiscard]] usize size() const { return size_; }
  [[nodiscard]] bool overflowed() const { return overflowed_; }

 private:
  Entry entries_[kCapacity];
  usize size_ = 0, next_ = 0;
  bool overflowed_ = false;
};

}  // namespace nacre::lockstep
