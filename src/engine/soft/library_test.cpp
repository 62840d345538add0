// A copy is what the translator would have made at that place: the same bytes.
#include "engine/soft/library.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "engine/soft/block_store.hpp"
#include "engine/soft/stubs.hpp"

namespace nacre::soft {
namespace {

HelperResult fill(Context*, u64, u64) {
  return HelperResult::Leave;
}
HelperResult interpret(Context*, u64) {
  return HelperResult::Leave;
}

// A vCPU's code cache with its translator, and a buffer for one block.
struct Bench {
  CodeCache code = CodeCache::create().take();
  Stubs stubs;
  Entries entries;
  Translator translator{stubs, {}};
  Translation translation;
  std::vector<Fixup> fixups;
  bool tied = false;
  Bench() {
    Emitter emitter(code.writable(0), code.executable(0), 8 * kPageSize);
    entries = emit_stubs(emitter, stubs, &fill, &fill, &fill, &interpret);
  }
  Place place(usize offset) { return {code.writable(offset), offset, code.executable(offset)}; }
  TranslationInput input(const u8* page, u64 linear, u32 mode, u32 first) {
    TranslationInput made;
    made.bytes = page + (linear & (kPageSize - 1));
    made.available = kPageSize - (linear & (kPageSize - 1));
    made.linear = linear;
    made.mode = mode;
    made.first_exit = 3 * first;
    made.first_cell = first;
    made.first_cell_address = reinterpret_cast<u64>(code.cells() + first);
    return made;
  }
  std::vector<u8> translate(const TranslationInput& in, usize offset) {
    fixups.clear();
    Emitter emitter(code.writable(offset), code.executable(offset), 48 * kKiB, &fixups);
    EXPECT_TRUE(translator.translate(in, emitter));
    translation = translator.translation();
    tied = emitter.tied();
    return {code.writable(offset), code.writable(offset) + translation.bytes};
  }
};

constexpr u32 kUser = static_cast<u32>(View::User) | Mode::x87 | Mode::sse | Mode::avx | Mode::avx512;
constexpr u32 kKernel = static_cast<u32>(View::Kernel) | Mode::x87 | Mode::sse;
constexpr u64 kFar = 0x7f12'3456'7000, kAlsoFar = 0x5580'0000'3000, kNear = 0x40'1000,
              kHigh = 0xffff'ffff'8123'4000;

void expect_same(const Translation& a, const Translation& b) {
  EXPECT_EQ(a.bytes, b.bytes);
  EXPECT_EQ(a.hot_bytes, b.hot_bytes);
  EXPECT_EQ(a.guest_bytes, b.guest_bytes);
  EXPECT_EQ(a.cells, b.cells);
  EXPECT_TRUE(a.infos == b.infos);
  EXPECT_TRUE(a.exits == b.exits);
}

// Guest code: this program's own, a page of it at a time, and from every byte on, so that much is odd.
std::vector<const u8*> pages() {
  std::vector<const u8*> found;
  const u64 own = reinterpret_cast<u64>(&expect_same) & ~u64{kPageSize - 1};
  const u64 library = reinterpret_cast<u64>(&std::memcpy) & ~u64{kPageSize - 1};
  for (const u64 page : {own, own + kPageSize, library}) found.push_back(reinterpret_cast<const u8*>(page));
  return found;
}

void compare(u64 linear, u64 other_linear, u32 mode, unsigned& copied, unsigned& all) {
  auto library = Library::create(16 * kMiB).take();
  Bench one, two;
  ASSERT_TRUE(library->admits(one.stubs, one.code.executable(0)));
  ASSERT_TRUE(library->admits(two.stubs, two.code.executable(0)));
  u64 physical = 0x10000;
  for (const u8* page : pages()) {
    for (u64 offset = 0; offset < kPageSize; offset += 3) {
      const auto in = one.input(page, linear + offset, mode, 17);
      static_cast<void>(one.translate(in, 64 * kKiB + offset));
      library->keep(in, physical + offset, one.place(64 * kKiB + offset), one.translation, one.fixups,
                    one.tied);
      const auto wanted = two.input(page, other_linear + offset, mode, 900 + static_cast<u32>(offset));
      const usize at = 3 * kMiB + 5 * offset;
      const std::vector<u8> expected = two.translate(wanted, at);
      std::memset(two.code.writable(at), 0xcc, expected.size());
      Translation copy;
      all++;
      if (!library->copy(wanted, physical + offset, two.place(at), copy)) continue;
      copied++;
      expect_same(copy, two.translation);
      ASSERT_EQ(0, std::memcmp(expected.data(), two.code.writable(at), expected.size())) << offset;
    }
    physical += kPageSize;
  }
}

TEST(Library, a_copy_for_another_vcpu_is_what_its_translator_would_make) {
  for (const u64 linear : {kFar, kNear, kHigh}) {
    unsigned copied = 0, all = 0;
    compare(linear, linear, linear == kHigh ? kKernel : kUser, copied, all);
    EXPECT_EQ(copied, all);
    EXPECT_GT(all, 4000u);
  }
}

TEST(Library, a_copy_for_another_linear_address_is_too) {
  unsigned copied = 0, all = 0;
  compare(kFar, kAlsoFar, kUser, copied, all);
  // All but what wraps addresses at 4 GiB.
  EXPECT_GT(copied, all * 99 / 100);
}

TEST(Library, what_knows_a_short_address_is_not_moved) {
  unsigned copied = 0, all = 0;
  compare(kNear, kFar, kUser, copied, all);
  EXPECT_EQ(copied, 0u);
  compare(kHigh, kHigh + kPageSize, kKernel, copied, all);
  EXPECT_EQ(copied, 0u);
}

// An address of 32 bits that is relative to RIP wraps at 4 GiB.
TEST(Library, what_wraps_is_not_moved) {
  auto library = Library::create(kMiB).take();
  Bench bench;
  static constexpr u8 page[kPageSize] = {0x67, 0x8b, 0x05, 8, 0, 0, 0, 0xc3};  // mov eax, [eip+8]; ret
  const auto in = bench.input(page, kFar, kUser, 0);
  static_cast<void>(bench.translate(in, 64 * kKiB));
  EXPECT_TRUE(bench.tied);
  library->keep(in, 0x5000, bench.place(64 * kKiB), bench.translation, bench.fixups, bench.tied);
  Translation copy;
  EXPECT_TRUE(library->copy(in, 0x5000, bench.place(kMiB), copy));
  EXPECT_FALSE(library->copy(bench.input(page, kAlsoFar, kUser, 0), 0x5000, bench.place(kMiB), copy));
}

// mov eax, [rip+8]; test eax, eax; jne +0x10; … xor eax, eax there, which shows that flags are not live.
struct Page {
  u8 bytes[kPageSize] = {0x8b, 0x05, 8, 0, 0, 0, 0x85, 0xc0, 0x75, 0x10, 0x31, 0xc0, 0xc3};
  Page() {
    bytes[0x1a] = 0x31;
    bytes[0x1b] = 0xc0;
    bytes[0x1c] = 0xc3;
  }
};

TEST(Library, an_entry_is_for_the_bytes_that_it_was_made_from_and_those_it_looked_ahead_at) {
  auto library = Library::create(kMiB).take();
  Bench bench;
  Page page;
  const auto in = bench.input(page.bytes, kFar, kUser, 0);
  static_cast<void>(bench.translate(in, 64 * kKiB));
  library->keep(in, 0x5000, bench.place(64 * kKiB), bench.translation, bench.fixups, bench.tied);
  Translation copy;
  const auto known = [&] { return library->copy(in, 0x5000, bench.place(kMiB), copy); };
  EXPECT_TRUE(known());
  EXPECT_FALSE(library->copy(in, 0x6000, bench.place(kMiB), copy));
  auto other = in;
  other.mode = kKernel;
  EXPECT_FALSE(library->copy(other, 0x5000, bench.place(kMiB), copy));
  for (const usize at : {usize{2}, usize{7}, usize{0xb}, usize{0x1a}}) {
    page.bytes[at] ^= 0x80;
    EXPECT_FALSE(known()) << at;
    page.bytes[at] ^= 0x80;
    EXPECT_TRUE(known()) << at;
  }
  page.bytes[0x400] = 1;  // nothing looked there
  EXPECT_TRUE(known());
  EXPECT_EQ(library->statistics().kept, 1u);
  EXPECT_EQ(library->statistics().copies, 6u);
}

// Another processor writes while a block is made: what is kept is of the bytes that it is found by.
TEST(Library, what_is_written_meanwhile_makes_no_mixture) {
  Bench bench, other;
  auto library = Library::create(16 * kMiB).take();
  ASSERT_TRUE(library->admits(bench.stubs, bench.code.executable(0)));
  BlockStore store(bench.code, CodeCache::part(true, bench.entries.bytes), library.get());
  static u8 page[kPageSize] = {0xb8, 0, 0, 0, 0, 0xc3};  // mov eax, version; ret
  volatile u8* version = page + 1;
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    while (!stop) *version = static_cast<u8>(*version ^ 1);
  });
  constexpr unsigned kBlocks = 3000;
  for (u64 i = 1; i <= kBlocks; i++) {
    ASSERT_NE(store.add(bench.translator, bench.input(page, kFar, kUser, 0), i * kPageSize), nullptr);
  }
  stop = true;
  writer.join();
  unsigned found = 0;
  for (u64 i = 1; i <= kBlocks; i++) {
    for (const u8 is : {u8{0}, u8{1}}) {
      *version = is;
      const auto in = other.input(page, kFar, kUser, 0);
      Translation copy;
      if (!library->copy(in, i * kPageSize, other.place(kMiB), copy)) continue;
      found++;
      const std::vector<u8> got(other.code.writable(kMiB), other.code.writable(kMiB) + copy.bytes);
      ASSERT_EQ(got, other.translate(in, kMiB)) << i;
    }
  }
  EXPECT_GE(found, kBlocks);
}

// A compiler at run time writes other code to the same place for ever: the list of what was there is not
// searched to its end.
TEST(Library, of_what_was_at_a_place_only_the_last_is_found) {
  auto library = Library::create(16 * kMiB).take();
  Bench bench;
  static u8 page[kPageSize] = {0xb8, 0, 0, 0, 0, 0xc3};  // mov eax, version; ret
  const auto in = bench.input(page, kFar, kUser, 0);
  Translation copy;
  for (u32 version = 0; version < 1000; version++) {
    std::memcpy(page + 1, &version, sizeof version);
    static_cast<void>(bench.translate(in, 64 * kKiB));
    library->keep(in, 0x5000, bench.place(64 * kKiB), bench.translation, bench.fixups, bench.tied);
    ASSERT_TRUE(library->copy(in, 0x5000, bench.place(kMiB), copy));
  }
  const auto knows = [&](u32 version) {
    std::memcpy(page + 1, &version, sizeof version);
    return library->copy(in, 0x5000, bench.place(kMiB), copy);
  };
  EXPECT_TRUE(knows(999));
  EXPECT_TRUE(knows(995));
  EXPECT_FALSE(knows(100));
}

TEST(Library, is_emptied_when_it_is_full_and_goes_on) {
  auto library = Library::create(64 * kKiB).take();
  Bench bench;
  Page page;
  for (u64 physical = 0; physical < 4000 * kPageSize; physical += kPageSize) {
    const auto in = bench.input(page.bytes, kFar, kUser, 0);
    static_cast<void>(bench.translate(in, 64 * kKiB));
    library->keep(in, physical, bench.place(64 * kKiB), bench.translation, bench.fixups, bench.tied);
    Translation copy;
    ASSERT_TRUE(library->copy(in, physical, bench.place(kMiB), copy)) << physical;
  }
  EXPECT_GT(library->statistics().emptied, 8u);
  EXPECT_LE(library->statistics().bytes, 64 * kKiB);
  Translation copy;
  EXPECT_FALSE(library->copy(bench.input(page.bytes, kFar, kUser, 0), 0, bench.place(kMiB), copy));
}

TEST(Library, refuses_who_has_other_stubs) {
  auto library = Library::create(64 * kKiB).take();
  Bench bench;
  EXPECT_TRUE(library->admits(bench.stubs, bench.code.executable(0)));
  Stubs other = bench.stubs;
  other.lookup += 16;
  EXPECT_FALSE(library->admits(other, bench.code.executable(0)));
}

}  // namespace
}  // namespace nacre::soft
