// Operation to handler. What is missing here raises #UD in the guest and is reported to the host.
#include "interp/handlers.hpp"

namespace nacre::interp {
namespace {

using x86::Operation;

constexpr usize kOperations = static_cast<usize>(Operation::Vzeroall) + 1;

struct Row {
  Operation operation;
  Handler handler;
};

namespace h = handlers;

constexpr Row kRows[] = {
    {Operation::Add, h::add}, {Operation::Or, h::or_}, {Operation::Adc, h::adc}, {Operation::Sbb, h::sbb},
    {Operation::And, h::and_}, {Operation::Sub, h::sub}, {Operation::Xor, h::xor_}, {Operation::Cmp, h::cmp},
    {Operation::Test, h::test}, {Operation::Not, h::not_}, {Operation::Neg, h::neg}, {Operation::Inc, h::inc},
    {Operation::Dec, h::dec}, {Operation::Mul, h::mul}, {Operation::Imul, h::imul}, {Operation::Div, h::div},
    {Operation::Idiv, h::idiv}, {Operation::Rol, h::rol}, {Operation::Ror, h::ror}, {Operation::Rcl, h::rcl},
    {Operation::Rcr, h::rcr}, {Operation::Shl, h::shl}, {Operation::Shr, h::shr}, {Operation::Sar, h::sar},
    {Operation::Shld, h::shld}, {Operation::Shrd, h::shrd}, {Operation::Bt, h::bt}, {Operation::Bts, h::bts},
    {Operation::Btr, h::btr}, {Operation::Btc, h::btc}, {Operation::Bsf, h::bsf}, {Operation::Bsr, h::bsr},
    {Operation::Tzcnt, h::tzcnt}, {Operation::Lzcnt, h::lzcnt}, {Operation::Popcnt, h::popcnt},
    {Operation::Adcx, h::adcx}, {Operation::Adox, h::adox}, {Operation::Crc32, h::crc32},
    {Operation::Andn, h::andn}, {Operation::Bextr, h::bextr}, {Operation::Blsi, h::blsi},
    {Operation::Blsmsk, h::blsmsk}, {Operation::Blsr, h::blsr}, {Operation::Bzhi, h::bzhi},
    {Operation::Mulx, h::mulx}, {Operation::Pdep, h::pdep}, {Operation::Pext, h::pext}, {Operation::Rorx, h::rorx},
    {Operation::Sarx, h::sarx}, {Operation::Shlx, h::shlx}, {Operation::Shrx, h::shrx}, {Operation::Aaa, h::aaa},
    {Operation::Aas, h::aas}, {Operation::Aam, h::aam}, {Operation::Aad, h::aad}, {Operation::Daa, h::daa},
    {Operation::Das, h::das}, {Operation::Cbw, h::cbw}, {Operation::Cwd, h::cwd},

    {Operation::Mov, h::mov}, {Operation::Movzx, h::movzx}, {Operation::Movsx, h::movsx},
    {Operation::Movsxd, h::movsx}, {Operation::Movbe, h::movbe}, {Operation::Movnti, h::movzx},
    {Operation::Lea, h::lea}, {Operation::Xchg, h::xchg}, {Operation::Bswap, h::bswap},
    {Operation::Cmpxchg, h::cmpxchg}, {Operation::Cmpxchg8b16b, h::cmpxchg8b16b}, {Operation::Xadd, h::xadd},
    {Operation::Setcc, h::setcc}, {Operation::Cmovcc, h::cmovcc}, {Operation::Lahf, h::lahf},
    {Operation::Sahf, h::sahf}, {Operation::Xlat, h::xlat}, {Operation::Salc, h::salc},
    {Operation::Lds, h::load_far_pointer}, {Operation::Les, h::load_far_pointer},
    {Operation::Lfs, h::load_far_pointer}, {Operation::Lgs, h::load_far_pointer},
    {Operation::Lss, h::load_far_pointer}, {Operation::Movdiri, h::movzx}, {Operation::Movdir64b, h::movdir64b},

    {Operation::Push, h::push}, {Operation::Pop, h::pop}, {Operation::Pusha, h::pusha}, {Operation::Popa, h::popa},
    {Operation::Pushf, h::pushf}, {Operation::Popf, h::popf}, {Operation::Enter, h::enter},
    {Operation::Leave, h::leave},

    {Operation::Call, h::call}, {Operation::CallFar, h::call_far}, {Operation::Jmp, h::jmp},
    {Operation::JmpFar, h::jmp_far}, {Operation::Jcc, h::jcc}, {Operation::Jrcxz, h::jrcxz},
    {Operation::Loop, h::loop}, {Operation::Loope, h::loope}, {Operation::Loopne, h::loopne},
    {Operation::Ret, h::ret}, {Operation::RetFar, h::ret_far}, {Operation::Iret, h::iret}, {Operation::Int, h::int_},
    {Operation::Int3, h::int3}, {Operation::Int1, h::int1}, {Operation::Into, h::into}, {Operation::Bound, h::bound},
    {Operation::Syscall, h::syscall}, {Operation::Sysret, h::sysret}, {Operation::Sysenter, h::sysenter},
    {Operation::Sysexit, h::sysexit},

    {Operation::Movs, h::movs}, {Operation::Cmps, h::cmps}, {Operation::Stos, h::stos}, {Operation::Lods, h::lods},
    {Operation::Scas, h::scas}, {Operation::In, h::in}, {Operation::Out, h::out}, {Operation::Ins, h::ins},
    {Operation::Outs, h::outs},

    {Operation::Clc, h::clc}, {Operation::Stc, h::stc}, {Operation::Cmc, h::cmc}, {Operation::Cld, h::cld},
    {Operation::Std, h::std_}, {Operation::Cli, h::cli}, {Operation::Sti, h::sti}, {Operation::Stac, h::stac},
    {Operation::Clac, h::clac},

    {Operation::Nop, h::nop}, {Operation::Pause, h::nop}, {Operation::Prefetch, h::nop}, {Operation::Endbr, h::nop},
    {Operation::Rdsspd, h::nop}, {Operation::Ud0, h::undefined}, {Operation::Ud1, h::undefined},
    {Operation::Ud2, h::undefined}, {Operation::Lfence, h::nop}, {Operation::Mfence, h::nop},
    {Operation::Sfence, h::nop}, {Operation::Serialize, h::nop}, {Operation::Clflush, h::clflush},
    {Operation::Clflushopt, h::clflush}, {Operation::Clwb, h::clflush}, {Operation::Invd, h::flush_caches},
    {Operation::Wbinvd, h::flush_caches}, {Operation::Wbnoinvd, h::flush_caches},

    {Operation::Arpl, h::arpl}, {Operation::Lar, h::lar}, {Operation::Lsl, h::lsl}, {Operation::Verr, h::verr},
    {Operation::Verw, h::verw}, {Operation::Lgdt, h::lgdt}, {Operation::Sgdt, h::sgdt}, {Operation::Lidt, h::lidt},
    {Operation::Sidt, h::sidt}, {Operation::Lldt, h::lldt}, {Operation::Sldt, h::sldt}, {Operation::Ltr, h::ltr},
    {Operation::Str, h::str}, {Operation::Lmsw, h::lmsw}, {Operation::Smsw, h::smsw}, {Operation::Clts, h::clts},
    {Operation::MovCr, h::mov_cr}, {Operation::MovDr, h::mov_dr}, {Operation::Invlpg, h::invlpg},
    {Operation::Invpcid, h::invpcid}, {Operation::Rdmsr, h::rdmsr}, {Operation::Wrmsr, h::wrmsr},
    {Operation::Rdtsc, h::rdtsc}, {Operation::Rdtscp, h::rdtscp}, {Operation::Rdpmc, h::rdpmc},
    {Operation::Cpuid, h::cpuid}, {Operation::Xgetbv, h::xgetbv}, {Operation::Xsetbv, h::xsetbv},
    {Operation::Rdfsbase, h::rdfsbase}, {Operation::Rdgsbase, h::rdgsbase}, {Operation::Wrfsbase, h::wrfsbase},
    {Operation::Wrgsbase, h::wrgsbase}, {Operation::Swapgs, h::swapgs}, {Operation::Rdpkru, h::rdpkru},
    {Operation::Wrpkru, h::wrpkru}, {Operation::Rdpid, h::rdpid}, {Operation::Rdrand, h::rdrand},
    {Operation::Rdseed, h::rdseed}, {Operation::Hlt, h::hlt}, {Operation::Monitor, h::monitor},
    {Operation::Mwait, h::mwait},

    // Not for guests of ours: no nested virtualization, no SMM, enclaves, TXT, shadow stacks, transactions.
    {Operation::Rsm, h::undefined}, {Operation::Vmcall, h::undefined}, {Operation::Vmmcall, h::undefined},
    {Operation::Vmfunc, h::undefined}, {Operation::Vmx, h::undefined}, {Operation::Svm, h::undefined},
    {Operation::Getsec, h::undefined}, {Operation::Encls, h::undefined}, {Operation::Enclu, h::undefined},
    {Operation::Enclv, h::undefined}, {Operation::Cet, h::undefined}, {Operation::Xabort, h::undefined},
    {Operation::Xbegin, h::undefined}, {Operation::Xend, h::undefined}, {Operation::Xtest, h::undefined},
    {Operation::Umonitor, h::undefined}, {Operation::Umwait, h::undefined}, {Operation::Tpause, h::undefined},

    {Operation::Fxsave, h::fxsave}, {Operation::Fxrstor, h::fxrstor}, {Operation::Xsave, h::xsave},
    {Operation::Xsaveopt, h::xsave}, {Operation::Xsavec, h::xsave}, {Operation::Xsaves, h::xsave},
    {Operation::Xrstor, h::xrstor}, {Operation::Xrstors, h::xrstor}, {Operation::Ldmxcsr, h::ldmxcsr},
    {Operation::Stmxcsr, h::stmxcsr}, {Operation::Fwait, h::fwait},
    {Operation::Fldenv, h::simd}, {Operation::Fnstenv, h::simd}, {Operation::Fnsave, h::simd},
    {Operation::Frstor, h::simd}, {Operation::X87, h::simd}, {Operation::Mmx, h::simd}, {Operation::Vector, h::simd},
    {Operation::Emms, h::simd}, {Operation::Maskmov, h::simd}, {Operation::VectorMasked, h::simd},
    {Operation::Gather, h::simd}, {Operation::Scatter, h::simd}, {Operation::GatherPrefetch, h::nop},
    {Operation::VectorCompress, h::simd}, {Operation::VectorExpand, h::simd}, {Operation::Vzeroupper, h::simd},
    {Operation::Vzeroall, h::simd},
};

struct Table {
  Handler handler[kOperations] = {};
};

constexpr Table build() {
  Table table;
  for (const Row& row : kRows) table.handler[static_cast<usize>(row.operation)] = row.handler;
  return table;
}

constexpr Table kTable = build();

}  // namespace

Handler handler_for(Operation operation) {
  const auto number = static_cast<usize>(operation);
  return number < kOperations ? kTable.handler[number] : nullptr;
}

}  // namespace nacre::interp
