#include "core/model/generate.h"

#include <ATen/CPUGeneratorImpl.h>

#include "core/checkpoint/folder.h"
#include "core/model/families.h"
#include "core/tensor/ops.h"

namespace resurface {
namespace {

/// The next token of one sequence; `scores` [vocab] float on the CPU, `before` prompt and answer.
int64_t sample(at::Tensor scores, const std::vector<int64_t>& before,
               const GenerateOptions& options, at::Generator& generator) {
  if (options.repetition_penalty != 1) {
    const at::Tensor seen = at::tensor(at::IntArrayRef(before), at::kLong);
    const at::Tensor old = scores.index_select(0, seen);
    scores = scores.index_copy(
        0, seen,
        at::where(old.lt(0), old * options.repetition_penalty, old / options.repetition_penalty));
  }
  if (options.temperature <= 0) return likeliest(scores.unsqueeze(0)).item<int64_t>();
  scores = scores / options.temperature;
  if (options.top_k > 0 && options.top_k < scores.size(0)) {
    const at::Tensor kth = std::get<0>(scores.topk(options.top_k)).min();
    scores = scores.masked_fill(scores.lt(kth), -std::numeric_limits<float>::infinity());
  }
  at::Tensor p = scores.softmax(0);
  if (options.top_p < 1) {
    const auto [sorted, order] = p.sort(0, true);
    // A token stays when the probability before it has not yet reached top_p.
    const at::Tensor drop = (sorted.cumsum(0) - sorted).ge(options.top_p);
    p = p.index_fill(0, order.masked_select(drop), 0);
  }
  if (options.min_p > 0) p = p.masked_fill(p.lt(options.min_p * p.max()), 0);
  return at::multinomial(p, 1, false, generator).item<int64_t>();
}

/// Whether a sequence that grows to `length` outgrows its cache: longrope turns the keys of all its
/// positions otherwise from here on.
bool starts_again(const ModelConfig& config, int64_t length) {
  return config.rope && config.rope->type == "longrope" &&
         length == config.rope->original_context + 1;
}

}  // namespace

std::vector<Generated> continue_prompts(const Model& model,
                                        std::span<const std::vector<int64_t>> prompts,
                                        const GenerateOptions& options) {
  std::vector<Generated> answers(prompts.size());
  if (prompts.empty() || options.max_tokens <= 0) return answers;
  at::NoGradGuard no_grad;
  const ModelConfig& config = model.config();

  int64_t longest = 0;
  for (const auto& prompt : prompts) {
    longest = std::max(longest, static_cast<int64_t>(prompt.size()));
  }
  if (longest + 1 > config.context) {
    fail("a prompt of {} tokens leaves no room for an answer in a context of {}", longest,
         config.context);
  }
  const int64_t capacity = std::min(longest + options.max_tokens, config.context);
  KvCache cache = model.empty_cache(std::ssize(prompts), capacity);
  // A generator a prompt: what one prompt draws does not depend on its neighbours.
  std::vector<at::Generator> generators;
  for (size_t i = 0; i < prompts.size(); ++i) {
    generators.push_back(at::make_generator<at::CPUGeneratorImpl>(
        options.seed * 0x9E3779B97F4A7C15ull + static_cast<uint64_t>(i)));
  }

  std::vector<size_t> active(prompts.size());  // cache row -> prompt
  std::iota(active.begin(), active.end(), 0);
  std::vector<std::vector<int64_t>> input(prompts.begin(), prompts.end());
  std::vector<std::vector<int64_t>> texts = input;  // prompts and their answers so far
  while (!active.empty()) {
    Batch batch = pack_sequences(input, model.device());
    std::vector<int64_t> positions, ends;
    for (size_t r = 0; r < input.size(); ++r) {
      for (size_t t = 0; t < input[r].size(); ++t) {
        positions.push_back(cache.lengths[r] + static_cast<int64_t>(t));
      }
      ends.push_back(batch.starts[r + 1] - 1);
    }
    const auto longs = at::TensorOptions().dtype(at::kLong);
    batch.positions = at::tensor(at::IntArrayRef(positions), longs).to(model.device());
    const at::Tensor last = at::tensor(at::IntArrayRef(ends), longs).to(model.device());
    const at::Tensor hidden = model.hidden(batch, {.rows = last, .cache = &cache, .append = true});
    const at::Tensor scores = model.logits(hidden).to(at::kFloat).cpu();

    std::vector<int64_t> keep;
    std::vector<size_t> still;
    std::vector<std::vector<int64_t>> next_input;
    std::vector<int64_t> lengths;
    for (size_t r = 0; r < active.size(); ++r) {
      const int64_t length = cache.lengths[r] + static_cast<int64_t>(input[r].size());
      const at::Tensor row = scores[static_cast<int64_t>(r)];
      Generated& answer = answers[active[r]];
      const int64_t token = sample(row, texts[active[r]], options, generators[active[r]]);
      if (std::find(options.stop_ids.begin(), options.stop_ids.end(), token) !=
          options.stop_ids.end()) {
        answer.stopped = true;
        continue;
      }
      answer.ids.push_back(token);
      if (options.logprobs) {
        answer.logprob.push_back(row.log_softmax(0)[token].item<double>());
      }
      texts[active[r]].push_back(token);
      answer.stopped = options.stops && options.stops(answer.ids);
      if (answer.stopped || std::ssize(answer.ids) >= options.max_tokens || length >= capacity) {
        continue;
      }
      keep.push_back(static_cast<int64_t>(r));
      still.push_back(active[r]);
      if (starts_again(config, length + 1)) {
        next_input.push_back(texts[active[r]]);
        lengths.push_back(0);
      } else {
        next_input.push_back({token});
        lengths.push_back(length);
      }
    }
    if (keep.size() < active.size() && !keep.empty()) {  // finished rows leave the cache
      cache.keep(at::tensor(at::IntArrayRef(keep), longs).to(model.device()));
    }
    active = std::move(still);
    input = std::move(next_input);
    cache.lengths = std::move(lengths);
  }
  return answers;
}

std::vector<std::vector<int64_t>> generate(const Model& model,
                                           std::span<const std::vector<int64_t>> prompts,
                                           const GenerateOptions& options) {
  std::vector<std::vector<int64_t>> ids;
  for (Generated& answer : continue_prompts(model, prompts, options)) {
    ids.push_back(std::move(answer.ids));
  }
  return ids;
}

std::vector<int64_t> end_ids(const std::filesystem::path& folder) {
  std::vector<int64_t> ids;
  for (const char* name : {"generation_config.json", "config.json"}) {
    if (!std::filesystem::exists(folder / name)) continue;
    const nlohmann::json file = read_json_object(folder / name);
    if (!file.contains("eos_token_id") || file["eos_token_id"].is_null()) continue;
    const auto& end = file["eos_token_id"];
    for (const auto& id : end.is_array() ? end : nlohmann::json::array({end})) {
      if (!id.is_number_integer()) {
        fail("{}: 'eos_token_id': expected ids, got {}", (folder / name).string(), end.dump());
      }
      ids.push_back(id.get<int64_t>());
    }
  }
  return ids;
}

void read_generation_config(const std::filesystem::path& folder, GenerateOptions& options) {
  options.stop_ids = end_ids(folder);
  const auto path = folder / "generation_config.json";
  if (!std::filesystem::exists(path)) return;
  const nlohmann::json file = read_json_object(path);
  const ConfigReader config{file, path.string()};
  config.only<int64_t>("num_beams", 1);
  config.only<int64_t>("num_beam_groups", 1);
  config.only<int64_t>("no_repeat_ngram_size", 0);
  config.only<double>("penalty_alpha", 0);
  config.only<double>("typical_p", 1);
  config.only<double>("epsilon_cutoff", 0);
  config.only<double>("eta_cutoff", 0);
  options.max_tokens = config.positive("max_new_tokens", options.max_tokens);
  options.repetition_penalty = config.get<double>("repetition_penalty", options.repetition_penalty);
  if (!config.get<bool>("do_sample", false)) return;
  options.temperature = config.get<double>("temperature", 1);
  options.top_k = config.get<int64_t>("top_k", 50);
  options.top_p = config.get<double>("top_p", 1);
  options.min_p = config.get<double>("min_p", 0);
}

}  // namespace resurface
