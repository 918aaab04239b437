#include "core/text/split.h"

#include "core/text/utf8.h"

namespace resurface {
namespace {

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

}  // namespace

Behavior read_behavior(const JsonNode& node) {
  const auto& name = node.string();
  if (name == "Removed") return Behavior::removed;
  if (name == "Isolated") return Behavior::isolated;
  if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (name == "MergedWithNext") return Behavior::merged_with_next;
  if (name == "Contiguous") return Behavior::contiguous;
  node.unsupported(fmt::format("behavior '{}'", name));
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

PreTokenizer splitter(bool (*matches)(int32_t), Behavior behavior) {
  return splitter(
      [matches](std::string_view text) {
        std::vector<Span> spans;
        for (size_t i = 0; i < text.size();) {
          const auto begin = i;
          if (matches(next_code_point(text, i))) spans.push_back({begin, i});
        }
        return spans;
      },
      behavior);
}

}  // namespace resurface
