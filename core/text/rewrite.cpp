#include "core/text/rewrite.h"

namespace resurface {

Span Text::source_of(Span span) const {
  if (source.empty()) return {base + span.begin, base + span.end};
  if (span.size() == 0) {
    const auto at = span.begin < source.size() ? source[span.begin].begin : source.back().end;
    return {at, at};
  }
  return {source[span.begin].begin, source[span.end - 1].end};
}

Text Text::slice(Span span) const {
  Text part{bytes.substr(span.begin, span.size()), base + span.begin, {}};
  if (!source.empty()) {
    part.source.assign(source.begin() + static_cast<std::ptrdiff_t>(span.begin),
                       source.begin() + static_cast<std::ptrdiff_t>(span.end));
  }
  return part;
}

void Rewriter::keep(Span span) {
  to_.bytes.append(from_.bytes, span.begin, span.size());
  for (auto i = span.begin; i < span.end; ++i) to_.source.push_back(from_.source_of({i, i + 1}));
}

void Rewriter::put(std::string_view bytes, Span span) {
  to_.bytes.append(bytes);
  to_.source.insert(to_.source.end(), bytes.size(), from_.source_of(span));
}

std::function<std::vector<Span>(std::string_view)> read_pattern(const JsonNode& node) {
  if (node.has("Regex")) {
    const auto entry = node.at("Regex");
    return [regex = Regex(entry.string(), entry.where())](std::string_view text) {
      return regex.find_all(text);
    };
  }
  const auto entry = node.at("String");
  if (entry.string().empty()) entry.unsupported("an empty pattern");
  return [wanted = entry.string()](std::string_view text) {
    std::vector<Span> spans;
    for (size_t at = 0; (at = text.find(wanted, at)) != std::string_view::npos;
         at += wanted.size()) {
      spans.push_back({at, at + wanted.size()});
    }
    return spans;
  };
}

}  // namespace resurface
