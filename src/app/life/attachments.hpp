// Attachments: the cards in a machine's hot-plug slots, as its supervisor sees them: who asked for what, what
// the machine has made of it, and until when somebody waits. The files of a card are kept, so that the card
// is there again after a reboot, which is another process. Pure but for what the two functions do; the
// supervisor's thread.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "host/fd.hpp"
#include "life/json.hpp"

namespace nacre::app {

// Waits that are told of when they are over, in nanoseconds.
namespace patience {
inline constexpr u64 kSecond = 1'000'000'000;
inline constexpr u64 kTaken = 15 * kSecond;  // until the guest uses what was attached
inline constexpr u64 kPress = 3 * kSecond;   // a guest that boots does not hear the slot's button
inline constexpr u64 kPulled = 5 * kSecond;  // until a slot is emptied whose guest does not heed a surprise
inline constexpr i64 kLeave = 30;            // seconds, unless told
}  // namespace patience

class Attachments {
 public:
  using Answer = std::optional<life::JsonObject>;
  // To the machine: a request, and files with it. False: it cannot be sent.
  using Send = std::function<bool(const life::JsonObject&, std::span<const host::UniqueFd>)>;
  // To who asked before.
  using Tell = std::function<void(u64 caller, const life::JsonObject&)>;
  Attachments(unsigned slots, Send send, Tell tell)
      : slots_(slots), send_(std::move(send)), tell_(std::move(tell)) {}

  // Requests of control.sock; an answer at once, or nothing: it comes by Tell. `now` is CLOCK_MONOTONIC.
  Answer attach(const life::JsonObject& request, std::vector<host::UniqueFd> files, u64 caller, u64 now);
  Answer detach(const life::JsonObject& request, u64 caller, u64 now);
  [[nodiscard]] life::JsonObject list() const;

  // A message of the machine's, which may be anything.
  void heard(const life::JsonObject& message);
  // There is a new machine: what is attached goes into it.
  void machine_begins();
  // There will be none any more.
  void life_ends();

  [[nodiscard]] u64 next_time() const;  // when tick() is due; ~0: not at all
  void tick(u64 now);

 private:
  enum class Phase : u8 { Sent, Plugged, InUse, Leaving };
  struct Card {
    i64 id = 0;
    i64 slot = 0;  // 0: not known yet
    Phase phase = Phase::Sent;
    bool surprise = false;
    life::JsonObject request;  // as the machine has it
    std::string what;  // the image's path, or the network as --net has it
    std::vector<host::UniqueFd> files;
    std::optional<u64> caller;  // who waits
    u64 until = ~u64{0};
    u64 press_at = ~u64{0};
  };
  void answer(Card& card, const life::JsonObject& text);
  void ask_to_leave(Card& card, u64 now);
  bool remove(i64 id);
  Card* find(const std::string& device);

  const unsigned slots_;
  Send send_;
  Tell tell_;
  i64 next_id_ = 1;
  std::vector<Card> cards_;
};

}  // namespace nacre::app
