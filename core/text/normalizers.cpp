#include <unicode/uchar.h>

#include "core/text/precompiled.h"
#include "core/text/rewrite.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

/// Character by character: keep says which stay, map what becomes of them.
template <class Keep, class Map>
void map_characters(Text& text, const Keep& keep, const Map& map) {
  Rewriter rewriter(text);
  std::string character;
  for (size_t i = 0; i < text.bytes.size();) {
    const auto begin = i;
    const auto c = next_code_point(text.bytes, i);
    if (!keep(c)) continue;
    const auto mapped = map(c);
    if (mapped == c) {
      rewriter.keep({begin, i});
      continue;
    }
    character.clear();
    append_code_point(character, mapped);
    rewriter.put(character, text.source_of({begin, i}));
  }
  text = rewriter.take();
}

int32_t itself(int32_t c) { return c; }

void to_form(Text& text, NormalForm form) {
  if (!is_normalized(text.bytes, form)) rewrite(text, normalize(text.bytes, form));
}

/// Character by character, as `tokenizers` does: a final sigma is not special.
void lowercase(Text& text) {
  Rewriter rewriter(text);
  std::string lower;
  for (size_t i = 0; i < text.bytes.size();) {
    const auto begin = i;
    const auto c = next_code_point(text.bytes, i);
    lower.clear();
    append_code_point(lower, c < 0x80 ? (c >= 'A' && c <= 'Z' ? c + 32 : c) : u_tolower(c));
    if (c == 0x130) lower = "i\xCC\x87";  // the only letter whose lower case is two characters
    if (std::string_view(text.bytes).substr(begin, i - begin) == lower) {
      rewriter.keep({begin, i});
    } else {
      rewriter.put(lower, text.source_of({begin, i}));
    }
  }
  text = rewriter.take();
}

void strip(Text& text, bool left, bool right) {
  std::optional<size_t> first;
  size_t last = 0;  // the first and one past the last byte that is not white space
  for (size_t i = 0; i < text.bytes.size();) {
    const auto begin = i;
    if (is_white_space(next_code_point(text.bytes, i))) continue;
    if (!first) first = begin;
    last = i;
  }
  if (!left && !right) return;
  if (!first) {
    text = text.slice({0, 0});
  } else {
    text = text.slice({left ? *first : 0, right ? last : text.bytes.size()});
  }
}

/// BERT's: spaces around Chinese characters, which share the character's place.
void space_chinese(Text& text) {
  Rewriter rewriter(text);
  for (size_t i = 0; i < text.bytes.size();) {
    const auto begin = i;
    const bool chinese = is_chinese(next_code_point(text.bytes, i));
    const auto source = text.source_of({begin, i});
    if (chinese) rewriter.put(" ", source);
    rewriter.keep({begin, i});
    if (chinese) rewriter.put(" ", source);
  }
  text = rewriter.take();
}

Normalizer bert(const JsonNode& node) {
  const bool clean = node.flag("clean_text", true);
  const bool chinese = node.flag("handle_chinese_chars", true);
  const bool lower = node.flag("lowercase", true);
  const bool accents = node.flag("strip_accents", lower);
  return [=](Text& text) {
    if (clean) {
      map_characters(
          text,
          [](int32_t c) {
            const bool space = c == '\t' || c == '\n' || c == '\r';
            return space || (c != 0 && c != 0xFFFD && !is_control_like(c));
          },
          [](int32_t c) { return is_white_space(c) ? ' ' : c; });
    }
    if (chinese) space_chinese(text);
    if (accents) {
      to_form(text, NormalForm::nfd);
      map_characters(
          text, [](int32_t c) { return !is_nonspacing_mark(c); }, itself);
    }
    if (lower) lowercase(text);
  };
}

/// SentencePiece's "nmt" rules.
void nmt(Text& text) {
  map_characters(
      text,
      [](int32_t c) {
        return !((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F ||
                 c == 0x8F || c == 0x9F);
      },
      [](int32_t c) {
        const bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                           (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 ||
                           c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
        return space ? ' ' : c;
      });
}

void write_bytes(Text& text, const std::array<std::string, 256>& alphabet) {
  Rewriter rewriter(text);
  for (size_t i = 0; i < text.bytes.size(); ++i) {
    rewriter.put(alphabet[static_cast<unsigned char>(text.bytes[i])], text.source_of({i, i + 1}));
  }
  text = rewriter.take();
}

Normalizer prepend(const JsonNode& node) {
  return [prefix = node.at("prepend").string()](Text& text) {
    if (text.bytes.empty()) return;
    size_t first = 0;
    next_code_point(text.bytes, first);
    Rewriter rewriter(text);
    rewriter.put(prefix, text.source_of({0, first}));
    rewriter.keep({0, text.bytes.size()});
    text = rewriter.take();
  };
}

Normalizer replace(const JsonNode& node) {
  return
      [find = read_pattern(node.at("pattern")), content = node.at("content").string()](Text& text) {
        const auto matches = find(text.bytes);
        if (matches.empty()) return;
        Rewriter rewriter(text);
        size_t done = 0;
        for (const auto match : matches) {
          rewriter.keep({done, match.begin});
          rewriter.put(content, text.source_before(match.end));
          done = match.end;
        }
        rewriter.keep({done, text.bytes.size()});
        text = rewriter.take();
      };
}

Normalizer read_one(const JsonNode& node, const std::string& type) {
  const auto form = [](NormalForm which) { return [which](Text& text) { to_form(text, which); }; };
  if (type == "NFC") return form(NormalForm::nfc);
  if (type == "NFD") return form(NormalForm::nfd);
  if (type == "NFKC") return form(NormalForm::nfkc);
  if (type == "NFKD") return form(NormalForm::nfkd);
  if (type == "Lowercase") return lowercase;
  if (type == "Nmt") return nmt;
  if (type == "BertNormalizer") return bert(node);
  if (type == "Prepend") return prepend(node);
  if (type == "Replace") return replace(node);
  if (type == "Strip") {
    return [left = node.flag("strip_left", true),
            right = node.flag("strip_right", true)](Text& text) { strip(text, left, right); };
  }
  if (type == "StripAccents") {
    return [](Text& text) {
      map_characters(
          text, [](int32_t c) { return !is_combining_mark(c); }, itself);
    };
  }
  if (type == "ByteLevel") {
    return [alphabet = byte_alphabet()](Text& text) { write_bytes(text, alphabet); };
  }
  if (type == "Precompiled") {
    return [map = Precompiled(node)](Text& text) { map.apply(text); };
  }
  node.unsupported(fmt::format("normalizer '{}'", type));
}

}  // namespace

std::vector<Normalizer> read_normalizers(const JsonNode& node) {
  std::vector<Normalizer> all;
  for_each_entry(node, "normalizers", [&](const JsonNode& entry, const std::string& type) {
    all.push_back(read_one(entry, type));
  });
  return all;
}

}  // namespace resurface
