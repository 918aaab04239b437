#include "core/text/rewrite.h"
#include "core/text/split.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

/// Rewrites each piece by write(rewriter, piece); none may become empty.
template <class Write>
void rewrite_pieces(Text& text, std::vector<Span>& pieces, const Write& write) {
  Rewriter rewriter(text);
  for (auto& piece : pieces) {
    const auto begin = rewriter.size();
    write(rewriter, piece);
    piece = {begin, rewriter.size()};
  }
  text = rewriter.take();
}

/// Where the first character of a piece came from: what is put before it shares its place.
Span source_of_first(const Text& text, Span piece) {
  auto end = piece.begin;
  next_code_point(text.bytes, end);
  return text.source_of({piece.begin, end});
}

void add_prefix_space(Text& text, std::vector<Span>& pieces) {
  const auto spaced = [&](Span piece) { return text.bytes[piece.begin] == ' '; };
  if (std::all_of(pieces.begin(), pieces.end(), spaced)) return;
  rewrite_pieces(text, pieces, [&](Rewriter& rewriter, Span piece) {
    if (!spaced(piece)) rewriter.put(" ", source_of_first(text, piece));
    rewriter.keep(piece);
  });
}

void write_bytes(Text& text, std::vector<Span>& pieces) {
  static const auto alphabet = byte_alphabet();
  rewrite_pieces(text, pieces, [&](Rewriter& rewriter, Span piece) {
    for (auto i = piece.begin; i < piece.end; ++i) {
      rewriter.put(alphabet[static_cast<unsigned char>(text.bytes[i])], text.source_of({i, i + 1}));
    }
  });
}

struct Metaspace {
  std::string replacement;
  enum { first, always, never } prepend;
  bool split;

  explicit Metaspace(const JsonNode& node)
      : replacement(read_character(node.at("replacement"))),
        prepend(always),
        split(node.flag("split", true)) {
    if (node.has("prepend_scheme")) {
      const auto entry = node.at("prepend_scheme");
      const auto& scheme = entry.string();
      if (scheme != "first" && scheme != "always" && scheme != "never") {
        entry.unsupported(fmt::format("prepend_scheme '{}'", scheme));
      }
      prepend = scheme == "first" ? first : scheme == "always" ? always : never;
    }
    if (!node.flag("add_prefix_space", true) && prepend != never) {
      node.wrong("prepend_scheme \"never\", as add_prefix_space is false");
    }
  }

  void operator()(Text& text, std::vector<Span>& pieces) const {
    rewrite_pieces(text, pieces, [&](Rewriter& rewriter, Span piece) {
      const auto part = std::string_view(text.bytes).substr(piece.begin, piece.size());
      const auto source = source_of_first(text, piece);
      const bool there = part.starts_with(' ') || part.starts_with(replacement);
      if (!there && (prepend == always || (prepend == first && source.begin == 0))) {
        rewriter.put(replacement, source);
      }
      for (auto at = piece.begin; at < piece.end;) {
        const auto space = std::min(text.bytes.find(' ', at), piece.end);
        rewriter.keep({at, space});
        if (space < piece.end) rewriter.put(replacement, text.source_of({space, space + 1}));
        at = space + 1;
      }
    });
    if (split) splitter(find_text(replacement), Behavior::merged_with_next)(text, pieces);
  }
};

/// \w+|[^\w\s]+
std::vector<Span> find_words(std::string_view text) {
  std::vector<Span> spans;
  bool last_word = false;
  for (size_t i = 0; i < text.size();) {
    const auto begin = i;
    const auto c = next_code_point(text, i);
    const bool word = is_word(c);
    if (!word && is_white_space(c)) continue;
    if (!spans.empty() && spans.back().end == begin && last_word == word) {
      spans.back().end = i;
    } else {
      spans.push_back({begin, i});
    }
    last_word = word;
  }
  return spans;
}

/// Cuts where the script changes; as `tokenizers` does, it drops what comes before the first
/// character that has one.
void split_scripts(Text& text, std::vector<Span>& pieces) {
  std::vector<Span> result;
  for (const auto piece : pieces) {
    std::optional<int> last;
    std::optional<size_t> from;
    for (auto i = piece.begin; i < piece.end;) {
      const auto begin = i;
      const auto script = script_of(next_code_point(text.bytes, i));
      if (script == any_script) continue;
      if (last != script) {
        if (from) result.push_back({*from, begin});
        from = begin;
      }
      last = script;
    }
    if (from) result.push_back({*from, piece.end});
  }
  pieces = std::move(result);
}

PreTokenizer fixed_length(const JsonNode& node) {
  size_t length = 5;
  if (node.has("length")) {
    const auto entry = node.at("length");
    if (entry.id() == 0) entry.wrong("a length above 0");
    length = entry.id();
  }
  return [length](Text& text, std::vector<Span>& pieces) {
    std::vector<Span> result;
    for (const auto piece : pieces) {
      for (auto i = piece.begin; i < piece.end;) {
        const auto begin = i;
        for (size_t k = 0; k < length && i < piece.end; ++k) next_code_point(text.bytes, i);
        result.push_back({begin, i});
      }
    }
    pieces = std::move(result);
  };
}

void read_byte_level(const JsonNode& node, std::vector<PreTokenizer>& steps) {
  if (node.flag("add_prefix_space", true)) steps.emplace_back(add_prefix_space);
  if (node.flag("use_regex", true)) {
    // GPT-2's pattern (Radford et al. 2019, encoder.py), built into ByteLevel.
    const Regex regex(
        R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
        node.where());
    steps.push_back(splitter([regex](std::string_view text) { return regex.find_all(text); },
                             Behavior::isolated));
  }
}

PreTokenizer read_one(const JsonNode& node, const std::string& type) {
  if (type == "Split") {
    return splitter(read_pattern(node.at("pattern")), read_behavior(node.at("behavior")),
                    node.flag("invert", false));
  }
  if (type == "Digits") {
    const bool each = node.flag("individual_digits", false);
    return splitter(is_numeric, each ? Behavior::isolated : Behavior::contiguous);
  }
  if (type == "Punctuation") {
    const auto behavior =
        node.has("behavior") ? read_behavior(node.at("behavior")) : Behavior::isolated;
    return splitter(is_punctuation, behavior);
  }
  if (type == "CharDelimiterSplit") {
    return splitter(find_text(read_character(node.at("delimiter"))), Behavior::removed);
  }
  if (type == "Metaspace") return Metaspace(node);
  if (type == "WhitespaceSplit") return splitter(is_white_space, Behavior::removed);
  if (type == "Whitespace") return splitter(find_words, Behavior::removed, true);
  if (type == "UnicodeScripts") return split_scripts;
  if (type == "FixedLength") return fixed_length(node);
  if (type == "BertPreTokenizer") {
    return [spaces = splitter(is_white_space, Behavior::removed),
            punctuation = splitter(is_punctuation, Behavior::isolated)](Text& text,
                                                                        std::vector<Span>& pieces) {
      spaces(text, pieces);
      punctuation(text, pieces);
    };
  }
  node.unsupported(fmt::format("pre_tokenizer '{}'", type));
}

}  // namespace

PreTokenizers read_pre_tokenizers(const JsonNode& node, bool bytes_wanted) {
  PreTokenizers all;
  const auto finish = [&] {
    if (all.bytes) all.steps.emplace_back(write_bytes);
    all.bytes = false;
  };
  for_each_entry(node, "pretokenizers", [&](const JsonNode& entry, const std::string& type) {
    finish();  // ByteLevel came before, and is not the last
    if (type != "ByteLevel") {
      all.steps.push_back(read_one(entry, type));
      return;
    }
    read_byte_level(entry, all.steps);
    all.bytes = true;
  });
  if (!bytes_wanted) finish();
  return all;
}

}  // namespace resurface
