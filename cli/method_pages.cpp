#include "cli/method_pages.h"

#include "editing/methods.h"
#include "finetune/choices.h"
#include "finetune/methods.h"
#include "finetune/trainer.h"
#include "retrieval/ask.h"
#include "study/config.h"
#include "unlearning/methods.h"

namespace resurface {
namespace {

/// A symbol that several methods of a family share.
struct Shared {
  const char* latex;
  const char* meaning;
  bool editing = false;
};

const std::vector<Shared> kShared = {
    {"F", "the forget examples: questions, answered with the lines"},
    {"R", "the retain examples"},
    {"A", "other answers to the forget questions"},
    {"(x, y)", "a prompt and its answer"},
    {"p_t",
     "the probability of an answer's token $t$ after all that stands before it; means are over "
     "answer tokens, weighted by the examples' weights, and prompts and padding never count"},
    {"p", "the distribution over the vocabulary where token $t$ stands"},
    {"\\mathrm{NLL}", "negative log-likelihood of an answer, summed over its tokens"},
    {"\\mathrm{ref}", "the model before training"},
    {"\\sigma", "the logistic function"},
    {"\\mathrm{sg}", "as a number: no gradient flows through it"},
    {"\\mathrm{CE}", "cross entropy, of a target and the model's distribution"},
    {"L_R",
     "the retain loss: mean over $t \\in R$ of $-\\log p_t$; with `retain_loss: kl` of "
     "$\\mathrm{KL}(p_{\\mathrm{ref}} \\,\\|\\, p)$"},
    {"\\mathrm{KL}", "Kullback-Leibler divergence, over the vocabulary"},
    {"\\gamma", "`forget_weight`"},
    {"\\alpha", "`retain_weight`"},
    {"\\theta", "the weights that train"},
    {"g_f(\\theta", "the gradient of the forget side of the wrapped method's loss"},
    {"g_r(\\theta", "the gradient of its retain side"},
    {"\\mathrm{KL}", "Kullback-Leibler divergence, over the vocabulary", true},
    {"\\Delta", "what is added to $W$", true},
    {"W", "the down projection of an edited block's MLP; with its bias, where it has one", true},
    {"\\bar k", "its input where the subject ends, averaged over the request's prompts", true},
    {"K", "the requests' $\\bar k$ as columns", true},
    {"C",
     "$E[k k^\\top]$ over general text, not centred, plus `ridge` times the mean of its diagonal",
     true},
};

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// Whether a formula has the symbol, by itself and not as part of a longer one.
bool has_symbol(std::string_view formula, std::string_view symbol) {
  for (size_t at = formula.find(symbol); at != std::string_view::npos;
       at = formula.find(symbol, at + 1)) {
    const char before = at == 0 ? ' ' : formula[at - 1];
    const size_t end = at + symbol.size();
    const char after = end == formula.size() ? ' ' : formula[end];
    const bool starts = !is_letter(symbol.front()) || (!is_letter(before) && before != '\\');
    const bool ends = !is_letter(symbol.back()) || (!is_letter(after) && after != '_');
    if (starts && ends) return true;
  }
  return false;
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

std::string unlearning_answers(const AlternativeAnswers& answers) {
  const std::map<std::string, std::string> meaning = {
      {"factual", "the suite's factual one"},
      {"neutral", "the suite's neutral one"},
      {"contrary", "the suite's contrary one"},
      {"idk", "that it does not know"},
      {"random", "the answer to some retain question in the same language"},
      {"own", "the model's own, sampled before training"}};
  return meaning.at(answers.source);
}

/// What the trainer provides, for a model of 32 blocks.
std::vector<std::string> sentences(const UnlearningMethod& method) {
  const Config defaults = Config::parse("{}");
  ModelConfig model;
  model.layers = 32;
  const Needs needs = method.needs(defaults, model);
  std::vector<std::string> all;
  if (needs.retain) all.push_back("Retain examples, as many a step as forget examples, at random.");
  if (needs.alternative) {
    all.push_back(fmt::format("Another answer to each forget question: {}.",
                              unlearning_answers(method.alternatives(defaults))));
  }
  if (needs.reference_logprob) {
    all.push_back("Log-probs of the answers before training, computed once.");
  }
  for (const auto& [wanted, set] :
       {std::pair(needs.forget_logits, "forget"), std::pair(needs.retain_logits, "retain")}) {
    if (!wanted) continue;
    all.push_back(
        fmt::format("Distributions before training on the {} answers, kept as the last "
                    "hidden states they are made of.",
                    set));
  }
  if (needs.retain_block >= 0) {
    all.push_back(
        fmt::format("The residual stream before training after one block ({} of 32), on "
                    "the retain examples.",
                    needs.retain_block));
  }
  if (!needs.trains.empty()) {
    all.push_back(fmt::format("Only some parameters train; of a model of 32 blocks `{}`.",
                              fmt::join(needs.trains, "`, `")));
  }
  if (needs.dual) all.push_back("A multiplier of the retain loss, moved after each step.");
  if (needs.negate) all.push_back("The weights before training.");
  if (all.empty()) all.push_back("Nothing but the forget examples.");
  return all;
}

std::string escaped(const std::string& cell) {
  std::string out;
  for (char c : cell) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

std::string field_table(const std::vector<FieldInfo>& fields) {
  std::string text = "| Setting | Type | Default | Bounds | Meaning |\n|---|---|---|---|---|\n";
  for (const auto& field : fields) {
    text += fmt::format("| `{}` | {} | `{}` | {} | {} |\n", field.name, field.type,
                        escaped(field.value), escaped(field.bounds), escaped(field.help));
  }
  return text;
}

/// "{beta: 0.1, forget_weight: 1.0}": the first settings, at their defaults.
std::string some_settings(const std::vector<FieldInfo>& fields) {
  std::vector<std::string> some;
  for (const auto& field : fields) {
    const bool plain = field.name.find('.') == std::string::npos && field.value.size() < 20;
    if (plain && some.size() < 2) some.push_back(fmt::format("{}: {}", field.name, field.value));
  }
  return some.empty() ? "" : fmt::format("{{{}}}", fmt::join(some, ", "));
}

std::string example(const MethodInfo& method) {
  if (*method.page.usage != 0) return method.page.usage;
  const std::string settings = some_settings(method.fields);
  std::string text = "```yaml\nremove:\n";
  if (method.family == "wrapper") {
    text += fmt::format("  - method: npo\n    wrap: [{{{}: {}}}]\n", method.name, settings);
  } else {
    text += fmt::format("  - method: {}\n", method.name);
    if (!settings.empty()) text += fmt::format("    settings: {}\n", settings);
  }
  if (method.trains) text += "    train: {learning_rate: 1.0e-5, epochs: 10}\n";
  return text + "```";
}

/// Dollars as GitHub wants them: $`...`$ is never taken for emphasis.
std::string github_math(const std::string& text) {
  std::string out;
  bool open = false;
  for (char c : text) {
    if (c != '$') {
      out += c;
      continue;
    }
    out += open ? "`$" : "$`";
    open = !open;
  }
  return out;
}

}  // namespace

std::vector<MethodInfo> all_methods() {
  std::vector<MethodInfo> all;
  for (const auto& method : kFinetuneMethods) {
    all.push_back({.name = method.name,
                   .family = "finetune",
                   .paper = method.paper,
                   .summary = method.summary,
                   .trains = true,
                   .fields = method.describe ? method.describe() : std::vector<FieldInfo>{},
                   .page = method.page});
  }
  for (const auto& method : unlearning_methods()) {
    all.push_back({.name = method.name,
                   .family = "unlearning",
                   .paper = fmt::format("{} ({})", method.paper, method.year),
                   .summary = method.summary,
                   .trains = true,
                   .fields = method.describe(),
                   .page = method.page,
                   .needs = sentences(method)});
  }
  for (const auto& method : edit_methods()) {
    all.push_back({.name = method.name,
                   .family = "editing",
                   .paper = method.paper,
                   .summary = method.summary,
                   .fields = std::visit([](const auto& settings) { return describe(settings); },
                                        method.defaults),
                   .page = method.page});
  }
  for (const auto& wrapper : kWrappers) {
    all.push_back({.name = wrapper.name,
                   .family = "wrapper",
                   .paper = wrapper.paper,
                   .summary = wrapper.summary,
                   .fields = wrapper.describe(),
                   .page = wrapper.page,
                   .needs = {"A method that trains; not retraining."}});
  }
  all.push_back({.name = "layered",
                 .family = "wrapper",
                 .paper = "Qian et al. 2025, Layered Unlearning for Adversarial Relearning",
                 .summary = "forget one fold of the lines after the other, the later ones retained",
                 .fields = describe<LayeredSettings>(),
                 .page = page_of<LayeredSettings>()});
  for (const auto& choice : kTrainingChoices) {
    all.push_back({.name = choice.name,
                   .family = choice.family,
                   .paper = choice.paper,
                   .summary = choice.summary,
                   .fields = choice.describe ? choice.describe() : std::vector<FieldInfo>{},
                   .page = choice.page});
  }
  all.push_back({.name = "retrieval",
                 .family = "in the prompt",
                 .paper = "BM25: Robertson et al. 1994, Okapi at TREC-3",
                 .summary = "passages from open sources before the question, no weights changed",
                 .page = retrieval_page});
  all.push_back(
      {.name = "in_context",
       .family = "in the prompt",
       .paper = "Zheng et al. 2023, Can We Edit Factual Knowledge by In-Context Learning?",
       .summary = "the fact and demonstrations of new facts before the question (IKE), no "
                  "weights changed",
       .page = in_context_page});
  for (auto& method : all) {
    for (const auto& need : lines_of(method.page.needs)) method.needs.push_back(need);
  }
  return all;
}

std::vector<std::string> formulas(const MethodInfo& method) {
  std::vector<std::string> all = {""};
  for (const auto& line : lines_of(method.page.formula)) {
    if (line.empty()) {
      all.emplace_back();
    } else {
      if (!all.back().empty()) all.back() += '\n';
      all.back() += line;
    }
  }
  return all;
}

std::vector<Symbol> symbols(const MethodInfo& method) {
  std::vector<Symbol> own;
  for (auto line : lines_of(method.page.symbols)) {
    if (line.starts_with(' ')) {  // goes on
      own.back().meaning += line.substr(line.find_first_not_of(' ') - 1);
      continue;
    }
    const auto colon = line.find(": ");
    if (colon == std::string::npos) {
      fail("method '{}': a symbol is 'LATEX: meaning', got '{}'", method.name, line);
    }
    own.push_back({line.substr(0, colon), line.substr(colon + 2)});
  }
  std::vector<Symbol> all;
  for (const auto& shared : kShared) {
    const bool known = std::any_of(
        own.begin(), own.end(), [&](const Symbol& symbol) { return symbol.latex == shared.latex; });
    if (method.family == "in the prompt" || shared.editing != (method.family == "editing") ||
        known) {
      continue;
    }
    if (!has_symbol(method.page.formula, shared.latex)) continue;
    std::string latex = shared.latex;
    if (latex.ends_with("(\\theta")) latex += ")";
    all.push_back({std::move(latex), shared.meaning});
  }
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

std::string cost_of(const MethodInfo& method) {
  std::string text;
  if (method.page.units > 0) {
    text = fmt::format(
        "Forward passes a step: {} (one over the forget examples counts 1, its "
        "backward pass 2, every other set of examples the same).",
        method.page.units);
  }
  if (*method.page.cost != 0) {
    if (!text.empty()) text += ' ';
    text += method.page.cost;
  }
  return text;
}

std::string method_markdown(const MethodInfo& method) {
  std::string text = fmt::format("# {}\n\n{}: {}.\n", method.name, method.family, method.summary);
  if (!method.paper.empty()) text += fmt::format("\nPaper: {}\n", method.paper);
  text += "\n## Formula\n";
  for (const auto& formula : formulas(method)) text += fmt::format("\n```math\n{}\n```\n", formula);
  text += "\n";
  for (const auto& [latex, meaning] : symbols(method)) {
    text += fmt::format("- $`{}`$: {}\n", latex, github_math(meaning));
  }
  if (!method.needs.empty()) {
    text += "\n## Needs\n\n";
    for (const auto& need : method.needs) text += fmt::format("- {}\n", need);
  }
  const auto cost = cost_of(method);
  if (!cost.empty()) text += fmt::format("\n## Cost\n\n{}\n", cost);
  if (*method.page.traps != 0)
    text += fmt::format("\n## What goes wrong\n\n{}\n", method.page.traps);
  text += fmt::format("\n## Example\n\n{}\n", example(method));
  if (!method.fields.empty()) text += "\n## Settings\n\n" + field_table(method.fields);
  if (method.trains) {
    text += fmt::format("\n{}trainer's settings, under `train`: [training](training.md).\n",
                        method.fields.empty() ? "## Settings\n\nThe " : "And the ");
  }
  return text + fmt::format("\nCode: [{0}](../../{0})\n", method.page.file);
}

std::string index_markdown(const std::vector<MethodInfo>& methods) {
  std::string text =
      "# Methods\n\nA page each: formula, needs, cost, settings. Written by `resurface methods "
      "--markdown docs/methods`; what they have in common as trained methods is in "
      "[training](training.md). Adding one: [adding a method](../adding-a-method.md).\n\n"
      "| Method | Family | What it does | Paper |\n|---|---|---|---|\n";
  for (const auto& method : methods) {
    text += fmt::format("| [{0}]({0}.md) | {1} | {2} | {3} |\n", method.name, method.family,
                        escaped(method.summary), escaped(method.paper));
  }
  return text;
}

std::string training_markdown() {
  return fmt::format(
      "# Training\n\nThe settings of every method that trains, under `train` in a removal; also of "
      "`plant` in a study.\n\n{}\nCode: [finetune/trainer.h](../../finetune/trainer.h)\n",
      field_table(describe<TrainerSettings>()));
}

}  // namespace resurface
