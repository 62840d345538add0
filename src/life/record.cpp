#include "life/record.hpp"

#include <array>

#include "life/json.hpp"

namespace nacre::life {
namespace {

constexpr std::array kNames = {"none",     "powered-off",  "stopped", "killed",
                               "panicked", "triple-fault", "reset",   "failed"};
static_assert(kNames.size() == static_cast<usize>(Why::Failed) + 1);

}  // namespace

const char* name_of(Why why) {
  return kNames[static_cast<usize>(why)];
}

std::string Record::line() const {
  JsonObject object;
  object.set("runs", runs).set("why", name_of(why)).set("message", message);
  return object.set("process", process).set("since", since).set("boots", boots).line();
}

Record Record::parse(std::string_view line) {
  Record record;
  const auto object = JsonObject::parse(line);
  if (!object) return record;
  record.runs = object->is_true("runs");
  const std::string why = object->text("why");
  for (usize i = 0; i < kNames.size(); ++i) {
    if (why == kNames[i]) record.why = static_cast<Why>(i);
  }
  record.message = object->text("message");
  record.process = object->number("process");
  record.since = object->number("since");
  record.boots = object->number("boots");
  return record;
}

Status save(const Folder& folder, const Record& record) {
  return replace_file(folder.record_file(), record.line() + "\n");
}

Record load_record(const Folder& folder) {
  const auto text = read_file(folder.record_file());
  return text ? Record::parse(text.value()) : Record{};
}

State state_of(const Record& record, bool is_locked) {
  if (is_locked) return State::Running;
  if (record.runs) return State::Crashed;
  return record.why == Why::None ? State::New : State::Off;
}

std::string describe(const Record& record, State state) {
  switch (state) {
    case State::New:
      return "new";
    case State::Running:
      return "running";
    case State::Crashed:
      return "crashed";
    case State::Off:
      break;
  }
  switch (record.why) {
    case Why::PoweredOff:
    case Why::Stopped:
      return "off";
    default:
      return std::string("off (") + name_of(record.why) + ")";
  }
}

}  // namespace nacre::life
