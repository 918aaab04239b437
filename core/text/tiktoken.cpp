#include "core/text/tiktoken.h"

#include <charconv>
#include <fstream>

#include "core/text/base64.h"
#include "core/text/bpe.h"
#include "core/text/sentence_piece.h"
#include "core/text/split.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

constexpr size_t longest_token = 1024;
constexpr uint32_t kimi_reserved = 256, qwen_extras = 205;

constexpr std::string_view kimi_pattern =
    R"([\p{Han}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// The tokens of the file by rank, in GPT-2's alphabet.
std::vector<std::string> read_tokens(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) fail("{}: cannot be opened", file.string());
  const auto alphabet = byte_alphabet();
  std::vector<std::string> tokens;
  std::string line;
  while (std::getline(stream, line)) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) continue;
    const auto where = fmt::format("{}: line {}", file.string(), tokens.size() + 1);
    const auto space = std::min(line.find(' '), line.size());
    const auto bytes = from_base64(std::string_view(line).substr(0, space));
    if (!bytes || bytes->empty() || bytes->size() > longest_token) {
      fail("{}: expected 1 to {} bytes in base64", where, longest_token);
    }
    size_t rank = 0;
    const auto* end = line.data() + line.size();
    const auto parsed = std::from_chars(line.data() + std::min(space + 1, line.size()), end, rank);
    if (parsed.ec != std::errc() || parsed.ptr != end || rank != tokens.size()) {
      fail("{}: expected the rank {}, as ranks are without gaps", where, tokens.size());
    }
    auto& token = tokens.emplace_back();
    for (const char byte : *bytes) token += alphabet[static_cast<unsigned char>(byte)];
  }
  return tokens;
}

AddedToken special_token(std::string content, uint32_t id) {
  AddedToken token;
  token.content = std::move(content);
  token.id = id;
  token.special = true;
  token.normalized = false;
  return token;
}

/// Ids that tokenizer_config.json does not name are reserved.
std::vector<AddedToken> kimi_tokens(uint32_t first, const JsonNode& config) {
  auto tokens = read_added_tokens_decoder(config);
  std::vector<bool> named(kimi_reserved);
  for (auto& token : tokens) {
    if (token.id < first || token.id - first >= kimi_reserved || named[token.id - first]) {
      fail("{}: special token '{}' has id {}; expected one of {} to {}, each once", config.file,
           token.content, token.id, first, first + kimi_reserved - 1);
    }
    named[token.id - first] = true;
    token = special_token(token.content, token.id);
  }
  for (uint32_t i = 0; i < kimi_reserved; ++i) {
    if (!named[i]) {
      tokens.push_back(special_token(fmt::format("<|reserved_token_{}|>", first + i), first + i));
    }
  }
  return tokens;
}

std::vector<AddedToken> qwen_tokens(uint32_t first) {
  std::vector<AddedToken> tokens;
  for (const auto* content : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    tokens.push_back(special_token(content, first++));
  }
  for (uint32_t i = 0; i < qwen_extras; ++i) {
    tokens.push_back(special_token(fmt::format("<|extra_{}|>", i), first++));
  }
  return tokens;
}

}  // namespace

Pipeline read_tiktoken(const std::filesystem::path& file, const JsonNode& config) {
  auto tokens = read_tokens(file);
  const auto count = static_cast<uint32_t>(tokens.size());
  const bool qwen = file.filename() == "qwen.tiktoken";
  Pipeline pipeline;
  try {
    pipeline.model = std::make_unique<const Bpe>(std::move(tokens));
  } catch (const Error& error) {
    fail("{}: {}", file.string(), error.what());
  }
  const Regex regex(std::string(qwen ? qwen_pattern : kimi_pattern), file.string());
  pipeline.pre_tokenizers.push_back(splitter(
      [regex](std::string_view text) { return regex.find_all(text); }, Behavior::isolated));
  pipeline.added = qwen ? qwen_tokens(count) : kimi_tokens(count, config);
  if (qwen) {
    const nlohmann::json nfc{{"type", "NFC"}};
    pipeline.normalizers = read_normalizers({nfc, file.string(), ""});
  }
  const nlohmann::json byte_level{{"type", "ByteLevel"}};
  pipeline.decoder = read_decoder({byte_level, file.string(), ""});
  pipeline.post_processor = surround({}, {});
  return pipeline;
}

}  // namespace resurface
