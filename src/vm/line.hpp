// Line: one line of text built and written with general registers only (no library formatting), so that
// it can be used anywhere on a vCPU thread. Longer text is cut.
#pragma once

#include <unistd.h>

#include "base/types.hpp"

namespace nacre::vm {

class Line {
 public:
  Line() {}  // NOLINT(modernize-use-equals-default): the text stays uninitialised; clearing it calls memset

  Line& text(const char* more) {
    while (*more != 0) put(*more++);
    return *this;
  }
  Line& byte(u8 value) { return digit(value >> 4), digit(value & 15), *this; }
  Line& hex(u64 value) { return number(value, 16, 1); }
  Line& hex16(u64 value) { return number(value, 16, 16); }
  Line& decimal(u64 value) { return number(value, 10, 1); }

  Line(const Line& other) { *this = other; }
  Line& operator=(const Line& other) {
    length_ = other.length_;
    for (usize i = 0; i < length_; ++i) text_[i] = other.text_[i];
    return *this;
  }
  bool operator==(const Line& other) const {
    if (length_ != other.length_) return false;
    for (usize i = 0; i < length_; ++i) {
      if (text_[i] != other.text_[i]) return false;
    }
    return true;
  }

  void write_to(int file) {
    text_[length_] = '\n';
    [[maybe_unused]] const ssize_t written = write(file, text_, length_ + 1);
  }

 private:
  static constexpr usize kMost = 511;

  void put(char c) {
    if (length_ < kMost) text_[length_++] = c;
  }
  void digit(unsigned value) { put("0123456789abcdef"[value]); }
  Line& number(u64 value, unsigned base, unsigned least) {
    char digits[20];
    unsigned count = 0;
    do {
      digits[count++] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value != 0);
    for (; least > count; --least) put('0');
    while (count != 0) put(digits[--count]);
    return *this;
  }

  char text_[kMost + 1];
  usize length_ = 0;
};

}  // namespace nacre::vm
