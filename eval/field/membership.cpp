// loss             mean log-prob (Yeom et al. 2018)
// zlib             mean log-prob / bytes of the zlib-compressed text (Carlini et al. 2021)
// min_k            mean of the lowest k log-probs (Shi et al. 2024, "Detecting pretraining data")
// min_k_plus_plus  the same of (log p(x_t) - mu_t)/sigma_t, mean and deviation of log p(v) over the
//                  model's next-token distribution (Zhang et al. 2024, "Min-K%++")
// reference        mean log-prob minus that of a reference model (Carlini et al. 2021)
// AUC: chance that a member scores above a non-member, ties half; 0.5 is chance. Code compared
// with: iamgroot42/mimir, mimir/attacks; locuslab/open-unlearning, src/evals/metrics/mia. Of n
// scored tokens max(1, floor(k n)) are taken, as in open-unlearning (mimir: floor(k n), not a
// number for short texts); variances are at least 1e-6, as there. A text's first token has nothing
// before it and is not scored unless `prefix` names a BOS token. Texts beyond the model's context
// are cut there, and the count of those is reported; zlib sees the whole text.
#include "eval/field/membership.h"

#include <zlib.h>

#include <nlohmann/json.hpp>

#include "core/run/config.h"
#include "core/run/error.h"
#include "eval/field/records.h"
#include "eval/field/statistics.h"

namespace resurface {

using Json = nlohmann::ordered_json;

double min_k(std::span<const double> values, double k) {
  if (values.empty()) fail("Min-K% of no tokens is undefined");
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const auto count = static_cast<size_t>(static_cast<double>(sorted.size()) * k);
  return mean(std::span(sorted).first(std::max<size_t>(1, count)));
}

std::vector<double> standardised(const TokenScores& scores) {
  std::vector<double> z;
  for (size_t i = 0; i < scores.logprob.size(); ++i) {
    z.push_back((scores.logprob[i] - scores.mean.at(i)) / scores.deviation.at(i));
  }
  return z;
}

int64_t zlib_bytes(const std::string& text) {
  auto size = compressBound(static_cast<uLong>(text.size()));
  std::vector<Bytef> buffer(size);
  const int result = compress2(buffer.data(), &size, reinterpret_cast<const Bytef*>(text.data()),
                               static_cast<uLong>(text.size()), Z_DEFAULT_COMPRESSION);
  if (result != Z_OK) fail("zlib cannot compress {} bytes (error {})", text.size(), result);
  return static_cast<int64_t>(size);
}

std::vector<MembershipScores> membership_scores(const Model& model, const Tokenizer& tokenizer,
                                                std::span<const std::string> texts, double k,
                                                const FieldRun& run, const Model* reference,
                                                const std::string& where) {
  auto context = static_cast<size_t>(model.config().context);
  if (reference) context = std::min(context, static_cast<size_t>(reference->config().context));
  std::vector<Example> examples;
  std::vector<MembershipScores> out(texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    auto ids = tokenizer.encode(run.prefix + texts[i]);
    if (ids.size() < 2) fail("{}: text {} has fewer than two tokens", where, i);
    out[i].truncated = ids.size() > context;
    if (out[i].truncated) ids.resize(context);
    examples.push_back({.prompt = {ids[0]}, .answer = {ids.begin() + 1, ids.end()}});
  }
  const auto scores = token_scores(model, examples, run.batch_tokens, true);
  std::vector<TokenScores> other;
  if (reference) other = token_scores(*reference, examples, run.batch_tokens);
  for (size_t i = 0; i < texts.size(); ++i) {
    out[i].tokens = static_cast<int64_t>(scores[i].logprob.size());
    out[i].loss = -scores[i].nll();
    out[i].zlib = out[i].loss / static_cast<double>(zlib_bytes(texts[i]));
    out[i].min_k = min_k(scores[i].logprob, k);
    out[i].min_k_plus_plus = min_k(standardised(scores[i]), k);
    if (reference) out[i].reference = out[i].loss + other[i].nll();
  }
  return out;
}

namespace {

struct Texts {
  std::vector<std::string> members, nonmembers;
};

Texts read_labelled(const MembershipSettings& settings) {
  const Records records(settings.labelled, settings.limit);
  Texts texts;
  for (size_t i = 0; i < records.size(); ++i) {
    const JsonNode label = records[i].at("label");
    if (label.json != 0 && label.json != 1) label.wrong("0 or 1");
    (label.json == 1 ? texts.members : texts.nonmembers).push_back(text_field(records[i], "input"));
  }
  if (texts.members.empty() || texts.nonmembers.empty()) {
    fail("{}: expected members (label 1) and non-members (label 0), got {} and {}",
         settings.labelled.string(), texts.members.size(), texts.nonmembers.size());
  }
  return texts;
}

}  // namespace

void MembershipSettings::check() const {
  const bool two = !members.empty() && !nonmembers.empty();
  const bool none = members.empty() && nonmembers.empty();
  if (labelled.empty() ? !two : !none) {
    throw ConfigError("membership needs either members and nonmembers, or labelled");
  }
}

Json run_membership(const MembershipSettings& settings, const FieldInputs& inputs) {
  settings.check();
  const bool two = settings.labelled.empty();
  const Texts texts = two ? Texts{read_texts(settings.members, settings.limit),
                                  read_texts(settings.nonmembers, settings.limit)}
                          : read_labelled(settings);
  const auto& of_members = two ? settings.members : settings.labelled;
  const auto& of_others = two ? settings.nonmembers : settings.labelled;
  const auto scores = [&](const std::vector<std::string>& some, const std::filesystem::path& path) {
    return membership_scores(inputs.model, inputs.tokenizer, some, settings.k, settings,
                             inputs.reference, path.string());
  };
  const auto members = scores(texts.members, of_members);
  const auto others = scores(texts.nonmembers, of_others);

  Json rows = Json::array();
  int64_t truncated = 0;
  for (const bool member : {true, false}) {
    const auto& some = member ? members : others;
    for (size_t i = 0; i < some.size(); ++i) {
      truncated += some[i].truncated;
      rows.push_back({{"member", member},
                      {"index", i},
                      {"tokens", some[i].tokens},
                      {"loss", some[i].loss},
                      {"zlib", some[i].zlib},
                      {"min_k", some[i].min_k},
                      {"min_k_plus_plus", some[i].min_k_plus_plus}});
      if (some[i].reference) rows.back()["reference"] = *some[i].reference;
    }
  }
  Json areas;
  for (const auto* attack : {"loss", "zlib", "min_k", "min_k_plus_plus", "reference"}) {
    if (!rows.back().contains(attack)) continue;
    std::vector<double> high, low;
    for (const auto& row : rows) {
      (row.at("member").get<bool>() ? high : low).push_back(row.at(attack).get<double>());
    }
    areas[attack] = auc(high, low);
  }
  return {{"benchmark", "membership"},
          {"settings", to_json(settings)},
          {"aggregates",
           {{"members", members.size()},
            {"nonmembers", others.size()},
            {"truncated", truncated},
            {"auc", areas}}},
          {"items", rows}};
}

}  // namespace resurface
