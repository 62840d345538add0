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

class Groups final : public engine::Group {
 public:
  explicit Groups(std::vector<std::unique_ptr<engine::Group>> groups) : groups_(std::move(groups)) {}
  [[nodiscard]] engine::Group* of(usize engine) const { return groups_[engine].get(); }

  bool divert_writes(GuestPhysical address, int event) override {
    return std::any_of(groups_.begin(), groups_.end(),
                       [&](const auto& group) { return group != nullptr && group->divert_writes(address, event); });
  }
  void give_back_writes(GuestPhysical address, int event) override {
    for (const auto& group : groups_) {
      if (group != nullptr) group->give_back_writes(address, event);
    }
  }

 private:
  std::vector<std::unique_ptr<engine::Group>> groups_;  // null: the engine needs none
};

u64 monotonic() {
  timespec time = {};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<u64>(time.tv_sec) * 1'000'000'000 + static_cast<u64>(time.tv_nsec);
}

class RelayVcpu final : public Vcpu {
 public:
  struct Runner {
    std::unique_ptr<Vcpu> vcpu;
    irq::MessageSink* apics = nullptr;  // its engine's own
  };

  RelayVcpu(const Options& options, std::vector<Runner> runners, Board& board)
      : every_ns_(options.every_ns), runners_(std::move(runners)), board_(board), random_(std::random_device{}()) {
    counters_.push_back({"moves", &moves_});
    for (const Runner& runner : runners_) {
      for (const auto& counter : runner.vcpu->counters()) counters_.push_back(counter);
    }
  }

  RelayVcpu(const RelayVcpu&) = delete;
  RelayVcpu& operator=(const RelayVcpu&) = delete;
  ~RelayVcpu() override {
    std::fprintf(stderr, "nacre: The processor has changed engines %llu times.\n", static_cast<unsigned long long>(moves_.value()));
  }

  Status enter_thread() override {
    timer_.emplace(TRY(host::KickTimer::create()));
    Status without;
    for (const Runner& runner : runners_) {
      if (auto status = runner.vcpu->enter_thread(); !status && without) without = status.error();
    }
    if (runners_.front().apics != nullptr) {
      if (auto status = board_.lend_apic(*runners_.front().vcpu, *runners_.front().apics); !status) failure_ = status.error();
    }
    plan();
    return without;
  }

  engine::Exit run() override {
    if (monotonic() >= due_) {
      if (auto status = move(); !status) failure_ = status.error();
      plan();
    }
    if (failure_) return {engine::ExitReason::Failed, *failure_};
    return now().run();
  }
  // One that does not run just now gives a call of run() for nothing, later.
  void kick() override {
    for (const Runner& runner : runners_) runner.vcpu->kick();
  }
  cpu::State& state() override { return now().state(); }
  const cpu::State& glance() override { return now().glance(); }
  void state_changed() override { now().state_changed(); }
  void activity_changed() override { now().activity_changed(); }
  void memory_changed(GuestPhysical address, u64 bytes) override { now().memory_changed(address, bytes); }
  [[nodiscard]] std::span<const engine::NamedCounter> counters() const override { return counters_; }

 private:
  [[nodiscard]] Vcpu& now() { return *runners_[current_].vcpu; }

  void plan() {
    const u64 wait = std::uniform_int_distribution<u64>(0, 2 * every_ns_)(random_);
    due_ = monotonic() + wait;
    timer_->arm_after(wait);
  }

  Status move() {
    Runner& from = runners_[current_];
    current_ = (current_ + 1) % runners_.size();
    Runner& to = runners_[current_];
    const cpu::State& left = from.vcpu->state();
    if (from.apics != nullptr) TRY(board_.take_back_apic(*from.vcpu));
    cpu::State& taken = to.vcpu->state();
    taken = left;
    board_.attached(taken);
    to.vcpu->state_changed();
    to.vcpu->memory_changed(GuestPhysical(0), ~u64{0});
    if (to.apics != nullptr) TRY(board_.lend_apic(*to.vcpu, *to.apics));
    moves_.count();
    return {};
  }

  const u64 every_ns_;
  std::vector<Runner> runners_;
  Board& board_;
  std::mt19937_64 random_;
  std::optional<host::KickTimer> timer_;
  usize current_ = 0;
  u64 due_ = ~u64{0};
  engine::Counter moves_;
  std::vector<engine::NamedCounter> counters_;
  std::optional<Error> failure_;
};

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

Result<std::unique_ptr<engine::Group>> make_group(const Options& options, const memory::AddressSpace& memory) {
  std::vector<std::unique_ptr<engine::Group>> groups;
  for (const Kind kind : options.engines) groups.push_back(TRY(engine::make_group(kind, memory, 1, engine::Apics::Engine)));
  return std::unique_ptr<engine::Group>(std::make_unique<Groups>(std::move(groups)));
}

Result<std::unique_ptr<Vcpu>> make(const Options& options, const engine::EngineContext& context, Board& board) {
  const auto& groups = *static_cast<const Groups*>(context.group);
  std::vector<RelayVcpu::Runner> runners;
  for (usize i = 0; i < options.engines.size(); ++i) {
    engine::EngineContext own = context;
    own.group = groups.of(i);
    RelayVcpu::Runner runner;
    runner.vcpu = TRY(engine::make_vcpu(options.engines[i], own));
    runner.apics = own.group == nullptr ? nullptr : own.group->local_apics();
    runners.push_back(std::move(runner));
  }
  return std::unique_ptr<Vcpu>(std::make_unique<RelayVcpu>(options, std::move(runners), board));
}

}  // namespace nacre::relay
