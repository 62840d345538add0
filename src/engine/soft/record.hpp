// Record: what a developer wants to know about a run of the translator. Made only when the environment says
// NACRE_SOFT_RECORD=PREFIX (PREFIX.1 for processor 1, …); when the vCPU ends it writes PREFIX.txt (how often each helper was called, and
// for which guest instructions), PREFIX.code (the code cache) and PREFIX.blocks (where each block stands in
// it). scripts/soft-profile reads them. Owned by the vCPU's thread.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <unordered_map>

#include "base/types.hpp"

namespace nacre::soft {

class BlockStore;
class CodeCache;

// Why translated code asked for help.
enum class Help : u8 {
  FillRead,  // TLB misses of reads
  FillWrite,
  FillStack,
  FillGroup,
  Crossing,   // accesses that cross pages
  Denied,     // accesses done by the interpreter because the TLB may not hold their page
  Twin,       // a group's window does not fit one page here
  Interpret,  // instructions that are not translated
  Link,       // exits from translated code, by kind
  Indirect,
  Lookup,
  Fault,
  Async,
  Flush,      // of address space or page
  CodeWrite,  // to a page with translated code
  count
};

[[nodiscard]] const char* name_of(Help help);

class Record {
 public:
  // Null unless the environment asks for it.
  static std::unique_ptr<Record> create(unsigned processor);
  Record(const Record&) = delete;
  Record& operator=(const Record&) = delete;
  ~Record();

  void count(Help help, u64 rip) {
    totals_[static_cast<usize>(help)]++;
    by_rip_[static_cast<usize>(help)][rip]++;
  }
  void finish(std::initializer_list<const BlockStore*> stores, const CodeCache& code);

 private:
  Record(int text, int code, int blocks) : text_(text), code_(code), blocks_(blocks) {}
  static void write(int file, const std::string& text);

  int text_, code_, blocks_;
  u64 totals_[static_cast<usize>(Help::count)] = {};
  std::unordered_map<u64, u64> by_rip_[static_cast<usize>(Help::count)];
};

}  // namespace nacre::soft
