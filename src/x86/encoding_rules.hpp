// The last step of decoding: which encodings of a row are #UD all the same. Internal to the decoder.
// Freestanding.
#pragma once

#include "x86/instruction.hpp"

namespace nacre::x86 {

// What REX, VEX or EVEX add to the fields of the other bytes.
struct Extension {
  u8 r = 0, x = 0, b = 0;  // 8 or 0
  u8 r2 = 0, v2 = 0;       // EVEX R' and V': 16 or 0
  u8 length = 0;           // L or L'L
  u8 maps = 1;             // mmmmm
};

// False: #UD. Also gives register numbers their final form, where that depends on the kind of register.
bool apply_encoding_rules(Instruction& instruction, const Extension& extension);

}  // namespace nacre::x86
