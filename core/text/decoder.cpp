#include "core/text/decoder.h"

#include <charconv>

#include "core/text/rewrite.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

std::string join(const std::vector<std::string>& tokens) {
  std::string text;
  for (const auto& token : tokens) text += token;
  return text;
}

/// Every `from`, which is not empty, by `to`.
std::string replace_all(const std::string& text, const std::string& from, const std::string& to) {
  std::string out;
  size_t done = 0;
  for (size_t at = 0; (at = text.find(from, done)) != std::string::npos; done = at + from.size()) {
    out.append(text, done, at - done).append(to);
  }
  return out.append(text, done);
}

template <class Map>
Decoder each(Map map) {
  return [map = std::move(map)](std::vector<std::string>& tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = map(tokens[i], i, tokens.size());
  };
}

/// Spaces before English punctuation and contractions, as BERT's decoder undoes them.
std::string clean_up(std::string text) {
  static const std::vector<std::pair<std::string, std::string>> rules = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : rules) text = replace_all(text, from, to);
  return text;
}

void byte_level(std::vector<std::string>& tokens) {
  std::string bytes;
  // As in `tokenizers`: a token with a character outside the alphabet stands for its own UTF-8.
  for (const auto& token : tokens) bytes += bytes_of_alphabet(token).value_or(token);
  tokens.assign(1, utf8_lossy(bytes));
}

/// <0xE5><0x8F><0xB0> to the characters that the bytes are; U+FFFD for each byte of a run that is
/// not UTF-8.
void byte_fallback(std::vector<std::string>& tokens) {
  std::vector<std::string> out;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    if (invalid_utf8(run) == std::string::npos) {
      out.push_back(run);
    } else {
      out.insert(out.end(), run.size(), "\xEF\xBF\xBD");
    }
    run.clear();
  };
  for (auto& token : tokens) {
    unsigned byte = 0;
    const auto* digits = token.data() + 3;
    if (token.size() == 6 && token.starts_with("<0x") && token.ends_with('>') &&
        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      run.push_back(static_cast<char>(byte));
      continue;
    }
    flush();
    out.push_back(std::move(token));
  }
  flush();
  tokens = std::move(out);
}

Decoder metaspace(const JsonNode& node) {
  const auto space = read_character(node.at("replacement"));
  const bool strip = node.flag("add_prefix_space", true) &&
                     !(node.has("prepend_scheme") && node.at("prepend_scheme").string() == "never");
  return each([=](const std::string& token, size_t i, size_t) {
    return replace_all(token, space, i == 0 && strip ? "" : " ");
  });
}

Decoder word_piece(const JsonNode& node) {
  return each([prefix = node.at("prefix").string(), clean = node.at("cleanup").boolean()](
                  const std::string& token, size_t i, size_t) {
    auto text = i == 0                      ? token
                : token.starts_with(prefix) ? token.substr(prefix.size())
                                            : " " + token;
    return clean ? clean_up(std::move(text)) : text;
  });
}

Decoder ctc(const JsonNode& node) {
  const auto text_of = [&](const std::string& key) {
    const auto entry = node.at(key);
    if (entry.string().empty()) entry.unsupported("an empty token");
    return entry.string();
  };
  return [pad = text_of("pad_token"), word = text_of("word_delimiter_token"),
          clean = node.at("cleanup").boolean()](std::vector<std::string>& tokens) {
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    for (auto& token : tokens) {
      token = replace_all(token, pad, "");
      if (clean) token = replace_all(clean_up(std::move(token)), word, " ");
    }
    std::erase(tokens, "");
  };
}

Decoder strip(const JsonNode& node) {
  return each([content = read_character(node.at("content")), start = node.at("start").id(),
               stop = node.at("stop").id()](std::string text, size_t, size_t) {
    for (uint32_t k = 0; k < start && text.starts_with(content); ++k) {
      text.erase(0, content.size());
    }
    for (uint32_t k = 0; k < stop && text.ends_with(content); ++k) {
      text.resize(text.size() - content.size());
    }
    return text;
  });
}

Decoder replace(const JsonNode& node) {
  return each([find = read_pattern(node.at("pattern")), content = node.at("content").string()](
                  const std::string& token, size_t, size_t) {
    std::string out;
    size_t done = 0;
    for (const auto match : find(token)) {
      out.append(token, done, match.begin - done).append(content);
      done = match.end;
    }
    return out.append(token, done);
  });
}

Decoder bpe(const JsonNode& node) {
  const auto entry = node.at("suffix");
  if (entry.string().empty()) entry.unsupported("an empty suffix");
  return each([suffix = entry.string()](const std::string& token, size_t i, size_t count) {
    return replace_all(token, suffix, i + 1 == count ? "" : " ");
  });
}

Decoder read_one(const JsonNode& node, const std::string& type) {
  if (type == "ByteLevel") return byte_level;
  if (type == "ByteFallback") return byte_fallback;
  if (type == "Fuse") {
    return [](std::vector<std::string>& tokens) { tokens.assign(1, join(tokens)); };
  }
  if (type == "Metaspace") return metaspace(node);
  if (type == "WordPiece") return word_piece(node);
  if (type == "CTC") return ctc(node);
  if (type == "Strip") return strip(node);
  if (type == "Replace") return replace(node);
  if (type == "BPEDecoder") return bpe(node);
  node.unsupported(fmt::format("decoder '{}'", type));
}

}  // namespace

Decoder read_decoder(const JsonNode& node) {
  if (node.json.is_null()) {
    return each(
        [](const std::string& token, size_t i, size_t) { return i == 0 ? token : " " + token; });
  }
  std::vector<Decoder> steps;
  for_each_entry(node, "decoders", [&](const JsonNode& entry, const std::string& type) {
    steps.push_back(read_one(entry, type));
  });
  return [steps = std::move(steps)](std::vector<std::string>& tokens) {
    for (const auto& step : steps) step(tokens);
  };
}

}  // namespace resurface
