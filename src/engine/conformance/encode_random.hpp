// Random instruction bytes. Tests only.
#pragma once

#include "engine/conformance/generate.hpp"
#include "engine/conformance/random.hpp"

namespace nacre::conformance {

// Fills `code` (16 bytes); what follows the instruction's own bytes is random too.
void random_encoding(Random& random, Family family, x86::CodeSize code_size, u8* code);

}  // namespace nacre::conformance
