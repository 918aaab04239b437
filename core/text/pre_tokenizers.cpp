#include <unicode/uchar.h>

#include "core/text/rewrite.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

using Finder = std::function<std::vector<Span>(std::string_view)>;

enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

Behavior read_behavior(const JsonNode& node) {
  const auto& name = node.string();
  if (name == "Removed") return Behavior::removed;
  if (name == "Isolated") return Behavior::isolated;
  if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (name == "MergedWithNext") return Behavior::merged_with_next;
  if (name == "Contiguous") return Behavior::contiguous;
  node.unsupported(fmt::format("behavior '{}'", name));
}

/// A run of text that the pattern matched, or one between matches.
struct Run {
  Span span;
  bool match;
};

std::vector<Run> runs_of(std::string_view text, const Finder& find, bool invert) {
  std::vector<Run> runs;
  size_t done = 0;
  for (const auto match : find(text)) {
    if (match.begin > done) runs.push_back({{done, match.begin}, invert});
    runs.push_back({match, !invert});
    done = match.end;
  }
  if (done < text.size()) runs.push_back({{done, text.size()}, invert});
  return runs;
}

/// What becomes of matches and of the text between them: tokenizers, NormalizedString::split.
std::vector<Span> arrange(const std::vector<Run>& runs, Behavior behavior) {
  std::vector<Span> spans;
  bool previous = false;
  switch (behavior) {
    case Behavior::removed:
      for (const auto& run : runs) {
        if (!run.match) spans.push_back(run.span);
      }
      break;
    case Behavior::isolated:
      for (const auto& run : runs) spans.push_back(run.span);
      break;
    case Behavior::contiguous:
    case Behavior::merged_with_previous:
      for (const auto& run : runs) {
        const bool join =
            behavior == Behavior::contiguous ? run.match == previous : run.match && !previous;
        if (join && !spans.empty()) {
          spans.back().end = run.span.end;
        } else {
          spans.push_back(run.span);
        }
        previous = run.match;
      }
      break;
    case Behavior::merged_with_next:
      for (auto run = runs.rbegin(); run != runs.rend(); ++run) {
        if (run->match && !previous && !spans.empty()) {
          spans.back().begin = run->span.begin;
        } else {
          spans.push_back(run->span);
        }
        previous = run->match;
      }
      std::reverse(spans.begin(), spans.end());
      break;
  }
  return spans;
}

PreTokenizer splitter(Finder find, Behavior behavior, bool invert) {
  return [find = std::move(find), behavior, invert](Text& text, std::vector<Span>& pieces) {
    std::vector<Span> result;
    for (const auto piece : pieces) {
      const auto part = std::string_view(text.bytes).substr(piece.begin, piece.size());
      for (const auto span : arrange(runs_of(part, find, invert), behavior)) {
        if (span.size() > 0) result.push_back({piece.begin + span.begin, piece.begin + span.end});
      }
    }
    pieces = std::move(result);
  };
}

/// Each character of categories Nd, Nl, No.
std::vector<Span> find_numerals(std::string_view text) {
  std::vector<Span> spans;
  for (size_t i = 0; i < text.size();) {
    const auto begin = i;
    const auto c = next_code_point(text, i);
    const bool numeral = c < 0x80 ? c >= '0' && c <= '9' : (U_GET_GC_MASK(c) & U_GC_N_MASK) != 0;
    if (numeral) spans.push_back({begin, i});
  }
  return spans;
}

void add_prefix_space(Text& text, std::vector<Span>& pieces) {
  Rewriter rewriter(text);
  size_t size = 0;
  for (auto& piece : pieces) {
    const bool spaced = text.bytes[piece.begin] == ' ';
    if (!spaced) rewriter.put(" ", {piece.begin, piece.begin});
    rewriter.keep(piece);
    const auto length = piece.size() + (spaced ? 0 : 1);
    piece = {size, size + length};
    size += length;
  }
  text = rewriter.take();
}

void read_into(const JsonNode& node, std::vector<PreTokenizer>& all, bool& finished) {
  const auto type = node.at("type").string();
  if (type == "Sequence") {
    const auto list = node.at("pretokenizers");
    for (size_t i = 0; i < list.array().size(); ++i) read_into(list.at(i), all, finished);
    return;
  }
  if (finished) node.unsupported(fmt::format("pre_tokenizer '{}' after ByteLevel", type));
  if (type == "Split") {
    all.push_back(splitter(read_pattern(node.at("pattern")), read_behavior(node.at("behavior")),
                           node.flag("invert", false)));
  } else if (type == "Digits") {
    const bool each = node.flag("individual_digits", false);
    all.push_back(splitter(find_numerals, each ? Behavior::isolated : Behavior::contiguous, false));
  } else if (type == "ByteLevel") {
    finished = true;
    if (node.flag("add_prefix_space", true)) all.emplace_back(add_prefix_space);
    if (!node.flag("use_regex", true)) return;
    // GPT-2's pattern (Radford et al. 2019, encoder.py), built into ByteLevel.
    const Regex regex(
        R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
        node.where());
    all.push_back(splitter([regex](std::string_view text) { return regex.find_all(text); },
                           Behavior::isolated, false));
  } else {
    node.unsupported(fmt::format("pre_tokenizer '{}'", type));
  }
}

}  // namespace

std::vector<PreTokenizer> read_pre_tokenizers(const JsonNode& node) {
  if (node.json.is_null()) node.unsupported("a BPE without the ByteLevel pre_tokenizer");
  std::vector<PreTokenizer> all;
  bool finished = false;
  read_into(node, all, finished);
  if (!finished) node.unsupported("a BPE without the ByteLevel pre_tokenizer");
  return all;
}

}  // namespace resurface
