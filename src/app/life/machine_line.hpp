// The line between the process that a guest runs in and the one that answers for it: a named machine's
// supervisor, or nacre boot's control process. MachineLine is the guest's end: it does to the machine what is
// asked, and tells what has become of it. On the I/O thread.
#pragma once

#include <poll.h>

#include <string>
#include <vector>

#include "host/fd.hpp"
#include "life/json.hpp"
#include "vm/vm.hpp"

namespace nacre::app {

// Messages on the line, one a packet. To the machine: a command's character, or a JSON object, perhaps with
// files:
//   {"do":"attach","id":N,"disk":PATH,…}     {"do":"attach","id":N,"net":TEXT}
//   {"do":"detach","slot":N,"surprise":BOOL}
//   {"do":"stat","id":N,"processor":N}
// From it: "started", then "ended REASON MESSAGE"; nothing more comes of a machine that died otherwise. In
// between, of its slots (vm/slots.hpp):
//   {"event":"stat","id":N,"processors":N,"engine":NAME,"counts":"NAME\tVALUE\n…"}
//   {"event":"coming","id":N,"slot":N} {"event":"plugged"|"in-use"|"gone"|"refused","slot":N,"why":TEXT}
namespace line {
inline constexpr char kPressPowerButton = 'p', kStop = 'q';
inline constexpr const char kStarted[] = "started", kEnded[] = "ended ";
inline constexpr const char kPowerOff[] = "power-off", kReset[] = "reset", kPanic[] = "panic",
                            kTripleFault[] = "triple-fault", kStopped[] = "stopped", kFailed[] = "failed";
inline constexpr usize kMostBytes = 8192;
}  // namespace line

// What who asked for counts is told, from the machine's event.
life::JsonObject counts_answer(const life::JsonObject& event);

class MachineLine {
 public:
  explicit MachineLine(int socket) : socket_(socket) {}

  // What to wait for; read() when it is readable.
  [[nodiscard]] pollfd wait_entry() const { return {is_over_ ? -1 : socket_, POLLIN, 0}; }
  void read();
  // Attaches and detaches what was asked for, and tells what has come of that.
  void serve(vm::Vm& vm);
  [[nodiscard]] bool take_power_button() { return std::exchange(power_button_, false); }
  // The end was asked for, or nobody is at the other end any more.
  [[nodiscard]] bool is_over() const { return is_over_; }
  void say(const std::string& message) const;

 private:
  struct Request {
    life::JsonObject text;
    std::vector<host::UniqueFd> files;
  };
  void obey(vm::Vm& vm, Request& request) const;
  void tell_counts(const vm::Vm& vm, const life::JsonObject& request) const;
  static Result<unsigned> attach(vm::Slots& slots, Request& request);
  void tell(const vm::SlotEvent& event) const;

  const int socket_;
  std::vector<Request> requests_;
  bool power_button_ = false, is_over_ = false;
};

}  // namespace nacre::app
