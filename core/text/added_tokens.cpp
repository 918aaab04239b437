#include "core/text/added_tokens.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include "core/text/utf8.h"

namespace resurface {
namespace {

/// \w of Unicode's regex standard (UTS 18, annex C).
bool is_word(UChar32 c) {
  constexpr auto mask = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  return (U_GET_GC_MASK(c) & mask) != 0 || u_hasBinaryProperty(c, UCHAR_ALPHABETIC) ||
         u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL);
}

UChar32 code_point_before(std::string_view text, size_t& position) {
  UChar32 c;
  U8_PREV_UNSAFE(text.data(), position, c);
  return c;
}

bool stands_alone(std::string_view text, Span span) {
  auto begin = span.begin, end = span.end;
  return (begin == 0 || !is_word(code_point_before(text, begin))) &&
         (end == text.size() || !is_word(next_code_point(text, end)));
}

size_t white_space_before(std::string_view text, size_t position) {
  while (position > 0) {
    auto before = position;
    if (!u_isUWhiteSpace(code_point_before(text, before))) break;
    position = before;
  }
  return position;
}

size_t white_space_after(std::string_view text, size_t position) {
  while (position < text.size()) {
    auto after = position;
    if (!u_isUWhiteSpace(next_code_point(text, after))) break;
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
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i].content.empty()) continue;  // normalised to nothing: never found
    by_first_byte_[static_cast<unsigned char>(tokens_[i].content[0])].push_back(i);
  }
  for (auto& bucket : by_first_byte_) {
    std::stable_sort(bucket.begin(), bucket.end(), [&](size_t a, size_t b) {
      return tokens_[a].content.size() > tokens_[b].content.size();
    });
  }
}

const AddedToken* AddedTokenFinder::match(std::string_view text, size_t at) const {
  const auto rest = text.substr(at);
  for (const auto i : by_first_byte_[static_cast<unsigned char>(text[at])]) {
    if (rest.starts_with(tokens_[i].content)) return &tokens_[i];
  }
  return nullptr;
}

void AddedTokenFinder::split(std::string_view text,
                             const std::function<void(Span, const AddedToken*)>& part) const {
  size_t done = 0;
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
    if (token->lstrip) span.begin = std::max(white_space_before(text, span.begin), done);
    if (token->rstrip) span.end = white_space_after(text, span.end);
    if (done < span.begin) part({done, span.begin}, nullptr);
    part(span, token);
    done = span.end;
  }
  if (done < text.size()) part({done, text.size()}, nullptr);
}

}  // namespace resurface
