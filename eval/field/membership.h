// Membership inference: which texts did a model train on? Every score is higher for a likelier
// member.
#pragma once

#include <filesystem>

#include "eval/field/probe.h"

namespace resurface {

/// Mean of the lowest k (0 to 1) of the values, at least one of them. Throws Error for none.
double min_k(std::span<const double> values, double k);

/// z = (log p(token) - mean) / deviation of each token, what min_k is taken of in Min-K%++.
std::vector<double> standardised(const TokenScores& scores);

/// Bytes of the text as zlib (level 6) compresses it.
int64_t zlib_bytes(const std::string& text);

/// Of one text.
struct MembershipScores {
  double loss = 0;             ///< mean log-prob a token
  double zlib = 0;             ///< the same over the compressed length
  double min_k = 0;            ///< Min-K%
  double min_k_plus_plus = 0;  ///< Min-K%++
  std::optional<double> reference;
  int64_t tokens = 0;      ///< scored
  bool truncated = false;  ///< only the first `context` tokens were looked at
};

/// `reference`: none without such a model. `where` begins errors: a text needs two tokens.
std::vector<MembershipScores> membership_scores(const Model& model, const Tokenizer& tokenizer,
                                                std::span<const std::string> texts, double k,
                                                const FieldRun& run, const Model* reference,
                                                const std::string& where);

struct MembershipSettings : FieldRun {
  std::filesystem::path members, nonmembers, labelled;
  std::filesystem::path reference;
  double k = 0.2;

  /// Throws ConfigError when files are missing.
  void check() const;

  template <class V>
  void visit(V& v) {
    FieldRun::visit(v);
    v("members", members, "texts trained on: strings, or objects with 'text' or 'input'");
    v("nonmembers", nonmembers, "texts never trained on");
    v("labelled", labelled, "one file of both: objects with 'input' and 'label' (WikiMIA)");
    v("reference", reference,
      "HF folder of a model with the same tokenizer, for the reference attack; whoever runs the "
      "benchmark loads it");
    v("k", k, "share of the least likely tokens that Min-K% looks at", Range::between(0, 1));
  }
};

/// {"aggregates": {"auc": {"loss", "zlib", "min_k", "min_k_plus_plus", "reference"?}}, "items"}.
nlohmann::ordered_json run_membership(const MembershipSettings& settings,
                                      const FieldInputs& inputs);

}  // namespace resurface
