// Texts as words, for the generation metrics of CounterFact: n-gram entropy and TF-IDF likeness.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace resurface {

/// Words as NLTK's word_tokenize cuts them (Penn Treebank): "isn't" -> is n't, punctuation apart.
/// Ours: sentences end by a simple rule instead of NLTK's trained Punkt model, and each Han
/// character is a word. Throws Error for text that is not valid UTF-8.
std::vector<std::string> treebank_words(const std::string& text);

/// Entropy in bits of the distribution of the n-grams of `words`; 0 when there is none.
double ngram_entropy(std::span<const std::string> words, size_t n);

/// (2/3 H2 + 4/3 H3) / 2 of a text's words, in bits: low for text that repeats itself.
double generation_entropy(const std::string& text);

/// TF-IDF as scikit-learn's TfidfVectorizer with its defaults: lower-cased words of at least two
/// word characters; idf = ln((1 + documents)/(1 + df)) + 1; vectors of length 1.
class Tfidf {
 public:
  explicit Tfidf(std::span<const std::string> documents);
  /// Cosine of two texts; words that no document has do not count. 0 when a text has no other.
  double similarity(const std::string& a, const std::string& b) const;

 private:
  std::unordered_map<std::string, double> vector(const std::string& text) const;
  std::unordered_map<std::string, double> idf_;
};

}  // namespace resurface
