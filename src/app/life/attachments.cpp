#include "app/life/attachments.hpp"

#include <algorithm>

#include "host/passed_files.hpp"

namespace nacre::app {
namespace {

using life::JsonObject;

JsonObject refusal(const std::string& why) {
  return JsonObject().set("ok", false).set("error", why);
}

std::string device_name(i64 slot) {
  return "slot" + std::to_string(slot);
}

const char* const kNoSlots =
    "The machine has no slots for devices that come while it runs: set slots = 4 in [machine] of its "
    "nacre.toml and "
    "start it again.";

}  // namespace

Attachments::Answer Attachments::attach(const JsonObject& request, std::vector<host::UniqueFd> files,
                                        u64 caller, u64 now) {
  if (slots_ == 0) return refusal(kNoSlots);
  if (cards_.size() >= slots_)
    return refusal("All " + std::to_string(slots_) +
                   " slots of the machine are taken; nacre detach makes room.");
  const std::string disk = request.text("disk"), network = request.text("net");
  if (disk.empty() == network.empty() || files.empty() || files.size() > host::kMostPassedFiles)
    return refusal("What is to be attached is a disk or a network, with its files open.");
  Card card;
  card.id = next_id_++;
  card.request.set("do", "attach").set("id", card.id);
  if (disk.empty()) {
    card.what = network;
    card.request.set("net", network);
  } else {
    card.what = disk;
    card.request.set("disk", disk);
    card.request.set("format", request.text("format")).set("read-only", request.is_true("read-only"));
    card.request.set("iops", request.number("iops")).set("bandwidth", request.number("bandwidth"));
  }
  card.files = std::move(files);
  card.caller = caller;
  card.until = now + patience::kTaken;
  if (!send_(card.request, card.files)) return refusal("The machine is ending.");
  cards_.push_back(std::move(card));
  return {};
}

Attachments::Card* Attachments::find(const std::string& device) {
  for (Card& card : cards_) {
    if (card.slot != 0 && (device == device_name(card.slot) || device == card.what)) return &card;
  }
  return nullptr;
}

Attachments::Answer Attachments::detach(const JsonObject& request, u64 caller, u64 now) {
  const std::string device = request.text("device");
  Card* card = find(device);
  if (card == nullptr)
    return refusal("Nothing is attached as \"" + device + "\"; nacre attach lists what is.");
  if (card->caller) return refusal("Somebody else waits for " + device + " already.");
  card->phase = Phase::Leaving;
  card->surprise = card->surprise || request.is_true("force");
  card->caller = caller;
  card->until =
      now + static_cast<u64>(std::clamp<i64>(request.number("timeout", patience::kLeave), 0, 86400)) *
                patience::kSecond;
  ask_to_leave(*card, now);
  return {};
}

void Attachments::ask_to_leave(Card& card, u64 now) {
  card.press_at = now + (card.surprise ? patience::kPulled : patience::kPress);
  static_cast<void>(
      send_(JsonObject().set("do", "detach").set("slot", card.slot).set("surprise", card.surprise), {}));
}

JsonObject Attachments::list() const {
  std::string text;
  for (const Card& card : cards_) {
    const char* how = card.phase == Phase::InUse     ? "in use"
                      : card.phase == Phase::Leaving ? "leaving"
                                                     : "not taken by the guest yet";
    text += (card.slot == 0 ? "-" : device_name(card.slot)) + "\t" + how + "\t" + card.what + "\n";
  }
  return JsonObject().set("ok", true).set("slots", i64{slots_}).set("devices", text);
}

void Attachments::answer(Card& card, const JsonObject& text) {
  if (!card.caller) return;
  const u64 caller = *card.caller;
  card.caller.reset();
  card.until = ~u64{0};
  tell_(caller, text);
}

bool Attachments::remove(i64 id) {
  return std::erase_if(cards_, [id](const Card& card) { return card.id == id; }) != 0;
}

void Attachments::heard(const JsonObject& message) {
  const std::string event = message.text("event");
  const i64 id = message.number("id"), slot = message.number("slot");
  const auto card = std::find_if(cards_.begin(), cards_.end(), [&](const Card& one) {
    return id != 0 ? one.id == id : one.slot != 0 && one.slot == slot;
  });
  if (card == cards_.end()) return;
  const auto say = [&] { return JsonObject().set("ok", true).set("device", device_name(card->slot)); };
  if (event == "coming") {
    card->slot = slot;
  } else if (event == "refused") {
    answer(*card, refusal(message.text("why", "The machine could not take it.")));
    remove(card->id);
  } else if (event == "plugged") {
    if (card->phase == Phase::Sent) card->phase = Phase::Plugged;
  } else if (event == "in-use") {
    if (card->phase == Phase::Leaving) return;
    card->phase = Phase::InUse;
    answer(*card, say());
  } else if (event == "gone") {
    answer(*card, say());
    remove(card->id);
  }
}

void Attachments::machine_begins() {
  // Who had asked for it to go has what he wanted.
  for (Card& card : cards_) {
    if (card.phase == Phase::Leaving)
      answer(card, JsonObject().set("ok", true).set("device", device_name(card.slot)));
  }
  std::erase_if(cards_, [](const Card& card) { return card.phase == Phase::Leaving; });
  for (Card& card : cards_) {
    card.slot = 0;
    card.phase = Phase::Sent;
    static_cast<void>(send_(card.request, card.files));
  }
}

void Attachments::life_ends() {
  for (Card& card : cards_) answer(card, refusal("The machine has ended."));
  cards_.clear();
}

u64 Attachments::next_time() const {
  u64 next = ~u64{0};
  for (const Card& card : cards_) next = std::min({next, card.until, card.press_at});
  return next;
}

void Attachments::tick(u64 now) {
  for (Card& card : cards_) {
    if (now >= card.until) {
      if (card.phase == Phase::Leaving) {
        card.press_at = ~u64{0};
        answer(
            card,
            refusal(
                "The guest has not let go of " + device_name(card.slot) +
                " in time: it is busy, still booting, or knows no PCIe hot-plug. Ask again, or pull it out "
                "with --force."));
      } else {
        answer(card, JsonObject()
                         .set("ok", true)
                         .set("device", device_name(card.slot))
                         .set("note",
                              "The guest has not taken it yet: it is busy, still booting, or knows no PCIe "
                              "hot-plug. It stays in its slot."));
      }
    }
    if (now >= card.press_at) ask_to_leave(card, now);
  }
}

}  // namespace nacre::app
