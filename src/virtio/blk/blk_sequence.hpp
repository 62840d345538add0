// A disk in memory that answers at once or later, and any sequence of accesses against the block device;
// shared by fuzz target and random test.
#pragma once

#include <utility>

#include "virtio/blk/device.hpp"
#include "virtio/testing.hpp"

namespace nacre::virtio::blk {

struct MemoryDisk final : Disk {
  std::vector<u8> bytes = std::vector<u8>(64 * kKiB);
  Blk* device = nullptr;
  bool answers_at_once = true;
  bool fails = false;
  bool holds = false;  // dispatch() completes nothing
  std::vector<DiskRequest*> waiting;
  std::vector<DiskRequest::Kind> log;

  bool submit(DiskRequest& request) override {
    log.push_back(request.kind);
    if (!answers_at_once) {
      waiting.push_back(&request);
      return false;
    }
    carry_out(request);
    return true;
  }
  void dispatch() override {
    if (holds) return;
    // Last come, first served: nothing may rely on an order.
    for (auto list = std::exchange(waiting, {}); !list.empty(); list.pop_back()) {
      carry_out(*list.back());
      device->completed(*list.back());
    }
  }
  void carry_out(DiskRequest& request) {
    request.failed = fails;
    if (fails || request.kind == DiskRequest::Kind::Flush) return;
    NACRE_CHECK(request.offset <= bytes.size() && request.bytes <= bytes.size() - request.offset);
    u8* at = bytes.data() + request.offset;
    u64 total = 0;
    for (unsigned i = 0; i < request.segment_count; ++i) {
      const Segment& segment = request.segments[i];
      if (request.kind == DiskRequest::Kind::Read) std::memcpy(segment.host, at + total, segment.bytes);
      if (request.kind == DiskRequest::Kind::Write) std::memcpy(at + total, segment.host, segment.bytes);
      total += segment.bytes;
    }
    const bool transfer = request.kind == DiskRequest::Kind::Read || request.kind == DiskRequest::Kind::Write;
    NACRE_CHECK(!transfer || total == request.bytes);
    if (!transfer) std::memset(at, 0, request.bytes);
  }
};

inline void blk_sequence(nacre::testing::ByteSource bytes) {
  MemoryDisk disk;
  disk.answers_at_once = bytes.take<u8>() % 2 == 0;
  const BlkOptions options = {
      .bytes = disk.bytes.size(), .read_only = bytes.take<u8>() % 8 == 0, .queues = 2};
  testing::virtio_sequence(
      bytes,
      [&](testing::Guest& guest) {
        auto blk = std::make_unique<Blk>(guest.space, guest.ports(), disk, options);
        disk.device = blk.get();
        return blk;
      },
      [&](Blk& blk, testing::Driver& driver, nacre::testing::ByteSource& more) {
        // A request that is nearly right, so that the device gets beyond its header.
        disk.holds = more.take<u8>() % 4 == 0;
        disk.fails = more.take<u8>() % 16 == 0;
        constexpr u32 types[] = {0, 0, 1, 1, 4, 8, 11, 13, 14};
        const unsigned queue = more.take<u8>() % 2;
        if (driver.place(queue).size == 0 || driver.room(queue) < 3) return;
        testing::Guest& guest = driver.guest();
        guest.store<u32>(0x3000, more.pick(types));
        guest.store<u64>(0x3008, more.take<u8>());
        guest.store<u64>(0x3010, more.take<u8>());
        guest.store<u32>(0x3018, more.take<u8>());
        guest.store<u32>(0x301c, more.take<u8>() % 4);
        const u32 data = more.take<u8>() % 4 * 512 + (more.take<u8>() % 8 == 0 ? 1 : 0);
        driver.add(queue, {{0x3000, more.take<u8>() % 2 == 0 ? 16u : 32u}, {0x4000, data + 1}},
                   {{0x5000, data + 1}});
        blk.ring(queue);
        blk.run();
      });
  disk.holds = false;
}

}  // namespace nacre::virtio::blk
