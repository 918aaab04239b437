#include "core/text/tokenizer.h"

#include <algorithm>

#include "core/run/files.h"
#include "core/text/pipeline.h"
#include "core/text/sentence_piece.h"
#include "core/text/tiktoken.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

constexpr size_t longest_text = size_t{1} << 30;

/// How far rules may lengthen a text. NFKC makes 11 bytes of one, Replace any number.
size_t limit_of(size_t size, size_t least) { return least + 64 * size; }

/// Characters at an end of a token that stand for a space.
struct Spaces {
  uint32_t leading = 0, trailing = 0;

  explicit Spaces(std::string_view token) {
    const auto is_space = [](int32_t c) { return c == 0x120 || is_white_space(c); };  // 0x120: Ġ
    for (size_t i = 0; i < token.size() && is_space(next_code_point(token, i));) ++leading;
    for (auto end = token.size(); end > 0; ++trailing) {
      end = character_before(token, end);
      auto begin = end;
      if (!is_space(next_code_point(token, begin))) break;
    }
  }
};

Pipeline read_pipeline(const std::filesystem::path& folder) {
  const auto there = [&](const char* name) { return std::filesystem::exists(folder / name); };
  if (there("tokenizer.json")) {
    const auto json = read_json(folder / "tokenizer.json");
    return read_tokenizer_json({json, (folder / "tokenizer.json").string(), ""});
  }
  const auto config_file = folder / "tokenizer_config.json";
  const auto config = there("tokenizer_config.json") ? read_json(config_file) : nlohmann::json();
  const JsonNode node{config, config_file.string(), ""};
  for (const auto* name : {"tiktoken.model", "qwen.tiktoken"}) {
    if (there(name)) return read_tiktoken(folder / name, node);
  }
  if (there("tokenizer.model")) return read_sentence_piece(folder / "tokenizer.model", node);
  fail(
      "{}: cannot be opened; a model folder needs a tokenizer.json (or a tiktoken.model, "
      "qwen.tiktoken or SentencePiece tokenizer.model)",
      (folder / "tokenizer.json").string());
}

}  // namespace

struct Tokenizer::Impl {
  Pipeline parts;
  AddedTokenFinder raw{{}}, normalized{{}};
  std::vector<std::string_view> tokens;  ///< by id; empty where there is no such id
  std::vector<bool> special;             ///< by id
  std::unordered_map<std::string_view, uint32_t> added;

  explicit Impl(Pipeline pipeline);
  void normalize(Text& text) const {
    for (const auto& step : parts.normalizers) step(text);
  }
  template <class Emit>
  void encode(std::string_view text, const Emit& emit) const;
  Encoding encode_all(std::string_view text, bool wants_special) const;
};

Tokenizer::Impl::Impl(Pipeline pipeline) : parts(std::move(pipeline)) {
  const auto& known = parts.model->vocabulary().tokens();
  tokens.assign(known.begin(), known.end());
  special.resize(tokens.size());
  std::vector<AddedToken> in_raw, in_normalized;
  for (const auto& token : parts.added) {
    if (token.id >= tokens.size()) {
      tokens.resize(token.id + size_t{1});
      special.resize(tokens.size());
    }
    tokens[token.id] = token.content;
    special[token.id] = token.special;
    added[token.content] = token.id;
    if (!token.normalized) {
      in_raw.push_back(token);
      continue;
    }
    Text text{token.content, 0, {}, limit_of(token.content.size(), 1 << 12)};
    normalize(text);
    in_normalized.push_back(token);
    in_normalized.back().content = text.bytes;
  }
  raw = AddedTokenFinder(std::move(in_raw));
  normalized = AddedTokenFinder(std::move(in_normalized));
}

/// emit(id, span of the input, text of an added token as it was matched or null) for every token.
template <class Emit>
void Tokenizer::Impl::encode(std::string_view input, const Emit& emit) const {
  if (input.size() > longest_text) {
    fail("text to tokenize: {} bytes; at most {}", input.size(), longest_text);
  }
  if (const auto bad = invalid_utf8(input); bad != std::string_view::npos) {
    fail("text to tokenize: invalid UTF-8 at byte {} of {}", bad, input.size());
  }
  Scratch scratch;
  std::vector<Span> words;
  const auto ordinary = [&](Text text) {
    words.assign(1, {0, text.bytes.size()});
    for (const auto& step : parts.pre_tokenizers) step(text, words);
    for (const auto word : words) {
      parts.model->encode(std::string_view(text.bytes).substr(word.begin, word.size()), scratch);
      for (const auto& piece : scratch.pieces) {
        emit(piece.id, text.source_of({word.begin + piece.begin, word.begin + piece.end}), nullptr);
      }
    }
  };
  raw.split(input, [&](Span run, const AddedToken* token) {
    const auto part = input.substr(run.begin, run.size());
    if (token != nullptr) return emit(token->id, run, &part);
    Text text{std::string(part), run.begin, {}, limit_of(input.size(), 1 << 20)};
    normalize(text);
    normalized.split(text.bytes, [&](Span inner, const AddedToken* found) {
      const auto matched = std::string_view(text.bytes).substr(inner.begin, inner.size());
      if (found != nullptr) return emit(found->id, text.source_of(inner), &matched);
      ordinary(inner.size() == text.bytes.size() ? std::move(text) : text.slice(inner));
    });
  });
}

Encoding Tokenizer::Impl::encode_all(std::string_view text, bool wants_special) const {
  std::vector<Token> found;
  encode(text, [&](uint32_t id, Span source, const std::string_view* matched) {
    const Spaces spaces(matched != nullptr ? *matched : tokens[id]);
    found.push_back({id, source, spaces.leading, spaces.trailing});
  });
  parts.post_processor(text, wants_special, found);
  Encoding encoding;
  for (const auto& [id, source, leading, trailing] : found) {
    if (id >= tokens.size()) {
      fail("the post_processor adds token {}, but there are {}", id, tokens.size());
    }
    encoding.ids.push_back(id);
    encoding.offsets.emplace_back(source.begin, source.end);
  }
  return encoding;
}

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  Tokenizer tokenizer;
  tokenizer.impl_ = std::make_shared<const Impl>(read_pipeline(folder));
  return tokenizer;
}

Encoding Tokenizer::encode_with_offsets(std::string_view text) const {
  return impl_->encode_all(text, false);
}

Encoding Tokenizer::encode_special(std::string_view text) const {
  return impl_->encode_all(text, true);
}

std::vector<int64_t> Tokenizer::encode_prompt(std::string_view text) const {
  auto own = encode(text);
  auto all = encode_special(text).ids;
  const auto begin = std::search(all.begin(), all.end(), own.begin(), own.end());
  const auto before = begin - all.begin();
  if (before <= std::ssize(own) && std::equal(all.begin(), begin, own.begin())) return own;
  all.resize(static_cast<size_t>(before) + own.size());
  return all;
}

std::vector<int64_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int64_t> ids;
  impl_->encode(text, [&](uint32_t id, Span, const std::string_view*) { ids.push_back(id); });
  return ids;
}

std::string Tokenizer::decode(const std::vector<int64_t>& ids, bool skip_special) const {
  std::vector<std::string> tokens;
  for (const auto id : ids) {
    if (id < 0 || id >= vocab_size() || (skip_special && impl_->special[id])) continue;
    if (!impl_->tokens[id].empty()) tokens.emplace_back(impl_->tokens[id]);
  }
  impl_->parts.decoder(tokens);
  std::string text;
  for (const auto& token : tokens) text += token;
  return text;
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(impl_->tokens.size()); }

int64_t Tokenizer::token_id(const std::string& token) const {
  const auto found = impl_->added.find(token);
  if (found != impl_->added.end()) return found->second;
  return impl_->parts.model->vocabulary().find(token);
}

}  // namespace resurface
