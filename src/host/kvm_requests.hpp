// Requests to KVM whose numbers <linux/kvm.h> gets wrong in C++: they hold the size of a structure that ends
// in an array of unknown length, behind which that header has an empty structure, which in C++ is not empty.
#pragma once

#include <linux/kvm.h>

#include "base/types.hpp"

namespace nacre::host {

inline constexpr unsigned long kKvmGetSupportedCpuid = _IOWR(KVMIO, 0x05, u64);
inline constexpr unsigned long kKvmGetMsrs = _IOWR(KVMIO, 0x88, u64);
inline constexpr unsigned long kKvmSetMsrs = _IOW(KVMIO, 0x89, u64);
inline constexpr unsigned long kKvmSetSignalMask = _IOW(KVMIO, 0x8b, u32);
inline constexpr unsigned long kKvmSetCpuid2 = _IOW(KVMIO, 0x90, u64);
inline constexpr unsigned long kKvmSetGsiRouting = _IOW(KVMIO, 0x6a, u64);
struct KvmXsave {
  u8 bytes[4096];
};
inline constexpr unsigned long kKvmGetXsave = _IOR(KVMIO, 0xa4, KvmXsave);
inline constexpr unsigned long kKvmSetXsave = _IOW(KVMIO, 0xa5, KvmXsave);

}  // namespace nacre::host
