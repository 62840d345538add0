#include "app/session.hpp"

#include <algorithm>

#include "app/machine_options.hpp"
#include "host/terminal.hpp"

namespace nacre::app {
namespace {

u64 clock_now() {
  return host::ClockPair::read().monotonic_ns;
}

// After the guest has ended, a reader that does not read may hold us up for so long.
constexpr u64 kDrainNs = 5'000'000'000;

}  // namespace

Session::Session(vm::Vm& vm, const SignalEvents& signals, std::vector<SerialClient*> clients, double seconds)
    : vm_(vm), signals_(signals), clients_(std::move(clients)), seconds_(seconds) {}

Result<Session::Outcome> Session::run() {
  if (seconds_ > 0) limit_ns_ = clock_now() + static_cast<u64>(seconds_ * 1e9);
  if (auto status = vm_.start(); !status) return status.error();
  while (!vm_.ended()) {
    wait();
    serve();
    if (vm_.stuck() && !told_stuck_) {
      told_stuck_ = true;
      const std::string post = vm_.last_post_code() < 0 ? "" : " " + post_report();
      complain(("The guest has halted with interrupts off; nothing will wake it." + post).c_str());
    }
    if (limit_ns_ != 0 && clock_now() >= limit_ns_) end(Cause::TimeLimit);
  }
  outcome_.ending = vm_.join();
  // The guest may have ended by itself in the same moment: then that is what happened.
  if (outcome_.ending.kind != vm::Ending::Kind::Stopped) outcome_.cause = Cause::Guest;
  drain();
  return std::move(outcome_);
}

std::string Session::post_report() const {
  const int code = vm_.last_post_code();
  if (code < 0) return "No POST code was written.";
  constexpr const char* kDigits = "0123456789abcdef";
  return std::string("The last was POST code 0x") + kDigits[code >> 4] + kDigits[code & 15] + ".";
}

void Session::end(Cause cause, int signal) {
  if (outcome_.cause == Cause::Guest) {
    outcome_.cause = cause;
    outcome_.signal = signal;
  }
  vm_.stop();
}

int Session::wait_milliseconds() const {
  if (limit_ns_ == 0) return -1;
  const u64 now = clock_now();
  if (now >= limit_ns_) return 0;
  return static_cast<int>(std::min<u64>((limit_ns_ - now) / 1'000'000 + 1, 1'000'000));
}

void Session::wait() {
  std::vector<pollfd> entries = {{vm_.attention().descriptor(), POLLIN, 0},
                                 {signals_.descriptor(), POLLIN, 0}};
  std::vector<usize> starts;
  for (SerialClient* client : clients_) {
    starts.push_back(entries.size());
    client->wait_for(entries);
  }
  starts.push_back(entries.size());
  if (poll(entries.data(), entries.size(), wait_milliseconds()) <= 0) return;
  if (entries[0].revents != 0) vm_.attention().clear();
  if (entries[1].revents != 0) handle_signals();
  for (usize i = 0; i < clients_.size(); ++i) {
    clients_[i]->ready(std::span(entries).subspan(starts[i], starts[i + 1] - starts[i]));
  }
}

void Session::handle_signals() {
  while (const int signal = signals_.next()) {
    if (signal == SIGWINCH) {
      const host::TerminalSize size = host::terminal_size(STDOUT_FILENO);
      vm_.resize_console(static_cast<u16>(size.columns), static_cast<u16>(size.rows));
    }
    const bool taken = std::any_of(clients_.begin(), clients_.end(),
                                   [signal](SerialClient* client) { return client->signal(signal); });
    if (!taken && signal != SIGWINCH) end(Cause::Signal, signal);
  }
}

void Session::serve() {
  for (SerialClient* client : clients_) client->serve(vm_);
  for (unsigned port = 0; port < clients_.size(); ++port) serve_port(port);
}

void Session::serve_port(unsigned port) {
  SerialClient& client = *clients_[port];
  for (auto bytes = vm_.output(port); !bytes.empty(); bytes = vm_.output(port)) {
    const usize taken = client.output(bytes);
    vm_.output_taken(port, taken);
    if (taken < bytes.size()) break;
  }
  for (auto bytes = client.input(); !bytes.empty(); bytes = client.input()) {
    const usize taken = vm_.input(port, bytes);
    client.input_taken(taken);
    if (taken < bytes.size()) break;
  }
  if (client.take_quit()) end(Cause::User);
  if (client.take_power_button()) vm_.press_power_button();
  if (!client.usable()) end(Cause::Output);
}

void Session::drain() {
  const u64 until = clock_now() + kDrainNs;
  for (;;) {
    serve();
    bool left = false;
    for (unsigned port = 0; port < clients_.size(); ++port) left = left || !vm_.output(port).empty();
    if (!left || clock_now() >= until) return;
    std::vector<pollfd> entries;
    for (SerialClient* client : clients_) client->wait_for(entries);
    poll(entries.data(), entries.size(), 50);
  }
}

}  // namespace nacre::app
