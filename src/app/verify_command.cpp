#include "app/verify_command.hpp"

#include "app/exit_status.hpp"
#include "host/fd.hpp"

namespace nacre::app {
namespace {

constexpr const char* kFooter =
    R"(The guest runs as under nacre boot; the second engine does each instruction again, in a
second copy of the guest's memory, and the first difference ends the run. About a hundred times slower than --engine soft;
with interp,kvm, which needs a processor with VT-x or AMD-V, some ten thousand times.

Exit status:
  14   the engines diverged; the report is on stderr
  other statuses are those of nacre boot, for how the guest ended, with no difference found

Examples:
  nacre verify vmlinuz --initrd initrd.img --append 'console=ttyS0 quiet panic=-1'
  nacre verify kernel.elf --debug-exit --blocks 1
  nacre verify --engines interp,kvm kernel.elf --debug-exit
  nacre verify kernel.elf --plant bswap    must end with status 14, if the kernel ever does a bswap
)";

void tell(const std::string& text) {
  host::write_all(STDERR_FILENO, {reinterpret_cast<const u8*>(text.data()), text.size()});
}

std::string summary(const std::string& kernel, const lockstep::Outcome& outcome, bool by_kvm) {
  const auto part = [](u64 count, const char* what) { return std::to_string(count) + " " + what; };
  std::string text = "nacre: verify " + kernel + ": ";
  text += outcome.diverged ? "DIVERGED" : "no difference";
  text += " in " + part(outcome.instructions, "instructions, ") + part(outcome.steps, "steps, ") +
          part(outcome.stops, "of them stopped at random, ") + part(outcome.interrupts, "interrupts, ") +
          part(outcome.exceptions, "exceptions; ") +
          part(outcome.memory_checks, "comparisons of all memory.\n");
  if (by_kvm) {
    return text + "nacre: verify: allowed: " + part(outcome.undefined_flags, "undefined flags, ") + part(outcome.accessed_bits, "accessed bits, ") +
           part(outcome.dirty_bits, "dirty bits; ") + part(outcome.taken_over, "instructions not compared.\n");
  }
  text += "nacre: verify: allowed: " + part(outcome.dead_flags, "dead flags, ") +
          part(outcome.undefined_flags, "undefined flags, ") +
          part(outcome.frame_flags, "flags in frames, ") + part(outcome.accessed_bits, "accessed bits, ") +
          part(outcome.dirty_bits, "dirty bits.\n");
  return text;
}

}  // namespace

VerifyCommand::VerifyCommand(CLI::App& app)
    : BootCommand(app.add_subcommand(
          "verify", "Boot kernels under two engines in lock step; report the first difference")) {
  command_->footer(kFooter);
  command_->add_option("KERNEL", kernels_, "Kernels, as nacre boot takes them; one after the other")
      ->required();
  command_->add_option("--engines", engines_, "The engine that runs the guest and the one that follows")
      ->type_name("A,B")
      ->check(CLI::IsMember({"soft,interp", "interp,kvm"}))
      ->capture_default_str();
  command_
      ->add_option("--blocks", options_.blocks,
                   "With soft: blocks of code between two comparisons, 1 to this many, at random")
      ->type_name("N")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command_
      ->add_option("--stops", options_.stop_every,
                   "With soft: stop it at a random instruction of the host in one step of N; 0: never")
      ->type_name("N")
      ->capture_default_str();
  command_
      ->add_option("--memory-every", options_.memory_every,
                   "Steps between two comparisons of all memory; 0: at the end only")
      ->type_name("N")
      ->capture_default_str();
  command_->add_option("--seed", options_.seed, "What the random choices start from")
      ->type_name("N")
      ->capture_default_str();
  command_
      ->add_option("--plant", options_.mistranslate,
                   "Let the first engine do this mnemonic wrongly, to see that it is found")
      ->type_name("MNEMONIC");
}

int VerifyCommand::run(const host::ClockPair& early) {
  int status = 0;
  for (const std::string& kernel : kernels_) {
    status = verify(early, kernel);
    if (status != ExitStatus::power_off) break;
  }
  return status;
}

int VerifyCommand::verify(const host::ClockPair& early, const std::string& kernel) {
  lockstep::Outcome outcome;
  options_.by_kvm = engines_ == "interp,kvm";
  const auto status = try_run(early, kernel, &options_, &outcome);
  if (!status) {
    complain(status.error());
    return ExitStatus::bad_input;
  }
  tell(outcome.report + summary(kernel, outcome, options_.by_kvm));
  return outcome.diverged ? ExitStatus::diverged : status.value();
}

}  // namespace nacre::app
