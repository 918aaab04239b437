// Porter's stemmer, as the `rouge-score` package applies it (use_stemmer=True).
#pragma once

#include <string>
#include <string_view>

namespace resurface {

/// The stem of a lower-cased word of [a-z0-9].
std::string porter_stem(std::string word);

/// A text with each lower-cased run of [a-z0-9] of more than three characters replaced by its
/// stem: rouge_l(stemmed(a), stemmed(b)) is ROUGE-L with stemming. UTF-8; the rest stays.
std::string stemmed(std::string_view text);

}  // namespace resurface
