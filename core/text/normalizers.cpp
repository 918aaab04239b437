#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include "core/text/rewrite.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<signed char>(c) >= 0; });
}

/// Normalises from boundary to boundary, so that a composed character points to all that it was
/// made of.
void normalize(const icu::Normalizer2& form, Text& text) {
  if (is_ascii(text.bytes)) return;  // ASCII is in every normal form
  UErrorCode status = U_ZERO_ERROR;
  if (form.isNormalizedUTF8(text.bytes, status)) return;
  Rewriter rewriter(text);
  const auto flush = [&](Span segment) {
    const auto before = std::string_view(text.bytes).substr(segment.begin, segment.size());
    std::string after;
    form.normalize(icu::UnicodeString::fromUTF8(before), status).toUTF8String(after);
    if (U_FAILURE(status)) fail("Unicode normalisation failed: {}", u_errorName(status));
    if (after == before) {
      rewriter.keep(segment);
    } else {
      rewriter.put(after, segment);
    }
  };
  size_t start = 0;
  for (size_t i = 0; i < text.bytes.size();) {
    const auto at = i;
    const auto c = next_code_point(text.bytes, i);
    if (at > start && form.hasBoundaryBefore(c)) {
      flush({start, at});
      start = at;
    }
  }
  flush({start, text.bytes.size()});
  text = rewriter.take();
}

Normalizer unicode_form(const icu::Normalizer2* (*instance)(UErrorCode&)) {
  UErrorCode status = U_ZERO_ERROR;
  const auto* form = instance(status);
  if (U_FAILURE(status)) fail("ICU has no normalisation data: {}", u_errorName(status));
  return [form](Text& text) { normalize(*form, text); };
}

/// Character by character, as `tokenizers` does: a final sigma is not special.
void lowercase(Text& text) {
  Rewriter rewriter(text);
  for (size_t i = 0; i < text.bytes.size();) {
    const auto begin = i;
    const auto c = next_code_point(text.bytes, i);
    std::string lower;
    append_code_point(lower, u_tolower(c));
    if (c == 0x130) lower = "i\xCC\x87";  // the only letter whose lower case is two characters
    if (std::string_view(text.bytes).substr(begin, i - begin) == lower) {
      rewriter.keep({begin, i});
    } else {
      rewriter.put(lower, {begin, i});
    }
  }
  text = rewriter.take();
}

void strip(Text& text, bool left, bool right) {
  std::optional<size_t> first;
  size_t last = 0;  // the first and one past the last byte that is not white space
  for (size_t i = 0; i < text.bytes.size();) {
    const auto begin = i;
    if (u_isUWhiteSpace(next_code_point(text.bytes, i))) continue;
    if (!first) first = begin;
    last = i;
  }
  if (!first) {
    if (left || right) text = {};
    return;
  }
  text = text.slice({left ? *first : 0, right ? last : text.bytes.size()});
}

Normalizer read_one(const JsonNode& node, const std::string& type) {
  if (type == "NFC") return unicode_form(icu::Normalizer2::getNFCInstance);
  if (type == "NFD") return unicode_form(icu::Normalizer2::getNFDInstance);
  if (type == "NFKC") return unicode_form(icu::Normalizer2::getNFKCInstance);
  if (type == "NFKD") return unicode_form(icu::Normalizer2::getNFKDInstance);
  if (type == "Lowercase") return lowercase;
  if (type == "Strip") {
    return [left = node.flag("strip_left", true),
            right = node.flag("strip_right", true)](Text& text) { strip(text, left, right); };
  }
  if (type == "Prepend") {
    return [prefix = node.at("prepend").string()](Text& text) {
      if (text.bytes.empty()) return;
      Rewriter rewriter(text);
      rewriter.put(prefix, {0, 0});
      rewriter.keep({0, text.bytes.size()});
      text = rewriter.take();
    };
  }
  if (type == "Replace") {
    return [find = read_pattern(node.at("pattern")),
            content = node.at("content").string()](Text& text) {
      const auto matches = find(text.bytes);
      if (matches.empty()) return;
      Rewriter rewriter(text);
      size_t done = 0;
      for (const auto match : matches) {
        rewriter.keep({done, match.begin});
        rewriter.put(content, match);
        done = match.end;
      }
      rewriter.keep({done, text.bytes.size()});
      text = rewriter.take();
    };
  }
  node.unsupported(fmt::format("normalizer '{}'", type));
}

}  // namespace

std::vector<Normalizer> read_normalizers(const JsonNode& node) {
  if (node.json.is_null()) return {};
  const auto type = node.at("type").string();
  if (type != "Sequence") return {read_one(node, type)};
  const auto list = node.at("normalizers");
  std::vector<Normalizer> all;
  for (size_t i = 0; i < list.array().size(); ++i) {
    const auto some = read_normalizers(list.at(i));
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

}  // namespace resurface
