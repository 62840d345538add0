#include "app/firmware_options.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace nacre::app {
namespace {

class FirmwareFile : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/nacre-firmware-XXXXXX";
    ASSERT_NE(mkdtemp(pattern), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    unlink(path().c_str());
    rmdir(folder_.c_str());
  }
  [[nodiscard]] std::string path() const { return folder_ + "/rom"; }
  void write(usize bytes) { std::ofstream(path(), std::ios::binary) << std::string(bytes, 'r'); }

 private:
  std::string folder_;
};

TEST_F(FirmwareFile, whole_pages_up_to_16_MiB_are_a_rom) {
  for (const usize bytes : {usize{4096}, usize{65536}, usize{16} << 20}) {
    write(bytes);
    auto rom = read_firmware(path());
    ASSERT_TRUE(rom.ok()) << rom.error().message();
    EXPECT_EQ(rom.value().bytes().size(), bytes);
  }
}

TEST_F(FirmwareFile, other_sizes_are_refused_with_a_reason) {
  for (const usize bytes : {usize{0}, usize{1}, usize{65535}, (usize{16} << 20) + 4096}) {
    write(bytes);
    auto rom = read_firmware(path());
    ASSERT_FALSE(rom.ok()) << bytes;
    EXPECT_NE(std::string(rom.error().message()).find("ROM"), std::string::npos);
  }
}

TEST_F(FirmwareFile, a_debug_port_writes_to_its_file) {
  auto port = debug_port_of("0xe9=" + path());
  ASSERT_TRUE(port.ok());
  EXPECT_EQ(port.value().port, 0xe9);
  EXPECT_FALSE(std::ifstream(path()).good());  // not before it is known that the machine can be
  auto place = open_debug_port(port.value());
  ASSERT_TRUE(place.ok());
  EXPECT_GE(place.value().out, 0);
  EXPECT_EQ(access(path().c_str(), W_OK), 0);
}

TEST(FirmwareOptions, debug_ports_go_to_standard_streams) {
  EXPECT_EQ(debug_port_of("1026=stdio").value().port, 0x402);
  EXPECT_EQ(open_debug_port(debug_port_of("0x402=stdio").value()).value().out, STDOUT_FILENO);
  EXPECT_EQ(open_debug_port(debug_port_of("0x402=stderr").value()).value().out, STDERR_FILENO);
  EXPECT_EQ(open_debug_port(debug_port_of("0x402=stdio").value()).value().in, -1);
}

TEST(FirmwareOptions, texts_that_are_no_debug_port_are_refused) {
  for (const char* text : {"", "0xe9", "0xe9=", "=f", "e9=f", "0x=f", "0x10000=f", "-1=f", "0xe9x=f"}) {
    EXPECT_FALSE(debug_port_of(text).ok()) << text;
  }
  EXPECT_FALSE(open_debug_port({0xe9, "/no/such/folder/f"}).ok());
}

TEST(FirmwareOptions, a_post_port_may_name_the_code_that_ends_the_machine) {
  auto plain = post_port_of("0x190");
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain.value().port, 0x190);
  EXPECT_FALSE(plain.value().end);
  EXPECT_EQ(post_port_of("128,end=0xff").value().end, 0xff);
  for (const char* text : {"", "x", "0x190,", "0x190,end=", "0x190,end=256", "0x190,stop=1", "70000"}) {
    EXPECT_FALSE(post_port_of(text).ok()) << text;
  }
}

}  // namespace
}  // namespace nacre::app
