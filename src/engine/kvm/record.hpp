// Record: how often a vCPU came back from KVM, and for what. Made only when the environment says
// NACRE_KVM_RECORD=PREFIX; when the vCPU ends it writes PREFIX.txt (PREFIX.1.txt for processor 1, …), most
// frequent first. Owned by the vCPU's thread.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/types.hpp"
#include "host/fd.hpp"

namespace nacre::kvm {

class Record {
 public:
  // Null: nobody asked.
  static std::unique_ptr<Record> create(unsigned processor);
  explicit Record(host::UniqueFd file) : file_(std::move(file)) {}
  Record(const Record&) = delete;
  Record& operator=(const Record&) = delete;
  ~Record();

  void count(const char* kind, u64 detail) { ++counts_[{kind, detail}]; }

 private:
  host::UniqueFd file_;  // opened at first: later the vCPU's thread may open none
  std::map<std::pair<std::string, u64>, u64> counts_;
};

}  // namespace nacre::kvm
