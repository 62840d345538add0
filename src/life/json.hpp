// JSON as the control protocol and the record use it: one object on one line. Reading keeps strings, whole
// numbers and booleans by name; what else an object holds (null, fractions, lists, objects) is checked and
// left out, so that a newer program may say more than an older one understands. RFC 8259. Pure; any thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/types.hpp"

namespace nacre::life {

class JsonObject {
 public:
  // Nothing when `text` is not one object, is nested deeper than a few levels, or names a member twice.
  static std::optional<JsonObject> parse(std::string_view text);

  // The member, or what stands in for it when there is none of that kind.
  [[nodiscard]] std::string text(const std::string& name, const std::string& otherwise = "") const;
  [[nodiscard]] i64 number(const std::string& name, i64 otherwise = 0) const;
  [[nodiscard]] bool is_true(const std::string& name) const;

  JsonObject& set(const std::string& name, std::string_view value);
  JsonObject& set(const std::string& name, const char* value) { return set(name, std::string_view(value)); }
  JsonObject& set(const std::string& name, const std::string& value) {
    return set(name, std::string_view(value));
  }
  JsonObject& set(const std::string& name, i64 value);
  JsonObject& set(const std::string& name, bool value);

  // One line without its end.
  [[nodiscard]] std::string line() const;

 private:
  using Value = std::variant<std::string, i64, bool>;
  friend class JsonReader;
  std::map<std::string, Value> members_;
};

// As a JSON string, with its quotes. Bytes that are not UTF-8 become U+FFFD.
std::string json_quoted(std::string_view text);

}  // namespace nacre::life
