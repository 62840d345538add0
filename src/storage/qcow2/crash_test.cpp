// "kill -9, or no more power, at any moment": for each point in the log of what an image did to its file, the
// files that a crash there can leave are built; each must be sound (leaks apart) and have all that was
// flushed.
#include <gtest/gtest.h>

#include "storage/raw.hpp"
#include "storage/testing/disk_model.hpp"

namespace nacre::storage::qcow2 {
namespace {

using namespace nacre::storage::testing;

constexpr u64 kSector = 512;

// A guest's operation, placed in the log: the events from `submitted` on may be its doing; `acknowledged`: it
// knew then.
struct Operation {
  Submitted request;
  u32 tag = 0;
  usize submitted = 0, acknowledged = ~usize{0};
  [[nodiscard]] bool covers(u64 sector) const {
    return sector * kSector >= request.offset && sector * kSector < request.offset + request.length;
  }
};

struct History {
  std::list<Operation> operations;
  u64 sectors;

  // The content that a sector may have after a crash behind `point`: tags.
  std::vector<u32> allowed(u64 sector, u32 initial, usize point, usize flushed) const {
    std::vector<u32> tags;
    const auto is_definite = [&](const Operation& op) { return op.acknowledged <= flushed; };
    const auto writes = [](const Operation& op) {
      return op.request.kind == Request::Kind::Write || op.request.kind == Request::Kind::WriteZeroes;
    };
    bool initial_is_gone = false;
    for (const Operation& op : operations) {
      if (op.submitted > point || op.request.kind == Request::Kind::Flush || !op.covers(sector)) continue;
      bool overwritten = false, is_later = false;
      for (const Operation& later : operations) {
        if (&later == &op) is_later = true;
        if (&later != &op && is_later && later.covers(sector) && writes(later) && is_definite(later) &&
            later.submitted >= op.acknowledged)
          overwritten = true;
      }
      initial_is_gone = initial_is_gone || (writes(op) && is_definite(op));
      if (!overwritten) tags.push_back(op.tag);
    }
    if (!initial_is_gone) tags.push_back(initial);
    return tags;
  }
  // What happened to a sector.
  std::string told(u64 sector, usize point) const {
    std::string text;
    for (const Operation& op : operations) {
      if (op.submitted > point || (op.request.kind != Request::Kind::Flush && !op.covers(sector))) continue;
      constexpr const char* kNames[] = {"read", "write", "flush", "discard", "zero"};
      text += std::string("\n") + kNames[static_cast<int>(op.request.kind)] + " " + std::to_string(op.tag) +
              " from sector " + std::to_string(op.request.offset / kSector) + " on, " +
              std::to_string(op.request.length / kSector) + "; events " + std::to_string(op.submitted) +
              " to " + (op.acknowledged == ~usize{0} ? "never" : std::to_string(op.acknowledged));
    }
    return text;
  }
  // When the last flush was submitted that was acknowledged before `point`.
  usize flushed(usize point) const {
    usize last = 0;
    for (const Operation& op : operations) {
      if (op.request.kind == Request::Kind::Flush && op.acknowledged <= point)
        last = std::max(last, op.submitted);
    }
    return last;
  }
};

struct Case {
  const char* name;
  NewImage image;
  bool has_backing;
  u64 cache_bytes;
  u32 rounds;
  bool fills;  // begin with so much data that tables must grow
};

class Crash : public ::testing::TestWithParam<Case> {
 protected:
  static u32 backing_tag(u64 sector) { return 0xb0000000 + static_cast<u32>(sector); }
  std::unique_ptr<Image> backing(u64 bytes) const {
    if (!GetParam().has_backing) return nullptr;
    auto below = std::make_shared<MemoryFile::State>();
    below->content.resize(bytes);
    for (u64 at = 0; at < bytes; at += 4) {
      const u32 tag = backing_tag(at / kSector);
      memcpy(&below->content[at], &tag, 4);
    }
    return std::make_unique<Raw>(std::make_unique<MemoryFile>(below), Access::ReadOnly, Raw::Said::ByUser);
  }

  void work(const State& state, History& history, u32 seed) const {
    std::mt19937 random(seed);
    const auto image = open_qcow2(state, seed, backing(GetParam().image.size),
                                  {Access::ReadWrite, GetParam().cache_bytes, nullptr})
                           .take();
    state->log.before = state->content;
    state->logs = true;
    u32 tag = 0;
    const auto& events = state->log.events;
    const auto look = [&] {
      for (Operation& op : history.operations) {
        if (op.request.is_complete && op.acknowledged == ~usize{0}) op.acknowledged = events.size();
      }
    };
    const auto start = [&](Request::Kind kind, u64 first, u64 sectors) {
      Operation& op = history.operations.emplace_back();
      op.tag = kind == Request::Kind::Write ? ++tag : 0;
      op.request.kind = kind;
      op.request.offset = first * kSector;
      op.request.length = sectors * kSector;
      if (kind == Request::Kind::Write) {
        op.request.bytes.resize(sectors * kSector);
        for (u64 at = 0; at < op.request.bytes.size(); at += 4) memcpy(&op.request.bytes[at], &op.tag, 4);
      }
      op.submitted = events.size();
      op.request.start(*image);
      look();
    };
    const auto wait_for_all = [&] {
      for (Operation& op : history.operations) {
        while (!op.request.is_complete) {
          image->wait();
          look();
        }
        EXPECT_EQ(op.request.error, 0);
      }
    };
    if (GetParam().fills) {
      for (u64 at = 0; at + 512 <= history.sectors; at += 512) {
        start(Request::Kind::Write, at, 512);
        wait_for_all();
      }
    }
    for (u32 round = 0; round < GetParam().rounds; ++round) {
      for (int i = 0; i < 6; ++i) {
        const u32 choice = static_cast<u32>(random() % 16);
        const u64 first = random() % history.sectors;
        const u64 most = std::min<u64>(history.sectors - first, random() % 6 == 0 ? 100 : 6);
        const u64 count = 1 + random() % most;
        if (choice < 9) start(Request::Kind::Write, first, count);
        if (choice >= 9 && choice < 11) start(Request::Kind::Discard, first, count);
        if (choice >= 11 && choice < 13) start(Request::Kind::WriteZeroes, first, count);
        if (choice >= 13) start(Request::Kind::Flush, 0, 0);
        if (random() % 3 == 0) wait_for_all();
      }
      wait_for_all();
    }
    state->logs = false;
    EXPECT_TRUE(image->close().ok());
  }

  void examine(const State& state, const History& history, const std::vector<usize>& safe, usize point,
               u32 seed) const {
    auto left = std::make_shared<MemoryFile::State>();
    left->content = state->log.crashed(safe, point, seed);
    ASSERT_TRUE(is_sound(left, true)) << "after event " << point << ", seed " << seed;
    std::vector<u8> disk(GetParam().image.size);
    {
      const auto image =
          open_qcow2(left, 0, backing(disk.size()), {Access::ReadOnly, 8 * kMiB, nullptr}).take();
      ASSERT_EQ(read_now(*image, 0, disk), 0);
    }
    const usize flushed = history.flushed(point);
    for (u64 sector = 0; sector < history.sectors; ++sector) {
      u32 tag = 0;
      memcpy(&tag, &disk[sector * kSector], 4);
      for (u64 at = 0; at < kSector; at += 4)
        ASSERT_EQ(memcmp(&disk[sector * kSector + at], &tag, 4), 0) << "a torn sector " << sector;
      const auto allowed =
          history.allowed(sector, GetParam().has_backing ? backing_tag(sector) : 0, point, flushed);
      ASSERT_NE(std::find(allowed.begin(), allowed.end(), tag), allowed.end())
          << "sector " << sector << " has " << tag << " after event " << point << ", seed " << seed
          << history.told(sector, point);
    }
    // And it goes on from there.
    if (point % 7 != 0) return;
    ASSERT_TRUE(check_qcow2(left, Repair::Leaks).ok());
    ASSERT_TRUE(is_sound(left));
    const auto image = open_qcow2(left, 1, backing(disk.size())).take();
    for (u64 at = 0; at + 8192 <= disk.size(); at += 40000)
      ASSERT_EQ(write_now(*image, at, std::span(disk).first(8192)), 0);
    ASSERT_TRUE(image->close().ok());
    ASSERT_TRUE(is_sound(left));
  }
};

TEST_P(Crash, anywhere_leaves_a_sound_image_with_all_that_was_flushed) {
  for (u32 seed = 1; seed <= 2; ++seed) {
    const State state = new_qcow2(GetParam().image);
    History history;
    history.sectors = GetParam().image.size / kSector;
    work(state, history, seed);
    const std::vector<usize> safe = state->log.safe_from();
    const auto& events = state->log.events;
    const usize points = events.size();
    const bool table_moved = std::any_of(events.begin(), events.end(), [](const Log::Event& event) {
      return event.what == Log::What::Write && event.offset == Field::refcount_table_offset;
    });
    EXPECT_EQ(table_moved, GetParam().fills);
    const usize step = 1 + points / (GetParam().fills ? 40 : 150);
    for (usize point = seed % step; point <= points; point += step) {
      for (u32 luck = 0; luck < 4; ++luck) {
        examine(state, history, safe, point, luck < 2 ? luck : luck + static_cast<u32>(point));
        if (HasFatalFailure()) return;
      }
    }
    ASSERT_TRUE(is_sound(state));
  }
}

NewImage image_of(u64 size, u32 cluster_bits, u32 refcount_order, u32 version, bool overlay) {
  NewImage image;
  image.size = size;
  image.cluster_bits = cluster_bits;
  image.refcount_order = refcount_order;
  image.version = version;
  if (overlay) image.backing_name = "below";
  return image;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, Crash,
    ::testing::Values(Case{"usual", image_of(256 * kKiB, 16, 4, 3, false), false, 8 * kMiB, 40, false},
                      Case{"overlay", image_of(128 * kKiB, 12, 4, 3, true), true, 8 * kMiB, 40, false},
                      Case{"small_clusters", image_of(128 * kKiB, 9, 4, 3, false), false, 8 * kMiB, 40,
                           false},
                      Case{"small_cache", image_of(192 * kKiB, 9, 5, 3, true), true, 8 * kKiB, 30, false},
                      Case{"version2", image_of(128 * kKiB, 10, 4, 2, true), true, 8 * kMiB, 30, false},
                      Case{"tables_grow", image_of(3 * kMiB, 9, 6, 3, false), false, 64 * kKiB, 10, true}),
    [](const auto& about) { return about.param.name; });

}  // namespace
}  // namespace nacre::storage::qcow2
