// Named machines without machines: their configuration, names, records and locks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>

#include "life/config.hpp"
#include "life/folder.hpp"
#include "life/json.hpp"
#include "life/record.hpp"

namespace nacre::life {
namespace {

using ::testing::HasSubstr;

std::string error_of(std::string_view text) {
  const auto config = parse_config(text, "vm/nacre.toml");
  return config ? "" : config.error().message();
}

TEST(Config, a_written_one_is_read_back) {
  MachineConfig config;
  config.image = "debian:12";
  config.cpus = 4;
  config.memory = "2G";
  config.kernel = "/images/debian-12/vmlinuz";
  config.modules = "../\"odd\"\tname";
  config.append = "console=ttyS0 root=/dev/vda";
  config.disks = {{"disk.qcow2", false}, {"/data.raw", true}};
  config.on_panic = Then::Restart;
  config.stop_timeout = 5;
  config.networks = {"user,publish=8080:80", "user"};
  auto read = parse_config(write_config(config), "x");
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_EQ(read->image, config.image);
  EXPECT_EQ(read->cpus, 4U);
  EXPECT_EQ(read->memory, "2G");
  EXPECT_EQ(read->kernel, config.kernel);
  EXPECT_EQ(read->modules, config.modules);
  EXPECT_EQ(read->append, config.append);
  ASSERT_EQ(read->disks.size(), 2U);
  EXPECT_EQ(read->disks[0].file, "disk.qcow2");
  EXPECT_FALSE(read->disks[0].read_only);
  EXPECT_EQ(read->disks[1].file, "/data.raw");
  EXPECT_TRUE(read->disks[1].read_only);
  EXPECT_EQ(read->on_reboot, Then::Restart);
  EXPECT_EQ(read->on_panic, Then::Restart);
  EXPECT_EQ(read->networks, config.networks);
  EXPECT_EQ(read->stop_timeout, 5);
}

TEST(Config, what_is_not_said_is_as_documented) {
  auto config = parse_config("[boot]\nkernel = \"k\"\n", "x");
  ASSERT_TRUE(config.ok()) << config.error().message();
  EXPECT_EQ(config->cpus, 1U);
  EXPECT_EQ(config->memory, "1G");
  EXPECT_EQ(config->engine, "auto");
  EXPECT_EQ(config->on_reboot, Then::Restart);
  EXPECT_EQ(config->on_panic, Then::Stop);
  EXPECT_EQ(config->stop_timeout, 90);
  EXPECT_TRUE(config->disks.empty());
}

TEST(Config, mistakes_are_named_with_their_line) {
  EXPECT_THAT(error_of("[boot]\nkernel = \n"), HasSubstr("vm/nacre.toml:2: "));
  EXPECT_THAT(error_of("[machine]\ncpus = \"two\"\n"),
              HasSubstr("vm/nacre.toml:2: \"cpus\" should be a whole number from 1 to 32."));
  EXPECT_THAT(error_of("[machine]\nnetworks = [\n  1]\n"), HasSubstr("vm/nacre.toml:3: \"networks\" should be a list of texts"));
  EXPECT_THAT(error_of("[machine]\n\ncpus = 33\n"), HasSubstr("vm/nacre.toml:3: \"cpus\""));
  EXPECT_THAT(error_of("[machine]\ncores = 2\n"),
              HasSubstr("vm/nacre.toml:2: there is no \"cores\" here; [machine] has cpus, memory"));
  EXPECT_THAT(error_of("disks = 2\n[boot]\nkernel = \"k\"\n"),
              HasSubstr("vm/nacre.toml:1: there is no \"disks\" here; the file can have"));
  EXPECT_THAT(error_of("machine = 1\n"), HasSubstr("vm/nacre.toml:1: \"machine\" should be a table."));
  EXPECT_THAT(error_of("[boot]\nkernel = \"k\"\n[[disk]]\nread-only = true\n"),
              HasSubstr("vm/nacre.toml:3: a [[disk]] needs a file."));
  EXPECT_THAT(error_of("[boot]\nkernel = \"k\"\n[disk]\nfile = \"f\"\n"), HasSubstr("[[disk]]"));
  EXPECT_THAT(error_of("[boot]\nkernel = \"k\"\n[life]\non-panic = \"reboot\"\n"),
              HasSubstr(":4: \"on-panic\" should be \"stop\" or \"restart\"."));
  EXPECT_THAT(error_of(""), HasSubstr("[boot] needs a kernel"));
  EXPECT_THAT(error_of("[boot]\nkernel = \"k\"\ninitrd = \"i\"\nmodules = \"m\"\n"), HasSubstr("not both"));
}

TEST(Manifest, is_read) {
  auto manifest = parse_manifest("name = \"debian:12\"\nrelease = \"6.1\"\nappend = \"quiet\"\n", "x");
  ASSERT_TRUE(manifest.ok());
  EXPECT_EQ(manifest->name, "debian:12");
  EXPECT_EQ(manifest->append, "quiet");
  EXPECT_FALSE(parse_manifest("name = 12\n", "x").ok());
}

TEST(Json, objects_make_a_round_trip) {
  JsonObject object;
  object.set("text", "a \"b\"\n\\\xc3\xa4").set("number", i64{-7}).set("flag", true);
  EXPECT_EQ(object.line(), R"({"flag":true,"number":-7,"text":"a \"b\"\u000a\\ä"})");
  const auto read = JsonObject::parse(object.line());
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->text("text"), "a \"b\"\n\\\xc3\xa4");
  EXPECT_EQ(read->number("number"), -7);
  EXPECT_TRUE(read->is_true("flag"));
  EXPECT_EQ(read->text("flag", "none"), "none");
  EXPECT_EQ(read->number("missing", 3), 3);
}

TEST(Json, what_is_newer_is_passed_over_and_what_is_wrong_is_refused) {
  const auto read = JsonObject::parse(
      R"( {"a" : [1, {"b": null}, 2.5e3], "c": {"d": "x"}, "e": 1.5, "f": "\u00e4\ud83d\ude00"} )");
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->text("f"), "\xc3\xa4\xf0\x9f\x98\x80");
  EXPECT_EQ(read->number("e", 9), 9);
  for (const char* wrong : {"", "{", "[]", "{}x", "{\"a\":}", "{\"a\":1,}", "{\"a\":01}", "{\"a\":1.}",
                            "{\"a\":\"\\x\"}", "{a:1}", "{\"a\":\"\\ud800\"}", "{\"a\":tru}",
                            "{\"a\":1,\"a\":2}", "{\"a\":\"\xff\"}", "{\"a\":\"\n\"}"})
    EXPECT_FALSE(JsonObject::parse(wrong).has_value()) << wrong;
  EXPECT_FALSE(
      JsonObject::parse("{\"a\":" + std::string(1000, '[') + std::string(1000, ']') + "}").has_value());
}

TEST(Json, broken_text_is_still_text) {
  EXPECT_EQ(json_quoted("a\xff\x01"), "\"a\xef\xbf\xbd\\u0001\"");
}

TEST(Record, makes_a_round_trip_and_damage_is_a_machine_that_never_ran) {
  const Record record = {
      .runs = true, .why = Why::Panicked, .message = "so", .process = 12, .since = 34, .boots = 2};
  const Record read = Record::parse(record.line());
  EXPECT_TRUE(read.runs);
  EXPECT_EQ(read.why, Why::Panicked);
  EXPECT_EQ(read.message, "so");
  EXPECT_EQ(read.process, 12);
  EXPECT_EQ(read.since, 34);
  EXPECT_EQ(read.boots, 2);
  EXPECT_EQ(state_of(Record::parse("{\"runs\":tr"), false), State::New);
}

TEST(Record, lock_and_record_together_tell_the_state) {
  EXPECT_EQ(state_of({}, false), State::New);
  EXPECT_EQ(state_of({}, true), State::Running);
  EXPECT_EQ(state_of({.runs = true}, true), State::Running);
  EXPECT_EQ(state_of({.runs = true}, false), State::Crashed);
  EXPECT_EQ(state_of({.runs = false, .why = Why::Stopped}, false), State::Off);
  // It starts, and has not written yet.
  EXPECT_EQ(state_of({.runs = false, .why = Why::Stopped}, true), State::Running);
  EXPECT_EQ(describe({.why = Why::Panicked}, State::Off), "off (panicked)");
  EXPECT_EQ(describe({.why = Why::Stopped}, State::Off), "off");
  EXPECT_EQ(describe({.runs = true}, State::Crashed), "crashed");
}

TEST(Names, are_those_of_folders_and_hosts) {
  for (const char* good : {"a", "web-1", "Debian.12", "x_y"}) EXPECT_TRUE(check_name(good).ok()) << good;
  for (const char* bad : {"", ".", "..", ".x", "-x", "x-", "a/b", "a b", "a\n", "\xc3\xa4"})
    EXPECT_FALSE(check_name(bad).ok()) << bad;
  EXPECT_FALSE(check_name(std::string(64, 'a')).ok());
}

// A data folder of the test's own.
class Folders : public ::testing::Test {
 protected:
  Folders() {
    // Deep, so that no socket's path would fit into an address.
    path_ = ::testing::TempDir() + "nacre-life-" + std::to_string(getpid()) + "/" + std::string(120, 'd');
    std::filesystem::create_directories(path_);
    setenv("XDG_DATA_HOME", path_.c_str(), 1);
  }
  ~Folders() override { std::filesystem::remove_all(std::filesystem::path(path_).parent_path()); }

  static Folder make(const char* name) {
    Folder folder = Folder::of(name).take();
    EXPECT_TRUE(make_folders(folder.path()).ok());
    EXPECT_TRUE(replace_file(folder.config_file(), "").ok());
    return folder;
  }
  std::string path_;
};

TEST_F(Folders, are_listed_by_name_and_only_those_with_a_configuration) {
  EXPECT_TRUE(Folder::all().take().empty());
  make("b");
  make("a");
  ASSERT_TRUE(make_folders(path_ + "/nacre/vms/c").ok());
  ASSERT_TRUE(make_folders(path_ + "/nacre/vms/.creating-x").ok());
  const auto all = Folder::all().take();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].name(), "a");
  EXPECT_EQ(all[1].name(), "b");
  EXPECT_EQ(all[0].file("disk"), path_ + "/nacre/vms/a/disk");
  EXPECT_EQ(all[0].file("/disk"), "/disk");
  EXPECT_FALSE(Folder::of("c").take().check_exists().ok());
}

TEST_F(Folders, a_lock_is_held_once_and_goes_with_its_last_process) {
  const Folder folder = make("a");
  EXPECT_FALSE(RunLock::is_held(folder));
  auto lock = RunLock::try_take(folder).take();
  ASSERT_TRUE(lock.has_value());
  EXPECT_TRUE(RunLock::is_held(folder));
  EXPECT_FALSE(RunLock::try_take(folder).take().has_value());
  // A child of the holder's holds it on, until it is killed.
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  lock.reset();
  EXPECT_TRUE(RunLock::is_held(folder));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_FALSE(RunLock::is_held(folder));
  EXPECT_TRUE(RunLock::try_take(folder).take().has_value());
}

TEST_F(Folders, sockets_do_with_any_path_and_replace_what_a_crash_left) {
  const Folder folder = make("a");
  EXPECT_THAT(connect_to(folder, "control.sock").error().message(), HasSubstr("does not run"));
  { const auto first = listen_at(folder, "control.sock").take(); }
  EXPECT_THAT(connect_to(folder, "control.sock").error().message(), HasSubstr("does not run"));
  const auto again = listen_at(folder, "control.sock").take();
  EXPECT_TRUE(connect_to(folder, "control.sock").ok());
}

TEST_F(Folders, a_file_is_replaced_whole) {
  const Folder folder = make("a");
  ASSERT_TRUE(save(folder, {.runs = true, .boots = 1}).ok());
  ASSERT_TRUE(save(folder, {.why = Why::Killed}).ok());
  EXPECT_EQ(load_record(folder).why, Why::Killed);
  EXPECT_EQ(load_record(folder).boots, 0);
}

}  // namespace
}  // namespace nacre::life
