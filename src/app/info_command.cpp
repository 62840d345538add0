#include "app/info_command.hpp"

#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "app/version.hpp"
#include "cpu/host_cpuid.hpp"
#include "cpu/model.hpp"
#include "engine/factory.hpp"

namespace nacre::app {
namespace {

bool hardware_virtualization() {
  const cpu::NativeCpuid cpuid;
  constexpr u32 kVmx = 1 << 5, kSvm = 1 << 2;
  return (cpuid.leaf(1, 0).ecx & kVmx) != 0 || (cpuid.leaf(0x80000001, 0).ecx & kSvm) != 0;
}

std::string kvm_state() {
  if (access("/dev/kvm", F_OK) != 0) return "no /dev/kvm";
  if (access("/dev/kvm", R_OK | W_OK) != 0) return "/dev/kvm is there, but not for this user";
  if (const auto status = engine::possible(engine::Kind::Kvm); !status)
    return std::string("/dev/kvm cannot be used: ").append(status.error().message());
  return "/dev/kvm is usable";
}

void print_brand() {
  const cpu::NativeCpuid cpuid;
  char brand[49] = {};
  for (u32 i = 0; i < 3; ++i) {
    const cpu::CpuidLeaf leaf = cpuid.leaf(0x80000002 + i, 0);
    const u32 words[4] = {leaf.eax, leaf.ebx, leaf.ecx, leaf.edx};
    memcpy(brand + static_cast<usize>(16 * i), words, 16);
  }
  const char* start = brand;
  while (*start == ' ') ++start;
  std::printf("host processor   %s\n", *start != 0 ? start : "unnamed");
}

void print_models() {
  std::printf("CPU models      ");
  for (const cpu::Level level : {cpu::Level::V2, cpu::Level::V3, cpu::Level::V4, cpu::Level::Host}) {
    cpu::Model::Options options;
    options.level = level;
    if (cpu::Model::create(cpu::NativeCpuid(), options)) std::printf(" %s", cpu::Model::name(level));
  }
  std::printf("\n");
}

}  // namespace

InfoCommand::InfoCommand(CLI::App& app)
    : command_(app.add_subcommand("info",
                                  "Show which engine this machine gets and why, CPU models, and versions")) {}

int InfoCommand::run(const host::ClockPair& early) {
  utsname host = {};
  uname(&host);
  const engine::Choice choice = engine::choose();
  std::printf("nacre            %s\n", kVersion);
  std::printf("engine           %s: %s\n", engine::name_of(choice.kind), choice.reason.c_str());
  std::printf("virtualization   %s; %s\n",
              hardware_virtualization() ? "the processor has it (VMX or SVM)"
                                        : "the processor shows neither VMX nor SVM",
              kvm_state().c_str());
  print_brand();
  std::printf("TSC              %.3f MHz\n", static_cast<double>(host::tsc_frequency(early)) / 1e6);
  print_models();
  std::printf("host kernel      %s %s\n", host.sysname, host.release);
  return 0;
}

}  // namespace nacre::app
