// The tables by the rules of the specification, and by the eyes of the reference disassembler and compiler
// (`iasl`, Debian package acpica-tools), when it is installed.
#include "board/acpi/tables.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "board/acpi/aml.hpp"
#include "board/layout.hpp"

namespace nacre::board::acpi {
namespace {

constexpr u32 kBase = 0xe0000;

class Tables {
 public:
  explicit Tables(unsigned processors) : bytes_(kTablesBytes) {
    const Status status = build_tables(bytes_, kBase, {.processors = processors, .serial_ports = 2, .last_bus = 15});
    NACRE_CHECK(status.ok());
  }
  template <typename T>
  T at(u64 address) const {
    T value;
    std::memcpy(&value, bytes_.data() + (address - kBase), sizeof value);
    return value;
  }
  std::string text(u64 address, usize n) const {
    return {reinterpret_cast<const char*>(bytes_.data()) + (address - kBase), n};
  }
  u8 sum(u64 address, usize n) const {
    u8 sum = 0;
    for (usize i = 0; i < n; ++i) sum = static_cast<u8>(sum + at<u8>(address + i));
    return sum;
  }
  // Address by signature, as a guest finds them.
  std::map<std::string, u64> all() const {
    std::map<std::string, u64> found;
    const u64 xsdt = at<u64>(kBase + 24);
    found["XSDT"] = xsdt;
    for (u64 i = 36; i < at<u32>(xsdt + 4); i += 8) {
      const u64 table = at<u64>(xsdt + i);
      found[text(table, 4)] = table;
    }
    found["DSDT"] = at<u64>(found.at("FACP") + 140);
    found["FACS"] = at<u32>(found.at("FACP") + 36);
    return found;
  }

 private:
  std::vector<u8> bytes_;
};

TEST(AcpiTables, root_pointer_is_where_a_guest_looks_and_sums_up_to_zero) {
  const Tables tables(1);
  EXPECT_EQ(tables.text(kBase, 8), "RSD PTR ");
  EXPECT_EQ(tables.sum(kBase, 20), 0);
  EXPECT_EQ(tables.sum(kBase, 36), 0);
  EXPECT_EQ(tables.at<u8>(kBase + 15), 2);
}

TEST(AcpiTables, every_table_sums_up_to_zero) {
  const Tables tables(4);
  const auto all = tables.all();
  ASSERT_EQ(all.size(), 6u);
  for (const auto& [signature, address] : all) {
    EXPECT_EQ(tables.text(address, 4), signature);
    EXPECT_EQ(address % 16, 0u);
    const bool has_checksum = signature != "FACS";
    EXPECT_TRUE(!has_checksum || tables.sum(address, tables.at<u32>(address + 4)) == 0) << signature;
  }
  EXPECT_EQ(all.at("FACS") % 64, 0u);
}

TEST(AcpiTables, fadt_names_the_ports_the_board_has) {
  const Tables tables(1);
  const u64 fadt = tables.all().at("FACP");
  EXPECT_EQ(tables.at<u32>(fadt + 4), 276u);
  EXPECT_EQ(tables.at<u16>(fadt + 46), 9);              // SCI_INT
  EXPECT_EQ(tables.at<u32>(fadt + 48), 0u);             // SMI_CMD: always in ACPI mode
  EXPECT_EQ(tables.at<u32>(fadt + 56), kPortPm1Event);  // PM1a_EVT_BLK
  EXPECT_EQ(tables.at<u32>(fadt + 64), kPortPm1Control);
  EXPECT_EQ(tables.at<u32>(fadt + 76), kPortPmTimer);
  EXPECT_EQ(tables.at<u8>(fadt + 108), 0x32);    // CENTURY
  EXPECT_EQ(tables.at<u16>(fadt + 109) & 2, 0);  // no 8042 to look for
  EXPECT_EQ(tables.at<u64>(fadt + 120), u64{kPortReset});
  EXPECT_EQ(tables.at<u8>(fadt + 128), 6);
}

TEST(AcpiTables, madt_lists_every_processor_and_the_timer_override) {
  const Tables tables(3);
  const u64 madt = tables.all().at("APIC");
  EXPECT_EQ(tables.at<u32>(madt + 36), kLocalApicBase);
  std::map<u8, unsigned> count;
  for (u64 at = 44; at < tables.at<u32>(madt + 4); at += tables.at<u8>(madt + at + 1)) {
    const u8 type = tables.at<u8>(madt + at);
    const u8 subject = tables.at<u8>(madt + at + 3);  // APIC id; source of an override
    EXPECT_TRUE(type != 0 || subject == count[type]);
    EXPECT_TRUE(type != 2 || subject != 0 || tables.at<u32>(madt + at + 4) == 2);
    ++count[type];
    ASSERT_GT(tables.at<u8>(madt + at + 1), 0);
  }
  EXPECT_EQ(count, (std::map<u8, unsigned>{{0, 3}, {1, 1}, {2, 2}, {4, 1}}));
}

TEST(AcpiTables, mcfg_gives_the_ecam_window) {
  const Tables tables(1);
  const u64 mcfg = tables.all().at("MCFG");
  EXPECT_EQ(tables.at<u64>(mcfg + 44), kEcamBase);
  EXPECT_EQ(tables.at<u8>(mcfg + 55), 15);
}

TEST(AcpiTables, too_small_a_window_is_an_error_at_every_size) {
  std::vector<u8> whole(kTablesBytes);
  ASSERT_TRUE(build_tables(whole, kBase, {.processors = 2}).ok());
  usize smallest = 0;
  for (usize size = 0; size < 4096 && smallest == 0; ++size) {
    std::vector<u8> bytes(size);
    if (build_tables(bytes, kBase, {.processors = 2}).ok()) smallest = size;
  }
  EXPECT_GT(smallest, 1000u);
  EXPECT_LT(smallest, 2500u);
}

TEST(AmlWriter, writes_integers_in_their_shortest_form_and_lengths_that_count_themselves) {
  std::vector<u8> bytes(64);
  AmlWriter aml(bytes);
  aml.integer(1);
  aml.integer(0x12);
  aml.integer(0x1234);
  aml.integer(0x123456);
  aml.scope("\\_SB_.PCI0", [&] { aml.integer(0); });
  const std::vector<u8> expected = {0x01, 0x0a, 0x12, 0x0b, 0x34, 0x12, 0x0c, 0x56, 0x34,
                                    0x12, 0x00, 0x10, 0x8e, 0x00, 0x00, '\\', 0x2e, '_',
                                    'S',  'B',  '_',  'P',  'C',  'I',  '0',  0x00};
  bytes.resize(aml.size());
  EXPECT_EQ(bytes, expected);
}

// Runs a command; its output, both streams.
std::string output_of(const std::string& command) {
  std::string output;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  char buffer[4096];
  while (usize n = std::fread(buffer, 1, sizeof buffer, pipe)) output.append(buffer, n);
  pclose(pipe);
  return output;
}

TEST(AcpiTables, the_reference_compiler_finds_nothing_to_complain_about) {
  if (std::system("command -v iasl >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "no iasl: apt install acpica-tools";
  const auto folder = std::filesystem::temp_directory_path() / ("nacre-acpi-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  const Tables tables(32);
  for (const auto& [signature, address] : tables.all()) {
    if (signature == "XSDT") continue;
    const auto file = folder / signature;
    std::ofstream(file.string() + ".aml", std::ios::binary)
        << tables.text(address, tables.at<u32>(address + 4));
    const std::string disassembled = output_of("iasl -d " + file.string() + ".aml");
    EXPECT_EQ(disassembled.find("rror"), std::string::npos) << signature << ":\n" << disassembled;
    EXPECT_EQ(disassembled.find("arning"), std::string::npos) << signature << ":\n" << disassembled;
    if (signature == "FACS") continue;  // the compiler does not take what it made of it
    const std::string compiled = output_of("iasl -p " + file.string() + ".out " + file.string() + ".dsl");
    const bool clean = compiled.find("0 Errors, 0 Warnings") != std::string::npos ||
                       compiled.find("Table Input") != std::string::npos;  // data tables: no summary line
    EXPECT_TRUE(clean && compiled.find("Error ") == std::string::npos) << signature << ":\n" << compiled;
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace nacre::board::acpi
