#include "board/acpi/tables.hpp"

#include "base/copy.hpp"
#include "board/layout.hpp"

namespace nacre::board::acpi {
namespace {

struct [[gnu::packed]] TableHeader {  // ACPI 6.4, 5.2.6
  char signature[4];
  u32 length;
  u8 revision, checksum;
  char oem_id[6], oem_table_id[8];
  u32 oem_revision;
  char creator_id[4];
  u32 creator_revision;
};
static_assert(sizeof(TableHeader) == 36);

struct [[gnu::packed]] Rsdp {  // 5.2.5.3
  char signature[8];
  u8 checksum;
  char oem_id[6];
  u8 revision;
  u32 rsdt, length;
  u64 xsdt;
  u8 extended_checksum, reserved[3];
};
static_assert(sizeof(Rsdp) == 36);
constexpr usize kRsdpFirstPart = 20;  // what `checksum` covers

struct [[gnu::packed]] GenericAddress {  // 5.2.3.2
  u8 space, bit_width, bit_offset, access_size;
  u64 address;
};
static_assert(sizeof(GenericAddress) == 12);
constexpr u8 kSystemIo = 1;

struct [[gnu::packed]] Fadt {  // 5.2.9
  TableHeader header;
  u32 firmware_ctrl, dsdt;
  u8 reserved0, preferred_profile;
  u16 sci_interrupt;
  u32 smi_command;
  u8 acpi_enable, acpi_disable, s4bios_request, pstate_control;
  u32 pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0, gpe1;
  u8 pm1_event_length, pm1_control_length, pm2_control_length, pm_timer_length, gpe0_length, gpe1_length,
      gpe1_base, cst_control;
  u16 c2_latency, c3_latency, flush_size, flush_stride;
  u8 duty_offset, duty_width, day_alarm, month_alarm, century;
  u16 boot_architecture;
  u8 reserved1;
  u32 flags;
  GenericAddress reset_register;
  u8 reset_value;
  u16 arm_boot_architecture;
  u8 minor_version;
  u64 x_firmware_ctrl, x_dsdt;
  GenericAddress x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control, x_pm_timer,
      x_gpe0, x_gpe1, sleep_control, sleep_status;
  u64 hypervisor_vendor;
};
static_assert(sizeof(Fadt) == 276);
static_assert(__builtin_offsetof(Fadt, flags) == 112 && __builtin_offsetof(Fadt, x_firmware_ctrl) == 132);

struct FadtFlag {  // 5.2.9, table 5.10
  static constexpr u32 WBINVD = 1 << 0, PROC_C1 = 1 << 2, SLP_BUTTON = 1 << 5, FIX_RTC = 1 << 6,
                       TMR_VAL_EXT = 1 << 8, RESET_REG_SUP = 1 << 10;
};
struct BootArchitecture {  // 5.2.9.3. Without the 8042 bit Linux does not spend time looking for one.
  static constexpr u16 LEGACY_DEVICES = 1 << 0, VGA_NOT_PRESENT = 1 << 2;
};

struct [[gnu::packed]] Facs {  // 5.2.10
  char signature[4];
  u32 length, hardware_signature, waking_vector, global_lock, flags;
  u64 x_waking_vector;
  u8 version, reserved0[3];
  u32 ospm_flags;
  u8 reserved1[24];
};
static_assert(sizeof(Facs) == 64);

struct [[gnu::packed]] MadtHeader {  // 5.2.12
  TableHeader header;
  u32 local_apic, flags;
};
constexpr u32 kHas8259 = 1;
struct [[gnu::packed]] MadtLocalApic {
  u8 type, length, processor_uid, apic_id;
  u32 flags;
};
struct [[gnu::packed]] MadtIoApic {
  u8 type, length, id, reserved;
  u32 address, first_gsi;
};
struct [[gnu::packed]] MadtOverride {
  u8 type, length, bus, source;
  u32 gsi;
  u16 flags;
};
struct [[gnu::packed]] MadtLocalApicNmi {
  u8 type, length, processor_uid;
  u16 flags;
  u8 lint;
};
static_assert(sizeof(MadtLocalApic) == 8 && sizeof(MadtIoApic) == 12 && sizeof(MadtOverride) == 10 &&
              sizeof(MadtLocalApicNmi) == 6);
constexpr u16 kActiveHighEdge = 0x5, kActiveHighLevel = 0xd;  // table 5.26

struct [[gnu::packed]] Mcfg {
  TableHeader header;
  u64 reserved0;
  u64 base;
  u16 segment;
  u8 first_bus, last_bus;
  u32 reserved1;
};
static_assert(sizeof(Mcfg) == 60);

template <usize n>
void set_text(char (&field)[n], const char (&text)[n + 1]) {
  for (usize i = 0; i < n; ++i) field[i] = text[i];
}

TableHeader header(const char (&signature)[5], u8 revision, usize length) {
  TableHeader h{};
  set_text(h.signature, signature);
  h.length = static_cast<u32>(length);
  h.revision = revision;
  set_text(h.oem_id, "NACRE ");
  set_text(h.oem_table_id, "NACREPC ");
  h.oem_revision = 1;
  set_text(h.creator_id, "NACR");
  h.creator_revision = 1;
  return h;
}

GenericAddress port(u16 address, u8 bits, u8 access_size) {
  return {
      .space = kSystemIo, .bit_width = bits, .bit_offset = 0, .access_size = access_size, .address = address};
}

// What to add so that the bytes sum up to zero.
u8 checksum_of(std::span<const u8> bytes) {
  u8 sum = 0;
  for (const u8 b : bytes) sum = static_cast<u8>(sum + b);
  return static_cast<u8>(-sum);
}

// Lays tables one after another into the window.
class Builder {
 public:
  Builder(std::span<u8> to, u32 guest_base) : to_(to), guest_base_(guest_base) {}

  [[nodiscard]] bool overflowed() const { return overflowed_; }
  [[nodiscard]] std::span<u8> rest() const { return to_.subspan(used_); }
  // Starts a structure on a 16-byte (FACS: 64-byte) boundary; returns its guest-physical address.
  u32 start(usize align = 16) {
    used_ = (used_ + align - 1) & ~(align - 1);
    if (used_ > to_.size()) {
      used_ = to_.size();
      overflowed_ = true;
    }
    start_ = used_;
    return guest_base_ + static_cast<u32>(used_);
  }
  template <typename T>
  void append(const T& structure) {
    if (sizeof structure > to_.size() - used_) {
      overflowed_ = true;
      return;
    }
    copy_bytes(to_.data() + used_, &structure, sizeof structure);
    used_ += sizeof structure;
  }
  // Written by the caller into rest(); 0: it had no room.
  void skip(usize bytes) {
    used_ += bytes;
    if (bytes == 0) overflowed_ = true;
  }
  // Ends a table with a TableHeader: fills in its length and checksum.
  void finish() {
    const std::span<u8> table = to_.subspan(start_, used_ - start_);
    if (overflowed_ || table.size() < sizeof(TableHeader)) return;
    const u32 length = static_cast<u32>(table.size());
    copy_bytes(table.data() + __builtin_offsetof(TableHeader, length), &length, sizeof length);
    table[__builtin_offsetof(TableHeader, checksum)] = 0;
    table[__builtin_offsetof(TableHeader, checksum)] = checksum_of(table);
  }

 private:
  std::span<u8> to_;
  u32 guest_base_;
  usize used_ = 0, start_ = 0;
  bool overflowed_ = false;
};

u32 add_dsdt(Builder& builder, const Machine& machine) {
  const u32 at = builder.start();
  builder.append(header("DSDT", 2, 0));
  builder.skip(build_dsdt(builder.rest(), machine));
  builder.finish();
  return at;
}

u32 add_facs(Builder& builder) {
  const u32 at = builder.start(64);
  Facs facs{};
  set_text(facs.signature, "FACS");
  facs.length = sizeof facs;
  facs.version = 2;
  builder.append(facs);
  return at;
}

u32 add_fadt(Builder& builder, u32 facs, u32 dsdt) {
  const u32 at = builder.start();
  Fadt fadt{};
  fadt.header = header("FACP", 6, sizeof fadt);
  fadt.minor_version = 4;
  fadt.firmware_ctrl = facs;  // only one of the two pointers may be set, or both alike. 5.2.9
  fadt.dsdt = dsdt;
  fadt.x_dsdt = dsdt;
  fadt.sci_interrupt = kIrqSci;
  fadt.pm1a_event = kPortPm1Event;
  fadt.pm1a_control = kPortPm1Control;
  fadt.pm_timer = kPortPmTimer;
  fadt.pm1_event_length = 4;
  fadt.pm1_control_length = 2;
  fadt.pm_timer_length = 4;
  fadt.c2_latency = 0xffff;  // above the limits: no C2, no C3
  fadt.c3_latency = 0xffff;
  fadt.century = 0x32;
  fadt.boot_architecture = BootArchitecture::LEGACY_DEVICES | BootArchitecture::VGA_NOT_PRESENT;
  fadt.flags = FadtFlag::WBINVD | FadtFlag::PROC_C1 | FadtFlag::SLP_BUTTON | FadtFlag::FIX_RTC |
               FadtFlag::TMR_VAL_EXT | FadtFlag::RESET_REG_SUP;
  fadt.reset_register = port(kPortReset, 8, 1);
  fadt.reset_value = 0x06;  // reset the system, now: bits 1 and 2 of RST_CNT
  fadt.x_pm1a_event = port(kPortPm1Event, 32, 2);
  fadt.x_pm1a_control = port(kPortPm1Control, 16, 2);
  fadt.x_pm_timer = port(kPortPmTimer, 32, 3);
  builder.append(fadt);
  builder.finish();
  return at;
}

u32 add_madt(Builder& builder, const Machine& machine) {
  const u32 at = builder.start();
  builder.append(MadtHeader{header("APIC", 5, 0), static_cast<u32>(kLocalApicBase), kHas8259});
  for (unsigned i = 0; i < machine.processors; ++i) {
    builder.append(MadtLocalApic{0, sizeof(MadtLocalApic), static_cast<u8>(i), static_cast<u8>(i), 1});
  }
  builder.append(MadtIoApic{1, sizeof(MadtIoApic), 0, 0, static_cast<u32>(kIoApicBase), 0});
  builder.append(MadtOverride{2, sizeof(MadtOverride), 0, kIrqTimer, kGsiTimer, kActiveHighEdge});
  builder.append(MadtOverride{2, sizeof(MadtOverride), 0, kIrqSci, kIrqSci, kActiveHighLevel});
  builder.append(MadtLocalApicNmi{4, sizeof(MadtLocalApicNmi), 0xff, kActiveHighEdge, 1});
  builder.finish();
  return at;
}

// Only buses that there can be: Linux reads a register of every place on each.
u32 add_mcfg(Builder& builder, const Machine& machine) {
  const u32 at = builder.start();
  builder.append(Mcfg{header("MCFG", 1, sizeof(Mcfg)), 0, kEcamBase, 0, 0, machine.last_bus, 0});
  builder.finish();
  return at;
}

u32 add_xsdt(Builder& builder, std::span<const u32> tables) {
  const u32 at = builder.start();
  builder.append(header("XSDT", 1, 0));
  for (const u32 table : tables) builder.append(u64{table});
  builder.finish();
  return at;
}

void write_rsdp(std::span<u8> to, u32 xsdt) {
  Rsdp rsdp{};
  set_text(rsdp.signature, "RSD PTR ");
  set_text(rsdp.oem_id, "NACRE ");
  rsdp.revision = 2;
  rsdp.length = sizeof rsdp;
  rsdp.xsdt = xsdt;
  copy_bytes(to.data(), &rsdp, sizeof rsdp);
  to[__builtin_offsetof(Rsdp, checksum)] = checksum_of(to.first(kRsdpFirstPart));
  to[__builtin_offsetof(Rsdp, extended_checksum)] = checksum_of(to.first(sizeof rsdp));
}

}  // namespace

Status build_tables(std::span<u8> to, u32 guest_base, const Machine& machine) {
  Builder builder(to, guest_base);
  builder.append(Rsdp{});
  const u32 dsdt = add_dsdt(builder, machine);
  const u32 facs = add_facs(builder);
  const u32 tables[] = {add_fadt(builder, facs, dsdt), add_madt(builder, machine), add_mcfg(builder, machine)};
  const u32 xsdt = add_xsdt(builder, tables);
  if (builder.overflowed()) {
    return Error("the ACPI tables need more room than ")
        .append_number(to.size() / kKiB)
        .append(" KiB; give the guest fewer processors");
  }
  write_rsdp(to, xsdt);
  return {};
}

}  // namespace nacre::board::acpi
