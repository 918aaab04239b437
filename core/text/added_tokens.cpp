#include "core/text/added_tokens.h"

#include "core/text/unicode.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

/// Moves `position` before the character that ends there.
int32_t code_point_before(std::string_view text, size_t& position) {
  position = character_before(text, position);
  auto begin = position;
  return next_code_point(text, begin);
}

bool stands_alone(std::string_view text, Span span) {
  auto begin = span.begin, end = span.end;
  return (begin == 0 || !is_word(code_point_before(text, begin))) &&
         (end == text.size() || !is_word(next_code_point(text, end)));
}

size_t white_space_before(std::string_view text, size_t position, size_t floor) {
  while (position > floor) {
    auto before = position;
    if (!is_white_space(code_point_before(text, before))) break;
    position = before;
  }
  return position;
}

size_t white_space_after(std::string_view text, size_t position) {
  while (position < text.size()) {
    auto after = position;
    if (!is_white_space(next_code_point(text, after))) break;
    position = after;
  }
  return position;
}

}  // namespace

AddedToken read_added_token(const JsonNode& node) {
  AddedToken token;
  token.content = node.at("content").string();
  token.id = node.at("id").id();
  token.special = node.flag("special", false);
  token.single_word = node.flag("single_word", false);
  token.lstrip = node.flag("lstrip", false);
  token.rstrip = node.flag("rstrip", false);
  token.normalized = node.flag("normalized", !token.special);
  if (token.content.empty()) node.wrong("a token that is not empty");
  return token;
}

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::stable_partition(tokens_.begin(), tokens_.end(),
                        [](const AddedToken& token) { return token.special; });
  std::vector<std::pair<std::string_view, uint32_t>> entries;
  for (uint32_t i = 0; i < tokens_.size(); ++i) entries.emplace_back(tokens_[i].content, i);
  trie_ = ByteTrie(std::move(entries));
}

const AddedToken* AddedTokenFinder::match(std::string_view text, size_t at) const {
  const AddedToken* longest = nullptr;
  trie_.prefixes(text.substr(at), [&](size_t, uint32_t i) { longest = &tokens_[i]; });
  return longest;
}

void AddedTokenFinder::split(std::string_view text,
                             const std::function<void(Span, const AddedToken*)>& part) const {
  size_t done = 0;
  Span space;
  for (size_t i = 0; i < text.size();) {
    const auto* token = match(text, i);
    if (token == nullptr) {
      ++i;
      continue;
    }
    Span span{i, i + token->content.size()};
    i = span.end;
    if (token->single_word && !stands_alone(text, span)) continue;
    // White space that the token before has taken stays with it.
    if (token->lstrip) span.begin = std::max(white_space_before(text, span.begin, done), done);
    if (token->rstrip) {
      // Tokens within white space that is known already do not look for its end again.
      if (span.end < space.begin || span.end > space.end) {
        space = {span.end, white_space_after(text, span.end)};
      }
      span.end = space.end;
    }
    span.begin = std::min(span.begin, span.end);
    if (done < span.begin) part({done, span.begin}, nullptr);
    part(span, token);
    done = span.end;
  }
  if (done < text.size()) part({done, text.size()}, nullptr);
}

}  // namespace resurface
