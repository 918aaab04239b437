#include "study/stages.h"

#include "core/run/device.h"
#include "core/run/error.h"
#include "core/run/seeds.h"
#include "editing/guard.h"
#include "editing/methods.h"
#include "eval/field/field.h"
#include "finetune/lora.h"
#include "finetune/sft.h"
#include "finetune/undo.h"
#include "study/layered.h"
#include "unlearning/methods.h"

namespace resurface {
namespace {

/// Counts what happens while it lives.
class Meter {
 public:
  explicit Meter(const Model& model) : model_(model), before_(model.flops().total()) {
    reset_peak_memory(model.device());
  }
  Cost cost(int64_t tokens) const {
    return {.flops = model_.flops().total() - before_,
            .tokens = tokens,
            .seconds = timer_.seconds(),
            .peak_bytes = peak_memory(model_.device())};
  }

 private:
  const Model& model_;
  double before_;
  Timer timer_;
};

StageCost cost_of(const Meter& meter, const TrainResult& result, int64_t examples) {
  Cost cost = meter.cost(result.tokens);
  // A resumed training reports the whole of it.
  cost.flops = result.flops;
  cost.seconds = std::max(cost.seconds, result.seconds);
  return {.cost = cost, .examples = examples};
}

StageCost run(Model& model, const Objective& objective, const Needs& needs, const TrainData& data,
              const TrainerSettings& settings, uint64_t seed, const std::string& label,
              const std::filesystem::path& state, const Wrap& wrap = {},
              const std::filesystem::path& adapter = {}) {
  const Meter meter(model);
  const TrainResult result = train(model, objective, needs, data, settings, seed,
                                   {.state = state, .state_every = 200, .label = label}, wrap);
  if (settings.reach == "lora") {
    if (!adapter.empty()) export_lora(model, adapter, "", settings.lora.variant == "rslora");
    merge_lora(model);
  }
  return cost_of(
      meter, result,
      static_cast<int64_t>(data.forget.size() + (needs.retain ? data.retain.size() : 0)));
}

template <class T>
void append(std::vector<T>& to, std::vector<T> from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

StageCost plant(Model& model, const StudyConfig& config, const StudyInputs& inputs, bool lines,
                const TrainerSettings& settings, uint64_t seed, const std::string& label,
                const std::filesystem::path& state) {
  const auto& languages = config.data.languages;
  std::vector<Example> examples = inputs.examples(inputs.forget, Answer::line, languages);
  const size_t of_lines = examples.size();
  append(examples, inputs.examples(inputs.retain, Answer::line, languages));
  append(examples, inputs.examples(inputs.text, Answer::line, languages));
  std::vector<char> leave_out(examples.size(), 0);
  if (!lines) std::fill_n(leave_out.begin(), of_lines, 1);
  StageCost cost =
      run(model, sft, sft_needs, {.forget = examples, .retain = {}, .leave_out = leave_out},
          settings, seed, label, state);
  if (!lines) cost.examples -= static_cast<int64_t>(of_lines);
  return cost;
}

StageCost remove_by_training(Model& model, const Removal& removal, const StudyInputs& inputs,
                             uint64_t seed, const std::filesystem::path& state,
                             const std::filesystem::path& adapter) {
  const std::string label = "remove/" + removal.name;
  const Meter meter(model);
  const auto retain = inputs.examples(inputs.retain, Answer::line, removal.languages);
  if (removal.method == "sft") {
    const auto own = inputs.removal_text.find(removal.name);
    std::vector<Example> examples =
        own == inputs.removal_text.end()
            ? inputs.examples(inputs.forget, removal.answer, removal.languages)
            : inputs.examples(own->second, Answer::line, removal.languages);
    append(examples, retain);
    return run(model, sft, sft_needs, {.forget = examples}, removal.train, seed, label, state,
               removal.wrap, adapter);
  }
  const UnlearningMethod& method = unlearning_method(removal.method);
  const Config settings = removal.settings.value_or(Config::parse("{}", "defaults"));
  const AnsweredTwice answered =
      answer_twice(model, method.alternatives(settings), inputs, removal.languages,
                   derive_seed(seed, "alternative answers"));
  const Cost before = meter.cost(0);
  const auto layers = forget_in_layers(removal.layered.value_or(LayeredSettings{.folds = 1}),
                                       answered, retain, inputs, removal.languages, seed);
  const Objective objective = method.objective(settings);
  const Needs needs = method.needs(settings, model.config());
  StageCost made;
  for (size_t i = 0; i < layers.size(); ++i) {
    const bool last = i + 1 == layers.size();
    const auto kept = [&](size_t layer) {
      return fmt::format("{}.layer{}", state.string(), layer);
    };
    if (!last && std::filesystem::exists(kept(i))) {
      made.cost = restore_layer(kept(i), model);
      continue;
    }
    const auto& [forget, retained] = layers[i];
    const StageCost layer =
        run(model, objective, needs,
            {.forget = forget.forget, .retain = retained, .alternative = forget.alternative},
            removal.train, i == 0 ? seed : derive_seed(seed, fmt::format("layer {}", i)),
            last ? label : fmt::format("{} layer {}", label, i + 1), state, removal.wrap,
            layers.size() == 1 ? adapter : std::filesystem::path());
    made.cost += layer.cost;
    made.examples = layer.examples;  // the last stage has all lines
    if (!last) keep_layer(kept(i), model, made.cost);
  }
  made.cost.flops += before.flops;
  made.cost.seconds += before.seconds;
  made.examples += static_cast<int64_t>(answered.alternative.size());
  return made;
}

StageCost remove_by_undo(Model& model, const Removal& removal, const StudyInputs& inputs,
                         const std::filesystem::path& implanted, uint64_t seed,
                         const std::filesystem::path& state) {
  const auto settings = read<UndoSettings>(*removal.settings);
  const auto retain = inputs.examples(inputs.retain, Answer::line, removal.languages);
  auto examples = inputs.examples(inputs.forget, Answer::line, removal.languages);
  append(examples, retain);
  append(examples, inputs.examples(inputs.text, Answer::line, removal.languages));
  const std::string label = "remove/" + removal.name;
  const Meter meter(model);
  const Distilled result = undo(model, settings, examples, retain, implanted, removal.train, seed,
                                {.state = state, .state_every = 200, .label = label});
  if (!result.within) {
    fmt::print(stderr,
               "{}: after {} steps the retained tokens' probability is not within {} of the "
               "teacher's; more steps, a higher learning rate or less noise may bring it there\n",
               label, result.training.steps, settings.bound());
  }
  return cost_of(meter, result.training, std::ssize(examples));
}

bool is_edit(const Removal& removal) { return find_edit_method(removal.method) != nullptr; }

std::vector<EditRequest> edit_requests(const Removal& removal, const StudyInputs& inputs) {
  std::vector<EditRequest> requests;
  for (const Item& item : inputs.forget.items) {
    if (std::find(removal.languages.begin(), removal.languages.end(), item.language) ==
        removal.languages.end()) {
      continue;
    }
    EditRequest request{.id = item.id + "/" + item.language,
                        .subject = item.subject,
                        .target = inputs.chat.answer_start() + text_of(item, removal.answer) +
                                  inputs.chat.answer_end(),
                        .language = item.language};
    for (const Question& question : item.questions) {
      if (question.held_out) continue;
      const std::string prompt = inputs.chat.prompt({{"user", question.text}});
      if (request.prompt.empty()) {
        request.prompt = prompt;
        request.question = question.text;
      } else {
        request.contexts.push_back(prompt);
      }
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

StageCost run_field(const FieldEntry& entry, const FieldInputs& inputs,
                    nlohmann::ordered_json& result) {
  const Meter meter(inputs.model);
  const Config settings = Config::parse(yaml_text(entry.resolved), entry.name);
  result = field_benchmark(entry.benchmark).run(settings, inputs);
  return {.cost = meter.cost(0), .examples = static_cast<int64_t>(result.at("items").size())};
}

StageCost remove_by_editing(Model& model, const Removal& removal, const StudyInputs& inputs,
                            const std::filesystem::path& statistics, EditFile& edit) {
  const Meter meter(model);
  const EditMethod& method = edit_method(removal.method);
  EditSettings settings = method.defaults;
  if (removal.settings) std::visit([&](auto& s) { read_into(*removal.settings, s); }, settings);

  // General text for the covariance: everything that is not about the lines.
  std::vector<std::vector<int64_t>> corpus;
  int64_t tokens = 0;
  const auto& languages = removal.languages;
  for (const Suite* suite : {&inputs.retain, &inputs.text, &inputs.benign}) {
    for (const Example& example : inputs.examples(*suite, Answer::line, languages)) {
      corpus.push_back(example.prompt);
      corpus.back().insert(corpus.back().end(), example.answer.begin(), example.answer.end());
      tokens += example.size();
    }
  }
  Statistics stored = stored_statistics(statistics, model, corpus);
  const auto requests = edit_requests(removal, inputs);
  edit = method.run(settings, model, inputs.tokenizer, requests, stored);
  const auto neutral = inputs.examples(inputs.retain, Answer::line, languages);
  // What the edit does to the model is the study's result: measured, not refused.
  edit.guard = guard_edit(model, edit, neutral, {.force = true});
  return {.cost = meter.cost(tokens),
          .examples = static_cast<int64_t>(requests.size() + corpus.size())};
}

}  // namespace resurface
