// Unpacking on the host: the LZ4 decoder, what a bzImage says about its payload, and moving a kernel by its
// relocations.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <random>

#include "board/boot/linux_payload.hpp"
#include "board/boot/loaders.hpp"
#include "board/boot/relocations.hpp"
#include "board/boot/test_machine.hpp"

namespace nacre::board::boot {
namespace {

using ::testing::HasSubstr;

void append_length(Image& out, usize length) {
  for (; length >= 255; length -= 255) out.push_back(255);
  out.push_back(static_cast<u8>(length));
}

// One LZ4 sequence. match 0: the last one, literals only.
void append_sequence(Image& out, const Image& literals, usize distance, usize match) {
  const usize l = literals.size(), m = match == 0 ? 0 : match - 4;
  out.push_back(static_cast<u8>((l < 15 ? l : 15) << 4 | (m < 15 ? m : 15)));
  if (l >= 15) append_length(out, l - 15);
  out.insert(out.end(), literals.begin(), literals.end());
  if (match == 0) return;
  out.push_back(static_cast<u8>(distance));
  out.push_back(static_cast<u8>(distance >> 8));
  if (m >= 15) append_length(out, m - 15);
}

// A stream of random sequences, and what it unpacks to.
struct Lz4Sample {
  Image stream, plain;
};
Lz4Sample make_lz4(unsigned seed, unsigned blocks) {
  std::mt19937 random(seed);
  Lz4Sample sample;
  put<u32>(sample.stream, 0, 0x184c2102);
  for (unsigned b = 0; b < blocks; ++b) {
    Image block;
    const usize block_start = sample.plain.size();
    for (unsigned i = 0; i < 40; ++i) {
      Image literals(random() % (i % 7 == 0 ? 400 : 20));
      for (u8& byte : literals) byte = static_cast<u8>(random());
      sample.plain.insert(sample.plain.end(), literals.begin(), literals.end());
      const usize history = sample.plain.size() - block_start;
      if (i == 39 || history == 0) {
        append_sequence(block, literals, 0, 0);
        break;
      }
      const usize distance = 1 + random() % std::min<usize>(history, i % 2 == 0 ? 12 : 60000);
      const usize match = 4 + random() % (i % 5 == 0 ? 700 : 30);
      append_sequence(block, literals, distance, match);
      for (usize k = 0; k < match; ++k) sample.plain.push_back(sample.plain[sample.plain.size() - distance]);
    }
    put<u32>(sample.stream, sample.stream.size(), static_cast<u32>(block.size()));
    sample.stream.insert(sample.stream.end(), block.begin(), block.end());
  }
  return sample;
}

TEST(Lz4, unpacks_literals_matches_and_matches_that_overlap_themselves) {
  for (unsigned seed = 1; seed <= 50; ++seed) {
    const Lz4Sample sample = make_lz4(seed, 1 + seed % 3);
    Image plain(sample.plain.size());
    ASSERT_TRUE(unpack_lz4(sample.stream, plain)) << seed;
    ASSERT_EQ(plain, sample.plain) << seed;
  }
}

TEST(Lz4, refuses_a_result_of_another_size_and_a_stream_cut_short) {
  const Lz4Sample sample = make_lz4(3, 2);
  Image small(sample.plain.size() - 1), large(sample.plain.size() + 1), exact(sample.plain.size());
  EXPECT_FALSE(unpack_lz4(sample.stream, small));
  EXPECT_FALSE(unpack_lz4(sample.stream, large));
  for (usize size = 0; size < sample.stream.size(); ++size) {
    const Image cut(sample.stream.begin(), sample.stream.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(unpack_lz4(cut, exact)) << size;
  }
}

TEST(Lz4, survives_damaged_streams) {
  std::mt19937 random(2);
  const Lz4Sample sample = make_lz4(9, 2);
  Image plain(sample.plain.size());
  for (int i = 0; i < 3000; ++i) {
    Image damaged = sample.stream;
    for (unsigned changes = 1 + random() % 4; changes > 0; --changes) {
      damaged[random() % damaged.size()] = static_cast<u8>(random() % 2 == 0 ? 0xff : random());
    }
    static_cast<void>(unpack_lz4(damaged, plain));  // the sanitizers watch
  }
  EXPECT_TRUE(unpack_lz4(sample.stream, plain));
}

// A bzImage around a payload, and the vmlinux it stands for: linked at 16 MiB, with the three lists behind.
Image with_payload(const Image& payload) {
  Image image = make_bzimage(0x4000, 16 * kMiB, 0x400000);
  put<u32>(image, 0x248, 0x100);
  put<u32>(image, 0x24c, static_cast<u32>(payload.size()));
  std::copy(payload.begin(), payload.end(), image.begin() + 1024 + 0x100);
  return image;
}

constexpr u32 kLinked = 0x81000000;  // low half of the link-time address

Image make_vmlinux(bool with_inverse = true) {
  Image image = make_elf({.entry = 16 * kMiB, .physical = 16 * kMiB, .virtual_address = 0xffffffff81000000});
  put<u32>(image, 0x1100, kLinked + 0x10);      // a 32-bit address
  put<u64>(image, 0x1200, 0xffffffff81000020);  // a 64-bit one
  put<i32>(image, 0x1300, -0x100);              // one relative to per-CPU data
  const auto append = [&image](u32 value) { put<u32>(image, image.size(), value); };
  append(0);
  append(kLinked + 0x200);
  append(0);
  if (with_inverse) {
    append(kLinked + 0x300);
    append(0);
  }
  append(kLinked + 0x100);
  return image;
}

TEST(Payload, is_found_with_its_size_and_kind) {
  for (const auto& [magic, kind] : {std::pair{0x184c2102u, Compression::Lz4},
                                    {0x587a37fdu, Compression::Xz},
                                    {0xfd2fb528u, Compression::Zstd},
                                    {0x00088b1fu, Compression::Gzip},
                                    {0x12345678u, Compression::Unknown}}) {
    Image payload(100, 7);
    put<u32>(payload, 0, magic);
    put<u32>(payload, 96, 123456);
    const Image image = with_payload(payload);
    const Result<Payload> found = find_payload(image);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(found.value().compression, kind);
    EXPECT_EQ(found.value().unpacked_bytes, 123456u);
    EXPECT_EQ(found.value().bytes.size(), kind == Compression::Gzip ? 100u : 96u);
    EXPECT_EQ(found.value().bytes.data(), image.data() + 1024 + 0x100);
  }
}

TEST(Payload, says_what_is_wrong) {
  Image payload(100, 7);
  put<u32>(payload, 96, 0x7fffffff);
  EXPECT_THAT(find_payload(with_payload(payload)).error().message(), HasSubstr("impossible size"));
  Image outside = with_payload(payload);
  put<u32>(outside, 0x24c, 0x4000);
  EXPECT_THAT(find_payload(outside).error().message(), HasSubstr("past the end"));
  EXPECT_THAT(find_payload(Image(600)).error().message(), HasSubstr("not a bzImage"));
}

TEST(LoadUnpacked, without_randomness_the_kernel_stays_where_it_was_linked) {
  TestMachine machine(64 * kMiB);
  const Image bzimage = make_bzimage(), vmlinux = make_vmlinux();
  cpu::State state;
  ASSERT_TRUE(
      load_unpacked(machine.machine(), {.kernel = bzimage, .command_line = "ro"}, vmlinux, 0, state).ok());
  EXPECT_EQ(state.rip, 16 * kMiB);
  EXPECT_TRUE(state.in_64bit_code());
  EXPECT_EQ(machine.at<u32>(16 * kMiB + 0x100), kLinked + 0x10);
  const u64 params = state.gpr[x86::RSI];
  EXPECT_EQ(machine.at<u8>(params + 0x211) & 2, 0);
  EXPECT_EQ(machine.at<u64>(params + 0x258), 16 * kMiB);  // the bzImage's header came along
  EXPECT_EQ(machine.text(machine.at<u32>(params + 0x228)), "ro");
}

TEST(LoadUnpacked, moves_the_kernel_by_its_relocations) {
  for (const bool with_inverse : {true, false}) {
    const Image bzimage = make_bzimage(), vmlinux = make_vmlinux(with_inverse), initrd(5 * kMiB, 0xd1);
    u64 physical_seen = 0, virtual_seen = 0;
    for (u64 random = 1; random <= 64; ++random) {
      TestMachine machine(64 * kMiB);
      cpu::State state;
      const Request request = {.kernel = bzimage, .initrd = initrd};
      ASSERT_TRUE(load_unpacked(machine.machine(), request, vmlinux, random, state).ok());
      const u64 at = state.rip;
      ASSERT_EQ(at % (2 * kMiB), 0u);
      ASSERT_GE(at, 16 * kMiB);
      ASSERT_LE(at + 0x3000, 64 * kMiB - initrd.size());
      const u32 delta = machine.at<u32>(at + 0x100) - (kLinked + 0x10);
      ASSERT_EQ(delta % (2 * kMiB), 0u);
      ASSERT_LE(delta + 0x3000, kGiB - 16 * kMiB);
      EXPECT_EQ(machine.at<u64>(at + 0x200), 0xffffffff81000020 + delta);
      EXPECT_EQ(machine.at<i32>(at + 0x300), with_inverse ? -0x100 - static_cast<i32>(delta) : -0x100);
      EXPECT_EQ(machine.at<u8>(at + 0x400), vmlinux[0x1400]);
      EXPECT_EQ(machine.at<u8>(state.gpr[x86::RSI] + 0x211) & 2, 2);
      physical_seen |= u64{1} << (at / (2 * kMiB));
      virtual_seen |= u64{1} << (delta / (16 * kMiB));
    }
    EXPECT_GT(std::popcount(physical_seen), 10);
    EXPECT_GT(std::popcount(virtual_seen), 20);
  }
}

TEST(LoadUnpacked, obeys_nokaslr_and_kernels_that_cannot_be_moved) {
  TestMachine machine(64 * kMiB);
  const Image bzimage = make_bzimage(), vmlinux = make_vmlinux();
  cpu::State state;
  const Request nokaslr = {.kernel = bzimage, .command_line = "ro nokaslr quiet"};
  ASSERT_TRUE(load_unpacked(machine.machine(), nokaslr, vmlinux, 5, state).ok());
  EXPECT_EQ(state.rip, 16 * kMiB);
  Image fixed = vmlinux;
  fixed.resize(0x2000);  // no lists
  ASSERT_TRUE(load_unpacked(machine.machine(), {.kernel = bzimage}, fixed, 5, state).ok());
  EXPECT_EQ(state.rip, 16 * kMiB);
}

TEST(LoadUnpacked, is_what_load_does_when_given_the_payload_and_else_the_kernel_unpacks_itself) {
  TestMachine machine(64 * kMiB);
  const Image bzimage = make_bzimage(), vmlinux = make_vmlinux(), junk(5000, 1);
  cpu::State state;
  ASSERT_TRUE(load(machine.machine(), {.kernel = bzimage, .unpacked = vmlinux}, state).ok());
  EXPECT_EQ(state.rip, 16 * kMiB);
  ASSERT_TRUE(load(machine.machine(), {.kernel = bzimage, .unpacked = junk}, state).ok());
  EXPECT_EQ(state.rip, 16 * kMiB + 0x200);
}

TEST(LoadUnpacked, needs_only_the_setup_header_and_then_says_itself_what_is_wrong) {
  TestMachine machine(64 * kMiB), small(16 * kMiB);
  const Image bzimage = make_bzimage(), vmlinux = make_vmlinux();
  const Request request = {.kernel = Bytes(bzimage).first(kSetupBytes), .unpacked = vmlinux};
  cpu::State state;
  ASSERT_TRUE(load(machine.machine(), request, state).ok());
  EXPECT_EQ(state.rip, 16 * kMiB);
  const Status status = load(small.machine(), request, state);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message(), HasSubstr("give it more memory"));
}

TEST(LoadUnpacked, leaves_pages_of_zeros_alone_in_fresh_memory) {
  TestMachine machine(64 * kMiB);
  const Image bzimage = make_bzimage();
  Image vmlinux =
      make_elf({.entry = 16 * kMiB, .physical = 16 * kMiB, .memory_size = 0x6000, .content = 0x4800});
  std::fill_n(vmlinux.begin() + 0x2000, 0x1000, u8{0});
  vmlinux[0x4fff] = 0x77;
  Machine fresh = machine.machine();
  fresh.ram_is_zero = true;
  for (const u64 offset : {u64{0x1000}, u64{0x4900}, u64{0x5800}})
    machine.fill(16 * kMiB + offset, 1, 0xcc);  // tells who writes
  cpu::State state;
  ASSERT_TRUE(load(fresh, {.kernel = bzimage, .unpacked = vmlinux}, state).ok());
  EXPECT_EQ(machine.at<u8>(16 * kMiB + 0x1000), 0xcc);  // a page of zeros in the file
  EXPECT_EQ(machine.at<u8>(16 * kMiB + 0x3fff), 0x77);
  EXPECT_EQ(machine.at<u8>(16 * kMiB + 0x47ff), vmlinux[0x57ff]);
  EXPECT_EQ(machine.at<u8>(16 * kMiB + 0x4900), 0xcc);  // behind the file's part
  ASSERT_TRUE(load(machine.machine(), {.kernel = bzimage, .unpacked = vmlinux}, state).ok());
  for (const u64 offset : {u64{0x1000}, u64{0x4900}, u64{0x5800}})
    EXPECT_EQ(machine.at<u8>(16 * kMiB + offset), 0) << offset;
}

TEST(LoadUnpacked, refuses_relocations_that_point_outside) {
  TestMachine machine(64 * kMiB);
  const Image bzimage = make_bzimage();
  cpu::State state;
  for (const u32 place : {kLinked + 0x2ffe, kLinked - 4, 0x7fffffffu}) {
    Image vmlinux = make_vmlinux();
    put<u32>(vmlinux, vmlinux.size(), place);
    const Status status = load_unpacked(machine.machine(), {.kernel = bzimage}, vmlinux, 5, state);
    ASSERT_FALSE(status.ok());
    EXPECT_THAT(status.error().message(), HasSubstr("points outside"));
  }
}

}  // namespace
}  // namespace nacre::board::boot
