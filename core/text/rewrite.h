// The steps between the input text and BPE's words: normalisers, then pre-tokenisers, each made
// from its entry in tokenizer.json.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/json_node.h"
#include "core/text/regex.h"

namespace resurface {

/// Text and where each byte of it came from.
struct Text {
  std::string bytes;
  size_t base = 0;  ///< position of bytes[0] in the input, while nothing was rewritten
  std::vector<Span>
      source;  ///< per byte, its span of the input; empty: bytes[i] came from base + i

  Span source_of(Span span) const;
  Text slice(Span span) const;
};

/// Builds the rewritten form of a text, front to back.
class Rewriter {
 public:
  explicit Rewriter(const Text& from) : from_(from) {}
  void keep(Span span);
  /// `bytes` stand for `span` of the old text (all of them for the whole span).
  void put(std::string_view bytes, Span span);
  Text take() { return std::move(to_); }

 private:
  const Text& from_;
  Text to_;
};

using Normalizer = std::function<void(Text&)>;
/// Splits pieces of a text further; may rewrite the text.
using PreTokenizer = std::function<void(Text&, std::vector<Span>&)>;

/// Sequence, NFC, NFD, NFKC, NFKD, Prepend, Replace, Lowercase, Strip. Throws Error naming any
/// other.
std::vector<Normalizer> read_normalizers(const JsonNode& node);
/// Sequence, Split, Digits, ByteLevel (which must be there, once, and come last). Throws Error
/// naming any other. The bytes stay bytes: writing them in GPT-2's alphabet is left to the
/// vocabulary.
std::vector<PreTokenizer> read_pre_tokenizers(const JsonNode& node);

/// `pattern` of Split and Replace: {"String": ...} or {"Regex": ...}.
std::function<std::vector<Span>(std::string_view)> read_pattern(const JsonNode& node);

}  // namespace resurface
