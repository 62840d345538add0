#include "life/json.hpp"

#include <charconv>

namespace nacre::life {
namespace {

constexpr unsigned kMostDepth = 8;

void append_utf8(std::string& to, u32 code) {
  const auto byte = [&to](u32 value) { to.push_back(static_cast<char>(value)); };
  if (code < 0x80) return byte(code);
  if (code < 0x800) {
    byte(0xc0 | code >> 6);
  } else if (code < 0x10000) {
    byte(0xe0 | code >> 12);
    byte(0x80 | (code >> 6 & 0x3f));
  } else {
    byte(0xf0 | code >> 18);
    byte(0x80 | (code >> 12 & 0x3f));
    byte(0x80 | (code >> 6 & 0x3f));
  }
  byte(0x80 | (code & 0x3f));
}

// How many bytes the character at the start of `text` has; 0: it is none. RFC 3629, section 4.
usize utf8_length(std::string_view text) {
  const auto at = [&text](usize i) { return i < text.size() ? static_cast<u8>(text[i]) : 0U; };
  const auto follows = [&at](usize i) { return (at(i) & 0xc0) == 0x80; };
  const u32 first = at(0), second = at(1);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first < 0xe0) return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first < 0xf0) {
    const bool fits = !(first == 0xe0 && second < 0xa0) && !(first == 0xed && second >= 0xa0);
    return fits && follows(1) && follows(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first < 0xf5) {
    const bool fits = !(first == 0xf0 && second < 0x90) && !(first == 0xf4 && second >= 0x90);
    return fits && follows(1) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  std::optional<JsonObject> document() {
    JsonObject object;
    space();
    if (!members(&object, 0)) return {};
    space();
    if (!text_.empty()) return {};
    return object;
  }

 private:
  void space() {
    while (!text_.empty() && std::string_view(" \t\r\n").find(text_.front()) != std::string_view::npos)
      text_.remove_prefix(1);
  }
  bool take(char c) {
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }
  bool word(std::string_view name) {
    if (!text_.starts_with(name)) return false;
    text_.remove_prefix(name.size());
    return true;
  }

  bool members(JsonObject* to, unsigned depth) {
    if (depth > kMostDepth || !take('{')) return false;
    space();
    if (take('}')) return true;
    do {
      space();
      std::string name;
      if (!string(name)) return false;
      space();
      if (!take(':') || !value(to, name, depth)) return false;
      space();
    } while (take(','));
    return take('}');
  }

  bool list(unsigned depth) {
    if (depth > kMostDepth || !take('[')) return false;
    space();
    if (take(']')) return true;
    do {
      if (!value(nullptr, "", depth)) return false;
      space();
    } while (take(','));
    return take(']');
  }

  bool value(JsonObject* to, const std::string& name, unsigned depth) {
    space();
    if (text_.empty()) return false;
    const auto keep = [to, &name](JsonObject::Value kept) {
      return to == nullptr || to->members_.emplace(name, std::move(kept)).second;
    };
    switch (text_.front()) {
      case '{':
        return members(nullptr, depth + 1);
      case '[':
        return list(depth + 1);
      case '"': {
        std::string text;
        return string(text) && keep(std::move(text));
      }
      case 't':
        return word("true") && keep(true);
      case 'f':
        return word("false") && keep(false);
      case 'n':
        return word("null");
      default:
        return number(keep);
    }
  }

  usize digits() {
    usize count = 0;
    while (!text_.empty() && text_.front() >= '0' && text_.front() <= '9') {
      text_.remove_prefix(1);
      ++count;
    }
    return count;
  }

  template <typename Keep>
  bool number(Keep keep) {
    const char* begin = text_.data();
    take('-');
    if (!take('0') && digits() == 0) return false;
    i64 whole = 0;
    const auto read = std::from_chars(begin, text_.data(), whole);
    const bool fraction = take('.');
    if (fraction && digits() == 0) return false;
    const bool exponent = take('e') || take('E');
    if (exponent) {
      if (!take('+')) take('-');
      if (digits() == 0) return false;
    }
    return fraction || exponent || read.ec != std::errc() || keep(whole);
  }

  bool hex(u32& code) {
    if (text_.size() < 4) return false;
    const auto read = std::from_chars(text_.data(), text_.data() + 4, code, 16);
    if (read.ptr != text_.data() + 4) return false;
    text_.remove_prefix(4);
    return true;
  }

  bool escape(std::string& to) {
    if (text_.empty()) return false;
    const char c = text_.front();
    text_.remove_prefix(1);
    constexpr std::string_view kNames = "\"\\/bfnrt", kMeant = "\"\\/\b\f\n\r\t";
    if (const usize at = kNames.find(c); at != std::string_view::npos) {
      to.push_back(kMeant[at]);
      return true;
    }
    u32 code = 0;
    if (c != 'u' || !hex(code)) return false;
    if (code >= 0xd800 && code < 0xdc00) {  // a surrogate wants its other half
      u32 low = 0;
      if (!word("\\u") || !hex(low) || low < 0xdc00 || low >= 0xe000) return false;
      code = 0x10000 + ((code - 0xd800) << 10 | (low - 0xdc00));
    } else if (code >= 0xdc00 && code < 0xe000) {
      return false;
    }
    append_utf8(to, code);
    return true;
  }

  bool string(std::string& to) {
    if (!take('"')) return false;
    while (!text_.empty()) {
      if (take('"')) return true;
      if (take('\\')) {
        if (!escape(to)) return false;
        continue;
      }
      if (static_cast<u8>(text_.front()) < 0x20) return false;
      const usize length = utf8_length(text_);
      if (length == 0) return false;
      to.append(text_.substr(0, length));
      text_.remove_prefix(length);
    }
    return false;
  }

  std::string_view text_;
};

std::optional<JsonObject> JsonObject::parse(std::string_view text) {
  return JsonReader(text).document();
}

std::string JsonObject::text(const std::string& name, const std::string& otherwise) const {
  const auto at = members_.find(name);
  const auto* found = at == members_.end() ? nullptr : std::get_if<std::string>(&at->second);
  return found == nullptr ? otherwise : *found;
}

i64 JsonObject::number(const std::string& name, i64 otherwise) const {
  const auto at = members_.find(name);
  const auto* found = at == members_.end() ? nullptr : std::get_if<i64>(&at->second);
  return found == nullptr ? otherwise : *found;
}

bool JsonObject::is_true(const std::string& name) const {
  const auto at = members_.find(name);
  const auto* found = at == members_.end() ? nullptr : std::get_if<bool>(&at->second);
  return found != nullptr && *found;
}

JsonObject& JsonObject::set(const std::string& name, std::string_view value) {
  members_[name] = std::string(value);
  return *this;
}
JsonObject& JsonObject::set(const std::string& name, i64 value) {
  members_[name] = value;
  return *this;
}
JsonObject& JsonObject::set(const std::string& name, bool value) {
  members_[name] = value;
  return *this;
}

std::string json_quoted(std::string_view text) {
  constexpr const char* kHex = "0123456789abcdef";
  std::string quoted = "\"";
  while (!text.empty()) {
    const auto c = static_cast<u8>(text.front());
    const usize length = utf8_length(text);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += static_cast<char>(c);
    } else if (c < 0x20 || c == 0x7f) {
      quoted += "\\u00";
      quoted += kHex[c >> 4];
      quoted += kHex[c & 15];
    } else if (length == 0) {
      quoted += "\xef\xbf\xbd";
    } else {
      quoted += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return quoted + '"';
}

std::string JsonObject::line() const {
  std::string line = "{";
  for (const auto& [name, value] : members_) {
    if (line.size() > 1) line += ',';
    line += json_quoted(name) + ':';
    if (const auto* text = std::get_if<std::string>(&value)) line += json_quoted(*text);
    if (const auto* number = std::get_if<i64>(&value)) line += std::to_string(*number);
    if (const auto* flag = std::get_if<bool>(&value)) line += *flag ? "true" : "false";
  }
  return line + '}';
}

}  // namespace nacre::life
