// Generation entropy: Zhang et al. 2018, "Generating informative and diverse conversational
// responses", weighted as ROME's eval_utils_counterfact.py does (Meng et al. 2022, appendix).
// Reference score: cosine of unigram TF-IDF vectors, the same file and dsets/tfidf_stats.py.
// Words: the rules of R. MacIntyre's Treebank script as in NLTK 3.10's NLTKWordTokenizer.
#include "eval/field/words.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <unicode/locid.h>
#include <unicode/unistr.h>

#include <cmath>
#include <map>
#include <memory>
#include <set>

#include "core/run/error.h"
#include "core/text/regex.h"

namespace resurface {
namespace {

/// Replaces every match; $1, $2 and $0 in the replacement are the groups and the whole match.
class Substitution {
 public:
  Substitution(const char* pattern, const char* replacement) : replacement_(replacement) {
    int code = 0;
    size_t at = 0;
    code_.reset(pcre2_compile(bytes(pattern), PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code,
                              &at, nullptr));
    if (!code_) fail("the pattern {} is wrong at {} (PCRE2 error {})", pattern, at, code);
  }

  std::string operator()(const std::string& text) const {
    std::string out(2 * text.size() + 64, '\0');
    for (;;) {
      size_t size = out.size();
      const int result =
          pcre2_substitute(code_.get(), bytes(text.data()), text.size(), 0,
                           PCRE2_SUBSTITUTE_GLOBAL | PCRE2_SUBSTITUTE_OVERFLOW_LENGTH, nullptr,
                           nullptr, bytes(replacement_), PCRE2_ZERO_TERMINATED,
                           reinterpret_cast<PCRE2_UCHAR*>(out.data()), &size);
      if (result < 0 && result != PCRE2_ERROR_NOMEMORY) {
        fail("text cannot be cut into words (PCRE2 error {}); expected valid UTF-8", result);
      }
      out.resize(size);  // of the result, or what it needs
      if (result >= 0) return out;
    }
  }

 private:
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  static PCRE2_SPTR bytes(const char* text) { return reinterpret_cast<PCRE2_SPTR>(text); }

  std::unique_ptr<pcre2_code, Free> code_;
  const char* replacement_;
};

// Applied to a sentence in this order.
const std::vector<Substitution>& before_padding() {
  static const std::vector<Substitution> rules = [] {
    std::vector<Substitution> all;
    all.emplace_back("\\p{Han}", " $0 ");  // ours
    // Opening quotes.
    all.emplace_back("[«“‘„]|`+", " $0 ");
    all.emplace_back("^\"", "``");
    all.emplace_back("``", " $0 ");
    all.emplace_back("([ (\\[{<])(\"|'{2})", "$1 `` ");
    all.emplace_back("(?i)(?<!\\w)'(?!(?:re|ve|ll|m|t|s|d|n)\\b)(?=\\w)", "' ");
    // Punctuation; a full stop only at the end of the sentence.
    all.emplace_back("([^.])(\\.)([\\])}>\"' »”’]*+)\\s*$", "$1 $2 $3 ");
    all.emplace_back("([:,])([^\\d])", " $1 $2");
    all.emplace_back("([:,])$", " $1 ");
    all.emplace_back("\\.{2,}|[;@#$%&\\x{2012}-\\x{2015}]", " $0 ");
    all.emplace_back("([^.])(\\.)([\\])}>\"']*)\\s*$", "$1 $2$3 ");
    all.emplace_back("[?!]", " $0 ");
    all.emplace_back("([^'])' ", "$1 ' ");
    all.emplace_back("[*\\][(){}<>]|--", " $0 ");
    return all;
  }();
  return rules;
}

// Applied to the sentence with a space on either side.
const std::vector<Substitution>& after_padding() {
  static const std::vector<Substitution> rules = [] {
    std::vector<Substitution> all;
    // Closing quotes and clitics.
    all.emplace_back("[»”’]", " $0 ");
    all.emplace_back("''|\"", " '' ");
    all.emplace_back("\\s+", " ");
    all.emplace_back("([^' ])('[sSmMdD]|') ", "$1 $2 ");
    all.emplace_back("([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "$1 $2 ");
    // Contractions.
    all.emplace_back(
        "(?i)\\b(?|(can)(not)|(d)('ye)|(gim)(me)|(gon)(na)|(got)(ta)|(lem)(me)|(more)('n))\\b",
        " $1 $2 ");
    all.emplace_back("(?i)\\b(wan)(na)(?=\\s)", " $1 $2 ");
    all.emplace_back("(?i) ('t)(is|was)\\b", " $1 $2 ");
    return all;
  }();
  return rules;
}

/// A sentence ends at [.?!] and closing marks before white space and a capital or a number, opening
/// marks aside. A full stop after a single letter or a title does not end it.
std::vector<std::string> sentences(const std::string& text) {
  static const Regex end(
      "(?:(?<!\\b\\p{L}|\\bMr|\\bMs|\\bDr|\\bSt|\\bJr|\\bSr|\\bMrs|\\bGen|\\bGov|\\bSen|\\bProf)"
      "\\.|[?!])[.?!]*[\"'\\])}»”’]*(?=\\s+[\"'`(\\[{«“‘]*[\\p{Lu}\\p{N}])",
      "sentence ends");
  std::vector<std::string> out;
  size_t begin = 0;
  for (const Span& match : end.find_all(text)) {
    out.push_back(text.substr(begin, match.end - begin));
    begin = match.end;
  }
  out.push_back(text.substr(begin));
  // The white space before a sentence is no part of it.
  for (auto& sentence : out) sentence.erase(0, sentence.find_first_not_of(" \t\r\n\f\v"));
  return out;
}

std::vector<std::string> split(const std::string& text) {
  static const Regex word("\\S+", "words");
  std::vector<std::string> out;
  for (const Span& match : word.find_all(text)) {
    out.push_back(text.substr(match.begin, match.size()));
  }
  return out;
}

}  // namespace

std::vector<std::string> treebank_words(const std::string& text) {
  std::vector<std::string> words;
  for (std::string sentence : sentences(text)) {
    for (const auto& rule : before_padding()) sentence = rule(sentence);
    sentence = " " + sentence + " ";
    for (const auto& rule : after_padding()) sentence = rule(sentence);
    auto some = split(sentence);
    std::move(some.begin(), some.end(), std::back_inserter(words));
  }
  return words;
}

double ngram_entropy(std::span<const std::string> words, size_t n) {
  if (words.size() < n) return 0;
  std::map<std::vector<std::string>, double> counts;
  const size_t total = words.size() - n + 1;
  for (size_t i = 0; i < total; ++i) {
    const auto gram = words.subspan(i, n);
    ++counts[{gram.begin(), gram.end()}];
  }
  double entropy = 0;
  for (const auto& [gram, count] : counts) {
    const double p = count / static_cast<double>(total);
    entropy -= p * std::log2(p);
  }
  return entropy;
}

double generation_entropy(const std::string& text) {
  const auto words = treebank_words(text);
  return (2.0 / 3 * ngram_entropy(words, 2) + 4.0 / 3 * ngram_entropy(words, 3)) / 2;
}

namespace {

std::vector<std::string> tfidf_words(const std::string& text) {
  static const Regex word("[\\p{L}\\p{N}_]{2,}", "TF-IDF words");
  std::string lower;
  icu::UnicodeString::fromUTF8(text).toLower(icu::Locale::getRoot()).toUTF8String(lower);
  std::vector<std::string> out;
  for (const Span& match : word.find_all(lower)) {
    out.push_back(lower.substr(match.begin, match.size()));
  }
  return out;
}

}  // namespace

Tfidf::Tfidf(std::span<const std::string> documents) {
  std::unordered_map<std::string, int64_t> frequency;  // documents that have the word
  for (const auto& document : documents) {
    const auto words = tfidf_words(document);
    for (const auto& word : std::set<std::string>(words.begin(), words.end())) ++frequency[word];
  }
  const auto count = static_cast<double>(documents.size());
  for (const auto& [word, df] : frequency) {
    idf_[word] = std::log((1 + count) / (1 + static_cast<double>(df))) + 1;
  }
}

std::unordered_map<std::string, double> Tfidf::vector(const std::string& text) const {
  std::unordered_map<std::string, double> weight;
  for (const auto& word : tfidf_words(text)) {
    if (const auto idf = idf_.find(word); idf != idf_.end()) weight[word] += idf->second;
  }
  return weight;
}

double Tfidf::similarity(const std::string& a, const std::string& b) const {
  const auto first = vector(a), second = vector(b);
  const auto square = [](const auto& weights) {
    double sum = 0;
    for (const auto& [word, weight] : weights) sum += weight * weight;
    return sum;
  };
  double dot = 0;
  for (const auto& [word, weight] : first) {
    if (const auto other = second.find(word); other != second.end()) dot += weight * other->second;
  }
  return dot == 0 ? 0 : dot / std::sqrt(square(first) * square(second));
}

}  // namespace resurface
