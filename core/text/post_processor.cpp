#include "core/text/post_processor.h"

#include "core/text/rewrite.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

/// Not beyond the last character that the span touches.
size_t forward(std::string_view text, Span span, uint32_t characters) {
  auto at = span.begin;
  for (; characters > 0 && at < span.end; --characters) next_code_point(text, at);
  return at;
}

size_t back(std::string_view text, Span span, uint32_t characters) {
  auto at = span.end;
  for (; characters > 0 && at > span.begin; --characters) at = character_before(text, at);
  return std::max(at, span.begin);
}

/// Leaves spaces out of the offsets, but for the one that a ByteLevel put before the text.
void trim(std::string_view input, std::vector<Token>& tokens, bool prefix_space) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    auto& [id, source, leading, trailing] = tokens[i];
    const bool first = i == 0 || source.begin == 0;
    const bool own = first && prefix_space && leading == 1;
    if (leading > 0 && !own) {
      source.begin = forward(input, source, leading);
      source.end = std::max(source.begin, source.end);
    }
    if (trailing > 0) source.end = back(input, source, trailing);
  }
}

PostProcessor byte_level(const JsonNode& node) {
  const bool prefix_space = node.flag("add_prefix_space", true);
  if (!node.flag("trim_offsets", true)) return [](std::string_view, bool, std::vector<Token>&) {};
  return [=](std::string_view input, bool, std::vector<Token>& tokens) {
    trim(input, tokens, prefix_space);
  };
}

/// ["[SEP]", 102]
uint32_t read_pair(const JsonNode& node) {
  if (node.array().size() != 2) node.wrong("[token, id]");
  return node.at(size_t{1}).id();
}

PostProcessor bert(const JsonNode& node) {
  return surround({read_pair(node.at("cls"))}, {read_pair(node.at("sep"))});
}

PostProcessor roberta(const JsonNode& node) {
  return [spaces = byte_level(node), special = bert(node)](std::string_view input, bool wanted,
                                                           std::vector<Token>& tokens) {
    spaces(input, wanted, tokens);
    special(input, wanted, tokens);
  };
}

PostProcessor read_template(const JsonNode& node) {
  const auto pieces = node.at("single");
  const auto known = node.at("special_tokens");
  std::vector<uint32_t> before, after;
  bool seen = false;
  for (size_t i = 0; i < pieces.array().size(); ++i) {
    const auto piece = pieces.at(i);
    if (piece.has("Sequence")) {
      if (seen || piece.at("Sequence").at("id").string() != "A") {
        piece.unsupported("a template for one text that does not use it once");
      }
      seen = true;
      continue;
    }
    const auto entry = piece.at("SpecialToken").at("id");
    if (!known.object().contains(entry.string())) entry.wrong("a key of special_tokens");
    const auto ids = known.at(entry.string()).at("ids");
    for (size_t k = 0; k < ids.array().size(); ++k) {
      (seen ? after : before).push_back(ids.at(k).id());
    }
  }
  if (!seen) pieces.unsupported("a template for one text that does not use it once");
  return surround(std::move(before), std::move(after));
}

PostProcessor read_one(const JsonNode& node, const std::string& type) {
  if (type == "ByteLevel") return byte_level(node);
  if (type == "BertProcessing") return bert(node);
  if (type == "RobertaProcessing") return roberta(node);
  if (type == "TemplateProcessing") return read_template(node);
  node.unsupported(fmt::format("post_processor '{}'", type));
}

}  // namespace

PostProcessor surround(std::vector<uint32_t> before, std::vector<uint32_t> after) {
  return [before = std::move(before), after = std::move(after)](std::string_view, bool special,
                                                                std::vector<Token>& tokens) {
    if (!special) return;
    std::vector<Token> all;
    all.reserve(before.size() + tokens.size() + after.size());
    for (const auto id : before) all.push_back({id, {0, 0}});
    all.insert(all.end(), tokens.begin(), tokens.end());
    for (const auto id : after) all.push_back({id, {0, 0}});
    tokens = std::move(all);
  };
}

PostProcessor read_post_processor(const JsonNode& node) {
  std::vector<PostProcessor> steps;
  for_each_entry(node, "processors", [&](const JsonNode& entry, const std::string& type) {
    steps.push_back(read_one(entry, type));
  });
  return
      [steps = std::move(steps)](std::string_view input, bool special, std::vector<Token>& tokens) {
        for (const auto& step : steps) step(input, special, tokens);
      };
}

}  // namespace resurface
