// Compares decode() with the Zydis disassembler on one byte string. For tests only.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "x86/instruction.hpp"

namespace nacre::x86 {

// Differences by kind ("reads add", "valid vpaddb"), each with a count and the first example.
class Differences {
 public:
  // Returns how far to go on: the length of the instruction, 1 where both call it undefined.
  usize compare(const u8* bytes, usize available, CodeSize code_size);

  [[nodiscard]] bool empty() const { return found_.empty(); }
  [[nodiscard]] u64 compared() const { return compared_; }
  [[nodiscard]] std::string report() const;

 private:
  struct Entry {
    u64 count = 0;
    std::string example;
  };
  std::map<std::string, Entry> found_;
  u64 compared_ = 0;
};

}  // namespace nacre::x86
