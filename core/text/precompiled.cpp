#include "core/text/precompiled.h"

#include "core/text/base64.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

size_t length_of(std::string_view text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); ++count) next_code_point(text, i);
  return count;
}

/// How `tokenizers` counts a part that becomes another: surplus characters are inserted after the
/// last of it, missing ones are removed after the last character there is.
void replace(std::vector<Change>& changes, std::string_view part, std::string_view by) {
  for (size_t i = 0; i < by.size();) changes.push_back({next_code_point(by, i), 0});
  const auto old_length = length_of(part), new_length = length_of(by);
  if (new_length > old_length) {
    for (size_t k = 0; k < new_length - old_length; ++k) changes[changes.size() - 1 - k].change = 1;
  } else if (!changes.empty()) {
    changes.back().change -= static_cast<int>(old_length - new_length);
  }
}

}  // namespace

Precompiled::Precompiled(const JsonNode& node) {
  UErrorCode status = U_ZERO_ERROR;
  breaks_.reset(icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), status));
  if (U_FAILURE(status)) fail("ICU cannot find characters: {}", u_errorName(status));
  const auto entry = node.at("precompiled_charsmap");
  if (entry.json.is_null()) return;
  const auto bytes = from_base64(entry.string());
  if (!bytes) entry.wrong("base64");
  if (bytes->empty()) return;
  uint32_t size = 0;
  if (bytes->size() >= 4) std::memcpy(&size, bytes->data(), 4);
  if (bytes->size() < 4 || size > bytes->size() - 4 || size % 4 != 0 || size == 0) {
    fail("{}: expected a trie of {} bytes, got {}", entry.where(), size, bytes->size());
  }
  trie_.resize(size / 4);
  std::memcpy(trie_.data(), bytes->data() + 4, size);
  replacements_ = bytes->substr(4 + size);
  if (invalid_utf8(replacements_) != std::string::npos) entry.wrong("replacements in UTF-8");
}

void Precompiled::for_each_grapheme(std::string_view text,
                                    const std::function<void(std::string_view)>& part) const {
  const auto ascii = [&](size_t i) { return static_cast<signed char>(text[i]) >= 0; };
  std::unique_ptr<icu::BreakIterator> breaks;
  for (size_t begin = 0; begin < text.size();) {
    // Between two ASCII characters clusters end, but for a line feed after a carriage return.
    auto end = begin + 1;
    while (end < text.size() &&
           !(ascii(end - 1) && ascii(end) && !(text[end - 1] == '\r' && text[end] == '\n'))) {
      ++end;
    }
    const auto run = text.substr(begin, end - begin);
    begin = end;
    if (run.size() == 1) {
      part(run);
      continue;
    }
    if (!breaks) breaks.reset(breaks_->clone());
    UErrorCode status = U_ZERO_ERROR;
    const std::unique_ptr<UText, decltype(&utext_close)> source(
        utext_openUTF8(nullptr, run.data(), static_cast<int64_t>(run.size()), &status),
        utext_close);
    breaks->setText(source.get(), status);
    if (U_FAILURE(status)) fail("ICU cannot find characters: {}", u_errorName(status));
    auto from = static_cast<size_t>(breaks->first());
    for (auto to = breaks->next(); to != icu::BreakIterator::DONE; to = breaks->next()) {
      part(run.substr(from, static_cast<size_t>(to) - from));
      from = static_cast<size_t>(to);
    }
  }
}

std::optional<std::string_view> Precompiled::replacement(std::string_view part) const {
  const auto offset = [](uint32_t unit) { return (unit >> 10) << ((unit & (1U << 9)) >> 6); };
  size_t at = 0;
  if (trie_.empty()) return std::nullopt;
  at ^= offset(trie_[0]);
  for (const char c : part) {
    const auto byte = static_cast<unsigned char>(c);
    at ^= byte;
    if (byte == 0 || at >= trie_.size()) return std::nullopt;
    const auto unit = trie_[at];
    if ((unit & ((1U << 31) | 0xFF)) != byte) return std::nullopt;
    at ^= offset(unit);
    if ((unit >> 8 & 1) == 0) continue;
    // The shortest entry that the part begins with stands for all of it.
    if (at >= trie_.size()) return std::nullopt;
    const size_t from = trie_[at] & ((1U << 31) - 1);
    if (from >= replacements_.size()) return std::nullopt;
    const auto rest = std::string_view(replacements_).substr(from);
    const auto text = rest.substr(0, rest.find('\0'));
    return invalid_utf8(text) == std::string_view::npos ? std::optional(text) : std::nullopt;
  }
  return std::nullopt;
}

void Precompiled::apply(Text& text) const {
  std::vector<Change> changes;
  changes.reserve(text.bytes.size());
  bool modified = false;
  const auto replaced = [&](std::string_view part) {
    const auto by = replacement(part);
    if (!by) return false;
    modified = true;
    replace(changes, part, *by);
    return true;
  };
  const auto characters = [&](std::string_view part) {
    for (size_t i = 0; i < part.size();) {
      const auto begin = i;
      const auto c = next_code_point(part, i);
      if (!replaced(part.substr(begin, i - begin))) changes.push_back({c, 0});
    }
  };
  for_each_grapheme(text.bytes, [&](std::string_view grapheme) {
    if (grapheme.size() >= 6 || !replaced(grapheme)) characters(grapheme);
  });
  if (modified) resurface::rewrite(text, changes);
}

}  // namespace resurface
