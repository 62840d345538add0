// Test support: outlets that remember.
#pragma once

#include <string>
#include <vector>

#include "device/ports.hpp"

namespace nacre::device {

struct RecordedSink final : ByteSink {
  std::string text;
  void put(u8 byte) override { text.push_back(static_cast<char>(byte)); }
};

struct RecordedPower final : PowerSink {
  unsigned power_offs = 0, resets = 0, panics = 0;
  std::vector<u32> exits;
  void power_off() override { ++power_offs; }
  void reset() override { ++resets; }
  void panicked() override { ++panics; }
  void debug_exit(u32 value) override { exits.push_back(value); }
};

}  // namespace nacre::device
