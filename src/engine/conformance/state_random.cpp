#include "engine/conformance/state_random.hpp"

#include <cstring>

#include "x86/registers.hpp"

namespace nacre::conformance {
namespace {

using cpu::XsaveLayout;

template <typename T>
void put(u8* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

u32 random_single(Random& random) {
  constexpr u32 kSpecial[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000,
                              0xff800000, 0x7fc00000, 0x7f800001, 1,          0x807fffff,
                              0x7f7fffff, 0x4f000000, 0xcf000000, 0x5f000000};
  if (random.percent(40)) return kSpecial[random.below(sizeof kSpecial / sizeof kSpecial[0])];
  if (random.percent(50)) return static_cast<u32>(0x3f000000 + (random.next() & 0x83ffffff));
  return static_cast<u32>(random.next());
}

u64 random_double(Random& random) {
  constexpr u64 kSpecial[] = {0,
                              u64{1} << 63,
                              0x3ff0000000000000,
                              0xbff0000000000000,
                              0x7ff0000000000000,
                              0xfff0000000000000,
                              0x7ff8000000000000,
                              0x7ff0000000000001,
                              1,
                              0x800fffffffffffff,
                              0x7fefffffffffffff,
                              0x43e0000000000000,
                              0xc3e0000000000000,
                              0x41dfffffffc00000};
  if (random.percent(40)) return kSpecial[random.below(sizeof kSpecial / sizeof kSpecial[0])];
  if (random.percent(50)) return 0x3fe0000000000000 + (random.next() & 0x803fffffffffffff);
  return random.next();
}

void random_vector(Random& random, u8* at, unsigned bytes) {
  const u64 kind = random.below(5);
  for (unsigned i = 0; i < bytes; i += 8) {
    switch (kind) {
      case 0:
        put(at + i, random.next());
        break;
      case 1:
        put(at + i, u64{random_single(random)} << 32 | random_single(random));
        break;
      case 2:
        put(at + i, random_double(random));
        break;
      case 3:
        put(at + i, (random.next() & 0x7f0000007f) * (random.percent(50) ? 1 : ~u64{0}));
        break;
      default:
        put(at + i, random.next() & random.next() & random.next());
        break;
    }
  }
}

void random_x87(Random& random, u8* image) {
  const u16 control = random.percent(75) ? u16{0x37f} : static_cast<u16>((random.next() & 0xf3f) | 0x40);
  put(image + XsaveLayout::kFcw, control);
  u16 status = static_cast<u16>(random.next() & 0x7f40);  // C3..C0, TOP, SF
  if (random.percent(15)) status = static_cast<u16>(status | (random.next() & 0x3f));
  if ((status & ~control & 0x3f) != 0) status |= 0x8080;  // ES and B follow from the others
  put(image + XsaveLayout::kFsw, status);
  image[XsaveLayout::kFtw] = random.percent(30) ? u8{0xff} : random.percent(30) ? u8{0} : random.byte();
  for (unsigned i = 0; i < 8; ++i) {
    u8* st = image + XsaveLayout::kSt + 16 * i;
    constexpr u16 kExponents[] = {0, 0x3fff, 0x7fff, 0x4000, 0x3ffe, 1, 0x7ffe, 0x403e};
    u64 significand = random.next();
    if (random.percent(85)) significand |= u64{1} << 63;
    if (random.percent(30)) significand = u64{1} << 63;
    if (random.percent(8)) significand = 0;
    const u64 sign = random.below(2) << 15;
    const u64 exponent = random.percent(60) ? kExponents[random.below(8)] : 0x3fe0 + random.below(64);
    put(st, significand);
    put(st + 8, static_cast<u16>(sign | exponent));
  }
}

}  // namespace

u64 random_value(Random& random) {
  constexpr u64 kBoundaries[] = {0,
                                 1,
                                 ~u64{0},
                                 0x7f,
                                 0x80,
                                 0xff,
                                 0x7fff,
                                 0x8000,
                                 0xffff,
                                 0x7fffffff,
                                 0x80000000,
                                 0xffffffff,
                                 0x7fffffffffffffff,
                                 u64{1} << 63,
                                 0x100000000,
                                 0xffffffff80000000};
  switch (random.below(6)) {
    case 0:
      return random.below(80);
    case 1:
      return kBoundaries[random.below(sizeof kBoundaries / sizeof kBoundaries[0])];
    case 2:
      return kData + random.below(kDataBytes);
    case 3:
      return random.next() & 0xffffffff;
    default:
      return random.next();
  }
}

u64 random_target(Random& random, unsigned bytes, bool aligned) {
  if (bytes == 0) bytes = 8;
  const u64 align = aligned && random.percent(90) ? bytes : 1;
  u64 target = kData + 64 * random.below(kWritableBytes / 64 - 4);
  switch (random.below(10)) {
    case 0:
    case 1:
      target = kData + kPageSize - random.below(bytes + 1);
      break;  // across two pages
    case 2:
      target = kData + kDataBytes - random.below(bytes + 2);
      break;  // into the unmapped end
    case 3:
      target = kData - random.below(bytes + 2);
      break;  // from the unmapped start
    case 4:
      target = kData + kWritableBytes + random.below(kPageSize - bytes);
      break;  // read-only
    case 5:
      target = kData + kWritableBytes - random.below(bytes + 1);
      break;  // across into it
    case 6:
      target += random.below(64);
      break;
    default:
      break;
  }
  return target & ~(align - 1);
}

void random_registers(Random& random, const XsaveLayout& layout, Registers& registers) {
  for (u64& value : registers.gpr) value = random_value(random);
  registers.gpr[x86::RSP] = kData + 256 + 8 * random.below((kWritableBytes - 512) / 8);
  registers.rflags = random.next() & (x86::Rflags::arithmetic | (random.percent(30) ? x86::Rflags::DF : 0));

  u8* image = registers.xsave;
  std::memset(image, 0, sizeof registers.xsave);
  random_x87(random, image);
  u32 mxcsr = 0x1f80;
  if (random.percent(30)) mxcsr = 0x1f80 | static_cast<u32>(random.next() & 0xe07f);
  if (random.percent(8)) mxcsr = static_cast<u32>(random.next() & 0xffff);
  put(image + XsaveLayout::kMxcsr, mxcsr);
  for (unsigned i = 0; i < 16; ++i) random_vector(random, image + XsaveLayout::kXmm + 16 * i, 16);
  for (const unsigned component : {XsaveLayout::kYmmHigh, XsaveLayout::kZmmHigh, XsaveLayout::kHi16Zmm}) {
    if ((layout.components >> component & 1) == 0) continue;
    for (unsigned i = 0; i < layout.bytes[component]; i += 32) {
      random_vector(random, image + layout.offset[component] + i, layout.bytes[component] - i < 32 ? 16 : 32);
    }
  }
  if ((layout.components >> XsaveLayout::kOpmask & 1) != 0) {
    for (unsigned i = 0; i < 8; ++i) {
      const u64 mask = random.percent(20)   ? ~u64{0}
                       : random.percent(20) ? random.next() & 0xff
                                            : random.next();
      put(image + layout.offset[XsaveLayout::kOpmask] + 8 * i, mask);
    }
  }
  put(image + XsaveLayout::kXstateBv, layout.components & 0xe7);
}

}  // namespace nacre::conformance
