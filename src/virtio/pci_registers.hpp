// virtio over PCI: the capabilities that say where things are, and the common configuration. Virtio 1.2, 4.1.
// Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::virtio {

inline constexpr u16 kPciVendor = 0x1af4;
inline constexpr u16 kPciDeviceBase = 0x1040;  // + the device's id. 4.1.2

// Where the parts lie in BAR 0. A page each, so that a guest can map them apart.
struct BarLayout {
  static constexpr u32 common = 0x0000, isr = 0x1000, device = 0x2000, doorbells = 0x3000, table = 0x4000,
                       pending = 0x5000, bytes = 0x8000;
  static constexpr u32 page = 0x1000, doorbell_stride = 4;
};

enum class CapabilityType : u8 { Common = 1, Notify = 2, Isr = 3, Device = 4, PciConfig = 5 };

struct Capability {  // 4.1.4: offsets in struct virtio_pci_cap, and its length
  static constexpr u16 length_of = 2, type = 3, bar = 4, offset = 8, length = 12, multiplier = 16, data = 16;
  static constexpr u8 bytes = 16, notify_bytes = 20, config_bytes = 20;
};

struct CommonOffset {  // 4.1.4.3
  static constexpr u64 device_feature_select = 0x00, device_feature = 0x04, driver_feature_select = 0x08,
                       driver_feature = 0x0c, config_vector = 0x10, queue_count = 0x12, status = 0x14,
                       generation = 0x15, queue_select = 0x16, queue_size = 0x18, queue_vector = 0x1a,
                       queue_enable = 0x1c, queue_notify_offset = 0x1e, queue_descriptors = 0x20,
                       queue_driver = 0x28, queue_device = 0x30, queue_notify_data = 0x38, queue_reset = 0x3a;
};

struct DeviceStatus {  // 2.1
  static constexpr u8 acknowledge = 1, driver = 2, driver_ok = 4, features_ok = 8, needs_reset = 64,
                      failed = 128;
};

struct Isr {  // 4.1.4.5
  static constexpr u8 queue = 1, config = 2;
};

}  // namespace nacre::virtio
