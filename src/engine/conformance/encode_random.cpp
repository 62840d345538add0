#include "engine/conformance/encode_random.hpp"

namespace nacre::conformance {
namespace {

class Writer {
 public:
  explicit Writer(u8* code) : code_(code) {}
  void put(u64 byte) {
    if (at_ < 16) code_[at_++] = static_cast<u8>(byte);
  }

 private:
  u8* code_;
  unsigned at_ = 0;
};

u64 modrm(Random& random) {
  if (random.percent(40)) return 0xc0 | random.below(64);
  return random.below(192);
}

void legacy(Random& random, Family family, bool mode64, Writer& out) {
  constexpr u8 kMandatory[] = {0x66, 0xf3, 0xf2};
  if (mode64 && random.percent(4)) out.put(0x65);  // gs
  if (random.percent(4)) out.put(0x67);
  if (random.percent(3)) out.put(0xf0);  // lock
  if (family == Family::Sse ? random.percent(70) : random.percent(30)) out.put(kMandatory[random.below(3)]);
  if (mode64 && random.percent(50)) out.put(0x40 | random.below(16));
  if (family == Family::X87) {
    out.put(0xd8 | random.below(8));
  } else {
    const unsigned map = static_cast<unsigned>(random.below(100));
    if (family == Family::Sse || map >= 45) out.put(0x0f);
    if (map >= 85) out.put(map >= 93 ? 0x3a : 0x38);
    out.put(random.next());
  }
  out.put(modrm(random));
}

// Outside 64-bit mode the top bits of the second byte are set, or it would be LDS, LES, BOUND.
void vex(Random& random, bool mode64, Writer& out) {
  const u64 vvvv = random.percent(40) ? 15 : random.below(16);
  const u64 pp = random.below(4);
  const u64 length = random.below(2);
  if (random.percent(20)) {
    out.put(0xc5);
    out.put((mode64 ? random.below(2) << 7 | vvvv << 3 : 0x80 | (vvvv | 8) << 3) | length << 2 | pp);
  } else {
    out.put(0xc4);
    out.put((mode64 ? random.below(8) << 5 : 0xc0 | random.below(2) << 5) | (1 + random.below(3)));
    out.put(random.below(2) << 7 | vvvv << 3 | length << 2 | pp);
  }
  out.put(random.next());
  out.put(modrm(random));
}

void evex(Random& random, bool mode64, Writer& out) {
  const u64 vvvv = random.percent(40) ? 15 : random.below(16);
  const u64 mask = random.percent(50) ? 0 : random.below(8);
  const u64 zeroing = mask != 0 && random.percent(40) ? 1 : 0;
  const u64 high = vvvv == 15 || random.percent(50) ? 1 : 0;
  out.put(0x62);
  out.put((mode64 ? random.below(16) << 4 : 0xc0 | random.below(4) << 4) | (1 + random.below(3)));
  out.put(random.below(2) << 7 | vvvv << 3 | 4 | random.below(4));
  out.put(zeroing << 7 | random.below(3) << 5 | (random.percent(20) ? 1u : 0u) << 4 | high << 3 | mask);
  out.put(random.next());
  out.put(modrm(random));
}

}  // namespace

void random_encoding(Random& random, Family family, x86::CodeSize code_size, u8* code) {
  const bool mode64 = code_size == x86::CodeSize::Bits64;
  for (unsigned i = 0; i < 16; ++i) code[i] = random.byte();
  Writer out(code);
  if (family == Family::Any) {
    const u64 draw = random.below(100);
    family = draw < 45   ? Family::General
             : draw < 55 ? Family::X87
             : draw < 70 ? Family::Sse
             : draw < 85 ? Family::Vex
                         : Family::Evex;
    if (draw < 3) return;  // whatever the bytes say
  }
  switch (family) {
    case Family::Vex:
      vex(random, mode64, out);
      break;
    case Family::Evex:
      evex(random, mode64, out);
      break;
    default:
      legacy(random, family, mode64, out);
      break;
  }
}

}  // namespace nacre::conformance
