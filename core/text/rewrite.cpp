#include "core/text/rewrite.h"

#include "core/text/utf8.h"

namespace resurface {

Span Text::source_of(Span span) const {
  if (source.empty()) return {base + span.begin, base + span.end};
  if (span.size() == 0) {
    const auto at = span.begin < source.size() ? source[span.begin].begin : source.back().end;
    return {at, at};
  }
  return {source[span.begin].begin, source[span.end - 1].end};
}

Span Text::source_before(size_t at) const {
  if (at == 0) return {base, base};
  return source_of({character_before(bytes, at), at});
}

Text Text::slice(Span span) const {
  Text part{bytes.substr(span.begin, span.size()), source_of(span).begin, {}, limit};
  if (!source.empty()) {
    part.source.assign(source.begin() + static_cast<std::ptrdiff_t>(span.begin),
                       source.begin() + static_cast<std::ptrdiff_t>(span.end));
  }
  return part;
}

void Rewriter::check_limit() const {
  if (to_.bytes.size() > to_.limit) {
    fail("the tokenizer's rules make {} bytes of text longer than {} bytes", from_.bytes.size(),
         to_.limit);
  }
}

void Rewriter::keep(Span span) {
  to_.bytes.append(from_.bytes, span.begin, span.size());
  check_limit();
  if (!from_.source.empty()) {
    to_.source.insert(to_.source.end(),
                      from_.source.begin() + static_cast<std::ptrdiff_t>(span.begin),
                      from_.source.begin() + static_cast<std::ptrdiff_t>(span.end));
    return;
  }
  for (auto i = from_.base + span.begin; i < from_.base + span.end; ++i) {
    to_.source.push_back({i, i + 1});
  }
}

void Rewriter::put(std::string_view bytes, Span source) {
  to_.bytes.append(bytes);
  check_limit();
  to_.source.insert(to_.source.end(), bytes.size(), source);
}

void rewrite(Text& text, const std::vector<Change>& changes, size_t removed) {
  Rewriter rewriter(text);
  size_t at = 0;
  const auto skip = [&](size_t count) {
    for (; count > 0 && at < text.bytes.size(); --count) next_code_point(text.bytes, at);
  };
  skip(removed);
  std::string character;
  for (const auto& [c, change] : changes) {
    character.clear();
    append_code_point(character, c);
    if (change > 0 || at >= text.bytes.size()) {
      rewriter.put(character, text.source_before(at));
      continue;
    }
    const auto begin = at;
    const auto old = next_code_point(text.bytes, at);
    if (old == c) {
      rewriter.keep({begin, at});
    } else {
      rewriter.put(character, text.source_of({begin, at}));
    }
    skip(static_cast<size_t>(-change));
  }
  text = rewriter.take();
}

Finder find_text(std::string wanted) {
  return [wanted = std::move(wanted)](std::string_view text) {
    std::vector<Span> spans;
    for (size_t at = 0; (at = text.find(wanted, at)) != std::string_view::npos;
         at += wanted.size()) {
      spans.push_back({at, at + wanted.size()});
    }
    return spans;
  };
}

Finder read_pattern(const JsonNode& node) {
  if (node.has("Regex")) {
    const auto entry = node.at("Regex");
    return [regex = Regex(entry.string(), entry.where())](std::string_view text) {
      return regex.find_all(text);
    };
  }
  const auto entry = node.at("String");
  if (entry.string().empty()) entry.unsupported("an empty pattern");
  return find_text(entry.string());
}

std::string read_character(const JsonNode& node) {
  const auto& text = node.string();
  size_t end = 0;
  if (!text.empty()) next_code_point(text, end);
  if (text.empty() || end != text.size()) node.wrong("one character");
  return text;
}

void for_each_entry(const JsonNode& node, const std::string& list,
                    const std::function<void(const JsonNode&, const std::string&)>& entry,
                    int depth) {
  if (node.json.is_null()) return;
  const auto type = node.at("type").string();
  if (type != "Sequence") return entry(node, type);
  if (depth == 16) node.unsupported("a Sequence nested this deep");
  const auto entries = node.at(list);
  for (size_t i = 0; i < entries.array().size(); ++i) {
    for_each_entry(entries.at(i), list, entry, depth + 1);
  }
}

}  // namespace resurface
