#include "app/life/machine_line.hpp"

#include <algorithm>
#include <cerrno>

#include "host/passed_files.hpp"
#include "storage/open.hpp"

namespace nacre::app {

void MachineLine::read() {
  u8 bytes[line::kMostBytes];
  std::vector<host::UniqueFd> files;
  const ssize_t got = host::receive_with_files(socket_, bytes, files);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  const std::string_view text(reinterpret_cast<const char*>(bytes), got < 0 ? 0 : static_cast<usize>(got));
  if (text == std::string_view(&line::kPressPowerButton, 1)) {
    power_button_ = true;
  } else if (auto request = text.starts_with('{') ? life::JsonObject::parse(text) : std::nullopt) {
    requests_.push_back({std::move(*request), std::move(files)});
  } else {
    is_over_ = true;
  }
}

void MachineLine::serve(vm::Vm& vm) {
  for (Request& request : std::exchange(requests_, {})) obey(vm, request);
  while (const auto event = vm.slots().next_event()) tell(*event);
}

void MachineLine::say(const std::string& message) const {
  while (write(socket_, message.data(), message.size()) < 0 && errno == EINTR) {
  }
}

life::JsonObject counts_answer(const life::JsonObject& event) {
  life::JsonObject answer;
  answer.set("ok", true).set("engine", event.text("engine")).set("processors", event.number("processors"));
  return answer.set("counts", event.text("counts"));
}

void MachineLine::tell_counts(const vm::Vm& vm, const life::JsonObject& request) const {
  life::JsonObject answer;
  answer.set("event", "stat").set("id", request.number("id")).set("engine", vm.engine_name());
  answer.set("processors", i64{vm.processors()});
  const i64 processor = request.number("processor");
  std::string counts;
  if (processor >= 0 && processor < vm.processors()) {
    for (const auto& [name, value] : vm.counts(static_cast<unsigned>(processor)))
      counts += std::string(name) + "\t" + std::to_string(value) + "\n";
  }
  say(answer.set("counts", counts).line());
}

void MachineLine::obey(vm::Vm& vm, Request& request) const {
  vm::Slots& slots = vm.slots();
  const life::JsonObject& text = request.text;
  if (text.text("do") == "stat") return tell_counts(vm, text);
  if (text.text("do") == "detach") {
    const auto slot = static_cast<unsigned>(text.number("slot"));
    const bool surprise = text.is_true("surprise");
    // One that has gone meanwhile has been told of.
    static_cast<void>(
        slots.detach(slot, surprise ? vm::Slots::Removal::Surprise : vm::Slots::Removal::Orderly));
    return;
  }
  life::JsonObject answer;
  answer.set("id", text.number("id"));
  if (const auto slot = attach(slots, request)) {
    answer.set("event", "coming").set("slot", i64{slot.value()});
  } else {
    answer.set("event", "refused").set("why", slot.error().message());
  }
  say(answer.line());
}

Result<unsigned> MachineLine::attach(vm::Slots& slots, Request& request) {
  const life::JsonObject& text = request.text;
  if (const std::string network = text.text("net"); !network.empty())
    return slots.attach(TRY(net::parse(network)), std::move(request.files));
  vm::DiskConfig disk;
  disk.path = text.text("disk");
  disk.read_only = text.is_true("read-only");
  disk.format = storage::format_named(text.text("format"));
  disk.limits.operations = static_cast<u64>(std::max<i64>(text.number("iops"), 0));
  disk.limits.bytes = static_cast<u64>(std::max<i64>(text.number("bandwidth"), 0));
  return slots.attach(disk, std::move(request.files));
}

void MachineLine::tell(const vm::SlotEvent& event) const {
  using Kind = vm::SlotEvent::Kind;
  const char* what = event.kind == Kind::Plugged   ? "plugged"
                     : event.kind == Kind::Refused ? "refused"
                     : event.kind == Kind::InUse   ? "in-use"
                                                   : "gone";
  say(life::JsonObject().set("event", what).set("slot", i64{event.slot}).set("why", event.why).line());
}

}  // namespace nacre::app
