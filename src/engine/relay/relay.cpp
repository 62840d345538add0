#include "engine/relay/relay.hpp"

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "host/kick_timer.hpp"

namespace nacre::relay {
namespace {

using engine::Kind;
using engine::Vcpu;

u64 monotonic() {
  timespec time = {};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<u64>(time.tv_sec) * 1'000'000'000 + static_cast<u64>(time.tv_nsec);
}

class Relay;

// One processor, and what each engine makes of it.
class RelayVcpu final : public Vcpu {
 public:
  RelayVcpu(Relay& relay, unsigned number, std::vector<std::unique_ptr<Vcpu>> runners);

  Status enter_thread() override;
  engine::Exit run() override;
  // One that does not run just now gives a call of run() for nothing, later.
  void kick() override {
    for (const auto& runner : runners_) runner->kick();
  }
  cpu::State& state() override { return now().state(); }
  const cpu::State& glance() override { return now().glance(); }
  void state_changed() override { now().state_changed(); }
  void activity_changed() override { now().activity_changed(); }
  void memory_changed(GuestPhysical address, u64 bytes) override { now().memory_changed(address, bytes); }
  Status take_apic(const irq::LocalApic::Loan& loan) override { return now().take_apic(loan); }
  Result<irq::LocalApic::Loan> return_apic() override { return now().return_apic(); }
  [[nodiscard]] std::span<const engine::NamedCounter> counters() const override { return counters_; }

  [[nodiscard]] Vcpu& of(usize engine) { return *runners_[engine]; }

 private:
  [[nodiscard]] Vcpu& now();

  Relay& relay_;
  const unsigned number_;
  std::vector<std::unique_ptr<Vcpu>> runners_;
  std::vector<engine::NamedCounter> counters_;
};

// Who runs, and until when. All but construction on processor 0's thread; the others read what has changed when they come back
// into run().
class Relay final : public engine::Group {
 public:
  Relay(const Options& options, std::vector<std::unique_ptr<engine::Group>> groups, Board& board)
      : every_ns_(options.every_ns), groups_(std::move(groups)), board_(board), random_(std::random_device{}()) {}
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  ~Relay() override {
    std::fprintf(stderr, "nacre: The processors have changed engines %llu times.\n", static_cast<unsigned long long>(moves_.value()));
  }

  irq::MessageSink* local_apics() override { return apics_of(current_); }
  bool divert_writes(GuestPhysical address, int event) override {
    return std::any_of(groups_.begin(), groups_.end(),
                       [&](const auto& group) { return group != nullptr && group->divert_writes(address, event); });
  }
  void give_back_writes(GuestPhysical address, int event) override {
    for (const auto& group : groups_) {
      if (group != nullptr) group->give_back_writes(address, event);
    }
  }

  void add(RelayVcpu& vcpu) { vcpus_.push_back(&vcpu); }
  [[nodiscard]] engine::Group* of(usize engine) const { return groups_[engine].get(); }
  [[nodiscard]] usize current() const { return current_; }
  [[nodiscard]] const std::optional<Error>& failure() const { return failure_; }
  [[nodiscard]] const engine::Counter& moves() const { return moves_; }

  Status begin() {
    timer_.emplace(TRY(host::KickTimer::create()));
    plan();
    return {};
  }
  void move_if_due() {
    if (monotonic() < due_) return;
    if (auto status = move(); !status) failure_ = status.error();
    plan();
  }

 private:
  [[nodiscard]] irq::MessageSink* apics_of(usize engine) const {
    return groups_[engine] == nullptr ? nullptr : groups_[engine]->local_apics();
  }
  [[nodiscard]] std::vector<Vcpu*> vcpus_of(usize engine) const {
    std::vector<Vcpu*> all;
    for (RelayVcpu* vcpu : vcpus_) all.push_back(&vcpu->of(engine));
    return all;
  }
  void plan() {
    const u64 wait = std::uniform_int_distribution<u64>(0, 2 * every_ns_)(random_);
    due_ = monotonic() + wait;
    timer_->arm_after(wait);
  }
  Status move() {
    board_.stop_others();
    const Status status = hand_over();
    board_.go_on();
    return status;
  }
  Status hand_over() {
    const usize next = (current_ + 1) % groups_.size();
    const std::vector<Vcpu*> from = vcpus_of(current_), to = vcpus_of(next);
    for (Vcpu* each : from) static_cast<void>(each->state());  // instructions that came to us end before the local APICs go
    if (apics_of(current_) != nullptr) TRY(board_.take_back_apics(from));
    for (unsigned i = 0; i < to.size(); ++i) {
      cpu::State& taken = to[i]->state();
      taken = from[i]->state();
      board_.attached(i, taken);
      to[i]->state_changed();
      to[i]->memory_changed(GuestPhysical(0), ~u64{0});
    }
    current_ = next;
    if (irq::MessageSink* apics = apics_of(next); apics != nullptr) TRY(board_.lend_apics(to, *apics));
    moves_.count();
    return {};
  }

  const u64 every_ns_;
  std::vector<std::unique_ptr<engine::Group>> groups_;  // null: the engine needs none
  Board& board_;
  std::mt19937_64 random_;
  std::vector<RelayVcpu*> vcpus_;  // by number
  std::optional<host::KickTimer> timer_;
  usize current_ = 0;
  u64 due_ = ~u64{0};
  engine::Counter moves_;
  std::optional<Error> failure_;
};

RelayVcpu::RelayVcpu(Relay& relay, unsigned number, std::vector<std::unique_ptr<Vcpu>> runners)
    : relay_(relay), number_(number), runners_(std::move(runners)) {
  relay_.add(*this);
  counters_.push_back({"moves", &relay_.moves()});
  for (const auto& runner : runners_) {
    for (const auto& counter : runner->counters()) counters_.push_back(counter);
  }
}

Vcpu& RelayVcpu::now() {
  return *runners_[relay_.current()];
}

Status RelayVcpu::enter_thread() {
  if (number_ == 0) TRY(relay_.begin());
  Status without;
  for (const auto& runner : runners_) {
    if (auto status = runner->enter_thread(); !status && without) without = status.error();
  }
  return without;
}

engine::Exit RelayVcpu::run() {
  if (number_ == 0) relay_.move_if_due();
  if (relay_.failure()) return {engine::ExitReason::Failed, *relay_.failure()};
  return now().run();
}

}  // namespace

bool Options::has(Kind kind) const { return std::find(engines.begin(), engines.end(), kind) != engines.end(); }

Result<std::optional<Options>> asked() {
  const char* list = std::getenv("NACRE_RELAY");
  if (list == nullptr) return std::optional<Options>();
  Options options;
  const std::string text = list;
  for (usize at = 0; at <= text.size();) {
    const usize end = std::min(text.find(',', at), text.size());
    const auto kind = engine::kind_of(text.substr(at, end - at));
    if (!kind) return Error{"NACRE_RELAY wants a list of engines, as soft,kvm."};
    TRY(engine::possible(*kind));
    options.engines.push_back(*kind);
    at = end + 1;
  }
  if (options.engines.size() < 2) return Error{"NACRE_RELAY wants at least two engines, as soft,kvm."};
  if (const char* every = std::getenv("NACRE_RELAY_EVERY"))
    options.every_ns = std::clamp<u64>(std::strtoull(every, nullptr, 10), 1, 60'000) * 1'000'000;
  return std::optional<Options>(std::move(options));
}

Result<std::unique_ptr<engine::Group>> make_group(const Options& options, const memory::AddressSpace& memory, unsigned processors,
                                                  Board& board) {
  std::vector<std::unique_ptr<engine::Group>> groups;
  for (const Kind kind : options.engines) groups.push_back(TRY(engine::make_group(kind, memory, processors, engine::Apics::Engine)));
  return std::unique_ptr<engine::Group>(std::make_unique<Relay>(options, std::move(groups), board));
}

Result<std::unique_ptr<Vcpu>> make(const Options& options, const engine::EngineContext& context) {
  auto& relay = *static_cast<Relay*>(context.group);
  std::vector<std::unique_ptr<Vcpu>> runners;
  for (usize i = 0; i < options.engines.size(); ++i) {
    engine::EngineContext own = context;
    own.group = relay.of(i);
    runners.push_back(TRY(engine::make_vcpu(options.engines[i], own)));
  }
  return std::unique_ptr<Vcpu>(std::make_unique<RelayVcpu>(relay, context.number, std::move(runners)));
}

}  // namespace nacre::relay
