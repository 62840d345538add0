// What a supervisor makes of requests to attach and detach, of what its machine says, and of time.
#include "app/life/attachments.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>

namespace nacre::app {
namespace {

using life::JsonObject;

constexpr u64 kSecond = patience::kSecond;

struct AttachmentsTest : ::testing::Test {
  struct Sent {
    JsonObject request;
    usize files;
  };
  struct Told {
    u64 caller;
    JsonObject answer;
  };
  std::vector<Sent> sent;
  std::vector<Told> told;
  bool line = true;
  Attachments attachments{2,
                          [this](const JsonObject& request, std::span<const host::UniqueFd> files) {
                            sent.push_back({request, files.size()});
                            return line;
                          },
                          [this](u64 caller, const JsonObject& answer) {
                            told.push_back({caller, answer});
                          }};

  Attachments::Answer attach(const char* path, u64 caller, u64 now = 0) {
    std::vector<host::UniqueFd> files;
    files.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
    return attachments.attach(JsonObject().set("disk", path).set("read-only", true), std::move(files), caller,
                              now);
  }
  void heard(const char* event, i64 slot, i64 id = 0) {
    JsonObject message;
    message.set("event", event).set("slot", slot).set("why", "because");
    if (id != 0) message.set("id", id);
    attachments.heard(message);
  }
  // In slot 1, used by the guest.
  void attach_and_use() {
    ASSERT_FALSE(attach("/a", 7));
    heard("coming", 1, 1);
    heard("plugged", 1);
    heard("in-use", 1);
    ASSERT_EQ(told.size(), 1u);
    EXPECT_EQ(told[0].caller, 7u);
    EXPECT_TRUE(told[0].answer.is_true("ok"));
    EXPECT_EQ(told[0].answer.text("device"), "slot1");
    told.clear();
    sent.clear();
  }
  Attachments::Answer detach(const char* device, u64 caller, u64 now, bool force = false) {
    return attachments.detach(JsonObject().set("device", device).set("force", force), caller, now);
  }
};

TEST_F(AttachmentsTest, ADiskGoesToTheMachineWithItsFilesAndIsAnsweredWhenTheGuestUsesIt) {
  attach_and_use();
  EXPECT_EQ(attachments.list().text("devices"), "slot1\tin use\t/a\n");
  EXPECT_EQ(attachments.next_time(), ~u64{0});
}

TEST_F(AttachmentsTest, TheRequestHasWhatTheMachineNeeds) {
  attach("/a", 7);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].files, 1u);
  EXPECT_EQ(sent[0].request.text("disk"), "/a");
  EXPECT_TRUE(sent[0].request.is_true("read-only"));
}

TEST_F(AttachmentsTest, ANetworkGoesToTheMachineWithItsCable) {
  const auto attach_network = [this](const JsonObject& request) {
    std::vector<host::UniqueFd> files;
    files.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
    return attachments.attach(request, std::move(files), 7, 0);
  };
  EXPECT_TRUE(attach_network(JsonObject().set("net", "user").set("disk", "/a")).has_value());
  ASSERT_FALSE(attach_network(JsonObject().set("net", "user,hostname=web")));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].files, 1u);
  EXPECT_EQ(sent[0].request.text("net"), "user,hostname=web");
  EXPECT_EQ(sent[0].request.text("disk"), "");
  heard("coming", 1, 1);
  heard("in-use", 1);
  EXPECT_EQ(attachments.list().text("devices"), "slot1\tin use\tuser,hostname=web\n");
  EXPECT_FALSE(detach("user,hostname=web", 9, 0));
  heard("gone", 1);
  EXPECT_EQ(attachments.list().text("devices"), "");
}

TEST_F(AttachmentsTest, WhatCannotBeIsSaidAtOnce) {
  EXPECT_TRUE(attachments.attach(JsonObject().set("disk", "/a"), {}, 1, 0).has_value());  // no files
  EXPECT_TRUE(attach("", 1).has_value());
  EXPECT_FALSE(attach("/a", 1));
  EXPECT_FALSE(attach("/b", 2));
  const auto third = attach("/c", 3);
  ASSERT_TRUE(third.has_value());
  EXPECT_NE(third->text("error").find("taken"), std::string::npos);
  EXPECT_TRUE(detach("slot9", 4, 0).has_value());
  Attachments none(
      0, [](const JsonObject&, std::span<const host::UniqueFd>) { return true; },
      [](u64, const JsonObject&) {});
  std::vector<host::UniqueFd> files(1);
  EXPECT_NE(
      none.attach(JsonObject().set("disk", "/a"), std::move(files), 1, 0)->text("error").find("nacre.toml"),
      std::string::npos);
  line = false;
  heard("refused", 0, 2);
  EXPECT_TRUE(attach("/d", 5).has_value());
}

TEST_F(AttachmentsTest, ARefusalReachesWhoAskedAndMakesRoom) {
  attach("/a", 7);
  heard("coming", 1, 1);
  heard("refused", 1);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].answer.text("error"), "because");
  EXPECT_EQ(attachments.list().text("devices"), "");
}

TEST_F(AttachmentsTest, AGuestThatDoesNotTakeItIsToldOfOnceAndItStays) {
  attach("/a", 7);
  heard("coming", 1, 1);
  heard("plugged", 1);
  attachments.tick(patience::kTaken - 1);
  EXPECT_TRUE(told.empty());
  attachments.tick(patience::kTaken);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_TRUE(told[0].answer.is_true("ok"));
  EXPECT_NE(told[0].answer.text("note").find("not taken it yet"), std::string::npos);
  attachments.tick(2 * patience::kTaken);
  heard("in-use", 1);
  EXPECT_EQ(told.size(), 1u);
  EXPECT_EQ(attachments.list().text("devices"), "slot1\tin use\t/a\n");
}

TEST_F(AttachmentsTest, DetachingPressesUntilItIsGone) {
  attach_and_use();
  EXPECT_FALSE(detach("slot1", 9, 0));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].request.number("slot"), 1);
  EXPECT_FALSE(sent[0].request.is_true("surprise"));
  EXPECT_TRUE(detach("slot1", 10, 0).has_value());  // one who waits is enough
  EXPECT_EQ(attachments.next_time(), patience::kPress);
  attachments.tick(patience::kPress);
  EXPECT_EQ(sent.size(), 2u);
  heard("gone", 1);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].caller, 9u);
  EXPECT_TRUE(told[0].answer.is_true("ok"));
  EXPECT_EQ(attachments.next_time(), ~u64{0});
  EXPECT_FALSE(attach("/a", 11));
}

TEST_F(AttachmentsTest, AGuestThatDoesNotLetGoIsToldOfAndMayBeAskedAgainOrForced) {
  attach_and_use();
  detach("/a", 9, 0);
  attachments.tick(30 * kSecond);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_NE(told[0].answer.text("error").find("--force"), std::string::npos);
  const usize before = sent.size();
  attachments.tick(60 * kSecond);
  EXPECT_EQ(sent.size(), before);  // nobody waits: no more presses
  EXPECT_FALSE(detach("slot1", 10, 60 * kSecond, true));
  EXPECT_TRUE(sent.back().request.is_true("surprise"));
  EXPECT_EQ(attachments.next_time(), 60 * kSecond + patience::kPulled);
  attachments.tick(60 * kSecond + patience::kPulled);  // the slot is emptied
  EXPECT_TRUE(sent.back().request.is_true("surprise"));
  heard("gone", 1);
  EXPECT_EQ(told.back().caller, 10u);
}

TEST_F(AttachmentsTest, AfterARebootItIsThereAgainButForWhatWasLeaving) {
  attach_and_use();
  attach("/b", 8);
  heard("coming", 2, 2);
  heard("in-use", 2);
  detach("slot1", 9, 0);
  told.clear();
  sent.clear();
  attachments.machine_begins();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].caller, 9u);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].request.text("disk"), "/b");
  EXPECT_EQ(sent[0].files, 1u);
  heard("coming", 1, 2);
  heard("in-use", 1);
  EXPECT_EQ(attachments.list().text("devices"), "slot1\tin use\t/b\n");
}

TEST_F(AttachmentsTest, TheEndIsToldToWhoWaits) {
  attach("/a", 7);
  attachments.life_ends();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].answer.text("error"), "The machine has ended.");
}

TEST_F(AttachmentsTest, AMachineThatSaysNonsenseIsNotBelieved) {
  attach("/a", 7);
  heard("in-use", 1);  // no slot is known yet
  heard("gone", 0);
  heard("gone", 99);
  heard("coming", 1, 99);
  heard("", 1, 1);
  attachments.heard(JsonObject());
  EXPECT_TRUE(told.empty());
  EXPECT_EQ(attachments.list().text("devices"), "-\tnot taken by the guest yet\t/a\n");
}

}  // namespace
}  // namespace nacre::app
