#include "core/text/tokenizer.h"

#include <fstream>

#include "core/text/added_tokens.h"
#include "core/text/bpe.h"
#include "core/text/rewrite.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

void normalize(const std::vector<Normalizer>& steps, Text& text) {
  for (const auto& step : steps) step(text);
}

/// The ids that `tokenizers` gives to added tokens: the vocabulary's, or the next free one.
std::vector<AddedToken> read_added_tokens(const JsonNode& root,
                                          std::unordered_map<std::string, uint32_t> ids) {
  std::vector<AddedToken> tokens;
  if (!root.has("added_tokens")) return tokens;
  const auto list = root.at("added_tokens");
  auto next = static_cast<uint32_t>(ids.size());
  for (size_t i = 0; i < list.array().size(); ++i) {
    const auto entry = list.at(i);
    auto token = read_added_token(entry);
    const auto [known, fresh] = ids.emplace(token.content, next);
    if (fresh) ++next;
    if (known->second != token.id) {
      fail("{}: token '{}' has id {}, but its id must be {} ({})", entry.where(), token.content,
           token.id, known->second,
           fresh ? "added tokens follow the vocabulary without gaps" : "as it was given before");
    }
    const auto same = [&](const AddedToken& other) { return other.content == token.content; };
    if (std::any_of(tokens.begin(), tokens.end(), same)) {
      fail("{}: token '{}' is listed twice", entry.where(), token.content);
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

void check_decoder(const JsonNode& root) {
  if (!root.has("decoder")) root.unsupported("a BPE without the ByteLevel decoder");
  const auto decoder = root.at("decoder");
  const auto type = [](const JsonNode& node) { return node.at("type").string(); };
  if (type(decoder) == "ByteLevel") return;
  if (type(decoder) != "Sequence") {
    decoder.unsupported(fmt::format("decoder '{}'", type(decoder)));
  }
  const auto list = decoder.at("decoders");
  for (size_t i = 0; i < list.array().size(); ++i) {
    const auto entry = list.at(i);
    const std::string expected =
        i == 0 ? "ByteLevel" : "Fuse";  // Fuse after ByteLevel changes nothing
    if (type(entry) != expected) {
      entry.unsupported(fmt::format("decoder '{}' where {} is expected", type(entry), expected));
    }
  }
  if (list.json.empty()) list.wrong("the ByteLevel decoder");
}

}  // namespace

struct Tokenizer::Impl {
  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;
  Bpe bpe;
  AddedTokenFinder raw{{}}, normalized{{}};
  std::unordered_map<std::string, uint32_t> ids;
  std::vector<std::string> bytes;  ///< by id; empty where there is no such id
  std::vector<bool> special;       ///< by id

  explicit Impl(const JsonNode& root);
  void name(const std::string& token, uint32_t id);
  template <class Emit>
  void encode(std::string_view text, const Emit& emit) const;
};

Tokenizer::Impl::Impl(const JsonNode& root) : bpe(root.at("model")) {
  if (root.has("normalizer")) normalizers = read_normalizers(root.at("normalizer"));
  pre_tokenizers = read_pre_tokenizers(root.at("pre_tokenizer"));
  check_decoder(root);
  for (const auto& [token, id] : bpe.vocabulary()) name(token, id);

  std::vector<AddedToken> in_raw, in_normalized;
  for (auto& token : read_added_tokens(root, bpe.vocabulary())) {
    name(token.content, token.id);
    special[token.id] = token.special;
    if (token.normalized) {
      Text text{token.content, 0, {}};
      normalize(normalizers, text);
      token.content = text.bytes;
      in_normalized.push_back(std::move(token));
    } else {
      in_raw.push_back(std::move(token));
    }
  }
  raw = AddedTokenFinder(std::move(in_raw));
  normalized = AddedTokenFinder(std::move(in_normalized));
}

void Tokenizer::Impl::name(const std::string& token, uint32_t id) {
  ids[token] = id;
  if (id >= bytes.size()) {
    bytes.resize(id + size_t{1});
    special.resize(bytes.size());
  }
  // As in `tokenizers`: a token with a character outside the alphabet stands for its own UTF-8.
  bytes[id] = bytes_of_alphabet(token).value_or(token);
}

/// emit(id, span of the input) for every token.
template <class Emit>
void Tokenizer::Impl::encode(std::string_view input, const Emit& emit) const {
  if (const auto bad = invalid_utf8(input); bad != std::string_view::npos) {
    fail("text to tokenize: invalid UTF-8 at byte {} of {}", bad, input.size());
  }
  Bpe::Scratch scratch;
  std::vector<Span> words;
  const auto ordinary = [&](Text text) {
    words.assign(1, {0, text.bytes.size()});
    for (const auto& step : pre_tokenizers) step(text, words);
    for (const auto word : words) {
      bpe.encode(std::string_view(text.bytes).substr(word.begin, word.size()), scratch);
      for (const auto& piece : scratch.pieces) {
        emit(piece.id, text.source_of({word.begin + piece.begin, word.begin + piece.end}));
      }
    }
  };
  raw.split(input, [&](Span run, const AddedToken* token) {
    if (token != nullptr) return emit(token->id, run);
    Text text{std::string(input.substr(run.begin, run.size())), run.begin, {}};
    normalize(normalizers, text);
    normalized.split(text.bytes, [&](Span part, const AddedToken* inner) {
      if (inner != nullptr) return emit(inner->id, text.source_of(part));
      ordinary(part.size() == text.bytes.size() ? std::move(text) : text.slice(part));
    });
  });
}

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  const auto file = (folder / "tokenizer.json").string();
  std::ifstream stream(file, std::ios::binary);
  if (!stream) fail("{}: cannot be opened; a model folder needs a tokenizer.json", file);
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(stream);
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not valid JSON: {}", file, error.what());
  }
  Tokenizer tokenizer;
  tokenizer.impl_ = std::make_shared<const Impl>(JsonNode{json, file, ""});
  return tokenizer;
}

Encoding Tokenizer::encode_with_offsets(std::string_view text) const {
  Encoding encoding;
  impl_->encode(text, [&](uint32_t id, Span span) {
    encoding.ids.push_back(id);
    encoding.offsets.emplace_back(span.begin, span.end);
  });
  return encoding;
}

std::vector<int64_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int64_t> ids;
  impl_->encode(text, [&](uint32_t id, Span) { ids.push_back(id); });
  return ids;
}

std::string Tokenizer::decode(const std::vector<int64_t>& ids, bool skip_special) const {
  std::string bytes;
  for (const auto id : ids) {
    if (id < 0 || id >= vocab_size() || (skip_special && impl_->special[id])) continue;
    bytes += impl_->bytes[id];
  }
  return utf8_lossy(bytes);
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(impl_->bytes.size()); }

int64_t Tokenizer::token_id(const std::string& token) const {
  const auto found = impl_->ids.find(token);
  return found == impl_->ids.end() ? -1 : found->second;
}

}  // namespace resurface
