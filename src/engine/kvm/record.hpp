// Record: how often a vCPU came back from KVM, and for what. Made only when the environment says
// NACRE_KVM_RECORD=PREFIX; when the vCPU ends it writes PREFIX.txt (PREFIX.1.txt for processor 1, …), most
// frequent first. Owned by the vCPU's thread.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/types.hpp"
#include "engine/counter.hpp"
#include "host/fd.hpp"

namespace nacre::kvm {

// Why a vCPU came back.
enum class ExitKind : u8 {
  PortRead, PortWrite, MemoryRead, MemoryWrite, MsrRead, MsrWrite, Halt, InterruptWindow, EndOfInterrupt, Signal, NoEmulation, Debug, Other, count
};
[[nodiscard]] const char* name_of(ExitKind kind);

// How often, for the user.
struct ExitCounters {
  ExitCounters();
  ExitCounters(const ExitCounters&) = delete;
  ExitCounters& operator=(const ExitCounters&) = delete;
  engine::Counter all, by_kind[static_cast<usize>(ExitKind::count)];
  engine::NamedCounter named[static_cast<usize>(ExitKind::count) + 1];
};

class Record {
 public:
  // Null: nobody asked.
  static std::unique_ptr<Record> create(unsigned processor);
  explicit Record(host::UniqueFd file) : file_(std::move(file)) {}
  Record(const Record&) = delete;
  Record& operator=(const Record&) = delete;
  ~Record();

  void count(ExitKind kind, u64 detail) { ++counts_[{kind, detail}]; }

 private:
  host::UniqueFd file_;  // opened at first: later the vCPU's thread may open none
  std::map<std::pair<ExitKind, u64>, u64> counts_;
};

}  // namespace nacre::kvm
