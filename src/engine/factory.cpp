#include "engine/factory.hpp"

#include "engine/interp/interp_vcpu.hpp"
#include "engine/kvm/kvm.hpp"
#ifdef NACRE_HAS_SOFT
#include "engine/soft/soft.hpp"
#endif

namespace nacre::engine {

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::Soft:
      return "soft";
    case Kind::Kvm:
      return "kvm";
    default:
      return "interp";
  }
}

std::optional<Kind> kind_of(std::string_view name) {
  if (name == "interp") return Kind::Interp;
#ifdef NACRE_HAS_SOFT
  if (name == "soft") return Kind::Soft;
#endif
  if (name == "kvm") return Kind::Kvm;
  return std::nullopt;
}

Choice choose() {
  const kvm::Fitness fitness = kvm::fitness();
  if (fitness.fast) return {Kind::Kvm, fitness.reason};
#ifdef NACRE_HAS_SOFT
  return {Kind::Soft, fitness.reason};
#else
  return {Kind::Interp, "this build has no other engine"};
#endif
}

Status possible(Kind kind) {
  if (kind != Kind::Kvm) return {};
  const kvm::Fitness fitness = kvm::fitness();
  if (!fitness.usable) return fitness.why_not;
  return {};
}

Result<Processor> processor_of(Kind kind) {
  if (kind == Kind::Kvm && kvm::fitness().fast) return Processor{TRY(kvm::host_cpuid()), cpu::Execution::Direct};
  return Processor{std::make_unique<cpu::NativeCpuid>(), cpu::Execution::Translated};
}

bool has_local_apics(Kind kind) { return kind == Kind::Kvm && kvm::has_local_apics(); }

host::ThreadRole role_of(Kind kind) {
  if (kind != Kind::Kvm) return host::ThreadRole::Processor;
  return kvm::fitness().fast ? host::ThreadRole::KvmProcessor : host::ThreadRole::KvmUserProcessor;
}

Result<std::unique_ptr<Group>> make_group([[maybe_unused]] Kind kind,
                                          [[maybe_unused]] const memory::AddressSpace& memory,
                                          [[maybe_unused]] unsigned processors, Apics apics) {
#ifdef NACRE_HAS_SOFT
  if (kind == Kind::Soft) return soft::make_group(memory, processors);
#endif
  if (kind == Kind::Kvm) return kvm::make_group(memory, apics == Apics::Engine);
  return std::unique_ptr<Group>();
}

Result<std::unique_ptr<Vcpu>> make_vcpu(Kind kind, const EngineContext& context) {
#ifdef NACRE_HAS_SOFT
  if (kind == Kind::Soft) return soft::make(context);
#endif
  if (kind == Kind::Interp) return make_interp(context);
  if (kind == Kind::Kvm) return kvm::make(context);
  return Error{"This build of Nacre has no such engine; use --engine interp."};
}

}  // namespace nacre::engine
