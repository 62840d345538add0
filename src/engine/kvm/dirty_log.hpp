// DirtyLog: which pages of RAM a VM's processors have written to, brought into memory::PageFlag::dirty. By rings where KVM has
// them (Linux, Documentation/virt/kvm/api.rst: KVM_CAP_DIRTY_LOG_RING): what is collected costs by what was written, not by how
// much RAM there is. Else by KVM's bitmap of each slot. Any thread.
#pragma once

#include <linux/kvm.h>

#include <mutex>
#include <vector>

#include "engine/kvm/system.hpp"
#include "host/mapping.hpp"

namespace nacre::kvm {

class DirtyLog {
 public:
  // Before `vm` has a processor. NACRE_KVM_DIRTY=bitmap: no rings.
  DirtyLog(const System& system, int vm);

  [[nodiscard]] bool has_rings() const { return ring_bytes_ != 0; }
  // A processor of the VM.
  Status add_processor(int vcpu);
  // A memory slot of RAM, with a byte of flags for each page.
  void add_slot(const kvm_userspace_memory_region& region, u8* page_flags) { slots_.push_back({region, page_flags}); }

  // Whether writes are noted. Before guest code runs: memory slots do not change later.
  Status log_writes(bool wanted);
  // Marks what has been written to since the last call. What a processor that is in run() has just written may come next time.
  Status collect();

 private:
  struct Slot {
    kvm_userspace_memory_region region;
    u8* page_flags;
  };
  struct Ring {
    host::Mapping entries;
    usize next = 0;
  };
  Status collect_bitmaps();
  void collect_ring(Ring& ring);
  void mark(u32 slot, u64 page);

  const int vm_;
  usize ring_bytes_ = 0;  // of each; 0: bitmaps
  std::vector<Slot> slots_;
  std::mutex collecting_;
  std::vector<Ring> rings_;
};

}  // namespace nacre::kvm
