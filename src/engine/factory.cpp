#include "engine/factory.hpp"

#include "engine/interp/interp_vcpu.hpp"
#ifdef NACRE_HAS_SOFT
#include "engine/soft/soft.hpp"
#endif

namespace nacre::engine {

const char* name_of(Kind kind) {
  return kind == Kind::Soft ? "soft" : "interp";
}

std::optional<Kind> kind_of(std::string_view name) {
  if (name == "interp") return Kind::Interp;
#ifdef NACRE_HAS_SOFT
  if (name == "soft") return Kind::Soft;
#endif
  return std::nullopt;
}

Choice choose() {
#ifdef NACRE_HAS_SOFT
  return {Kind::Soft,
          "the engine for hardware virtualization (kvm) is not in this version, and the translator runs "
          "everywhere"};
#else
  return {Kind::Interp, "this build has no other engine"};
#endif
}

Result<std::unique_ptr<Group>> make_group([[maybe_unused]] Kind kind,
                                          [[maybe_unused]] const memory::AddressSpace& memory,
                                          [[maybe_unused]] unsigned processors) {
#ifdef NACRE_HAS_SOFT
  if (kind == Kind::Soft) return soft::make_group(memory, processors);
#endif
  return std::unique_ptr<Group>();
}

Result<std::unique_ptr<Vcpu>> make_vcpu(Kind kind, const EngineContext& context) {
#ifdef NACRE_HAS_SOFT
  if (kind == Kind::Soft) return soft::make(context);
#endif
  if (kind == Kind::Interp) return make_interp(context);
  return Error{"This build of Nacre has no such engine; use --engine interp."};
}

}  // namespace nacre::engine
