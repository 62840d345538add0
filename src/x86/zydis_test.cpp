// The decoder against Zydis: random encodings in every mode, and real programs.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include <elf.h>

#include "x86/zydis_compare.hpp"

namespace nacre::x86 {
namespace {

using Random = std::mt19937_64;

u64 iterations(u64 usual) {
  const char* text = std::getenv("NACRE_ITERATIONS");
  return text != nullptr ? std::strtoull(text, nullptr, 0) : usual;
}

// A byte string that has a fair chance of being an instruction.
struct RandomEncoding {
  u8 bytes[24];
  RandomEncoding(Random& random, CodeSize size) {
    u64 r = random();
    for (u8& b : bytes) {
      b = static_cast<u8>(r);
      r = r >> 8 != 0 ? r >> 8 : random();
    }
    usize at = 0;
    static constexpr u8 kPrefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66,
                                       0x66, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0xf3};
    while (random() % 3 == 0 && at < 4) bytes[at++] = kPrefixes[random() % sizeof kPrefixes];
    if (size == CodeSize::Bits64 && random() % 3 == 0) bytes[at++] = static_cast<u8>(0x40 | (random() & 15));
    switch (random() % 8) {
      case 0:
      case 1:
        bytes[at++] = 0x0f;
        break;
      case 2:
        bytes[at++] = 0x0f, bytes[at++] = random() % 2 == 0 ? 0x38 : 0x3a;
        break;
      case 3:
        vex2(random, at = 0);
        break;
      case 4:
        vex3(random, at = 0);
        break;
      case 5:
        evex(random, at = 0);
        break;
      default:
        break;
    }
  }

 private:
  void vex2(Random& random, usize at) {
    bytes[at] = 0xc5;
    bytes[at + 1] = static_cast<u8>(random() | 0x80);
    if (random() % 2 == 0) bytes[at + 1] |= 0x78;
  }
  void vex3(Random& random, usize at) {
    bytes[at] = 0xc4;
    bytes[at + 1] = static_cast<u8>((random() & 0xe0) | (1 + random() % 3) | 0x80);
    bytes[at + 2] = static_cast<u8>(random());
    if (random() % 2 == 0) bytes[at + 2] |= 0x78;
  }
  void evex(Random& random, usize at) {
    bytes[at] = 0x62;
    bytes[at + 1] = static_cast<u8>((random() & 0xf0) | (1 + random() % 3));
    bytes[at + 2] = static_cast<u8>(random() | 4);
    if (random() % 2 == 0) bytes[at + 2] |= 0x78;
    bytes[at + 3] = static_cast<u8>(random());
    if (random() % 2 == 0) bytes[at + 3] = static_cast<u8>((bytes[at + 3] & 0x60) | 8);
  }
};

void compare_random(CodeSize size, u64 seed) {
  Random random(seed);
  Differences differences;
  for (u64 n = 0; n < iterations(200'000); ++n) {
    const RandomEncoding encoding(random, size);
    differences.compare(encoding.bytes, sizeof encoding.bytes, size);
  }
  EXPECT_TRUE(differences.empty()) << differences.report();
}

TEST(AgainstZydis, RandomEncodings64) {
  compare_random(CodeSize::Bits64, 1);
}
TEST(AgainstZydis, RandomEncodings32) {
  compare_random(CodeSize::Bits32, 2);
}
TEST(AgainstZydis, RandomEncodings16) {
  compare_random(CodeSize::Bits16, 3);
}

// Runs over the executable sections of an ELF64 file. False: no such file.
bool compare_elf(const char* path, Differences& differences) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return false;
  const std::vector<char> file{std::istreambuf_iterator<char>(stream), {}};
  Elf64_Ehdr header;
  if (file.size() < sizeof header) return false;
  std::memcpy(&header, file.data(), sizeof header);
  for (unsigned n = 0; n < header.e_shnum; ++n) {
    Elf64_Shdr section;
    std::memcpy(&section, file.data() + header.e_shoff + n * sizeof section, sizeof section);
    if (section.sh_type != SHT_PROGBITS || (section.sh_flags & SHF_EXECINSTR) == 0) continue;
    const auto* code = reinterpret_cast<const u8*>(file.data() + section.sh_offset);
    for (usize at = 0; at < section.sh_size;) {
      at += differences.compare(code + at, section.sh_size - at, CodeSize::Bits64);
    }
  }
  return true;
}

TEST(AgainstZydis, RealPrograms) {
  Differences differences;
  const char* more = std::getenv("NACRE_CORPUS");  // for example an unpacked vmlinux
  for (const char* path :
       {"/proc/self/exe", "/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libm.so.6",
        "/bin/busybox", more != nullptr ? more : "/nonexistent"}) {
    compare_elf(path, differences);
  }
  EXPECT_GT(differences.compared(), 10'000u);
  EXPECT_TRUE(differences.empty()) << differences.report();
}

}  // namespace
}  // namespace nacre::x86
