// The record of a machine's life: record.json in its folder, written by the process that runs it. Together
// with the lock it says what state the machine is in: a record of a life that nobody lives is one of a crash.
// Any thread.
#pragma once

#include <string>

#include "life/folder.hpp"

namespace nacre::life {

// Why the last life ended.
enum class Why : u8 {
  None,        // it has not ended, or there was none
  PoweredOff,  // the guest switched itself off
  Stopped,     // the same, after nacre stop or a signal to nacre asked it to
  Killed,      // because it did not in time
  Panicked,    // the guest's kernel
  Shutdown,    // its processor: triple fault
  Reset,       // a reset, where the configuration says that it ends the life
  Failed,      // Nacre; `message` says how
};

struct Record {
  bool runs = false;  // says the record; whether it is so, the lock knows
  Why why = Why::None;
  std::string message = {};
  i64 process = 0;
  i64 since = 0;  // seconds since 1970: of the start, or of the end
  i64 boots = 0;  // in this life: 1 and the reboots

  [[nodiscard]] std::string line() const;
  static Record parse(std::string_view line);
};

Status save(const Folder& folder, const Record& record);
// One that is missing or damaged is that of a machine which has never run.
Record load_record(const Folder& folder);

enum class State : u8 { New, Running, Off, Crashed };
State state_of(const Record& record, bool is_locked);

const char* name_of(Why why);
// For people: "running", "off (panicked)", "crashed".
std::string describe(const Record& record, State state);

}  // namespace nacre::life
