#include "editing/keys_values.h"

#include "core/run/error.h"
#include "core/tensor/ops.h"
#include "editing/adam.h"

namespace resurface {
namespace {

at::Tensor longs(const std::vector<int64_t>& values, at::Device device) {
  return at::tensor(at::IntArrayRef(values), at::kLong).to(device);
}

/// Positions [begin, end) of each sequence.
struct Window {
  std::vector<int64_t> begin, end;
};

/// The sequences of all edits end to end: the contexts of edit 0 with their targets behind them,
/// its KL prompt, the contexts of edit 1, ... The last token of a target is not an input.
struct Sequences {
  std::vector<std::vector<int64_t>> ids;
  std::vector<int64_t> subject;  ///< position of the subject's last token
  std::vector<int64_t> prompt;   ///< tokens before the target; the whole of a KL prompt
  std::vector<int64_t> edit;     ///< which edit each belongs to
  std::vector<bool> is_kl;
  std::vector<int64_t> starts = {0};  ///< rows of whole sequences in a packed batch

  void add(std::vector<int64_t> tokens, int64_t subject_at, int64_t prompt_size, int64_t owner,
           bool kl) {
    starts.push_back(starts.back() + static_cast<int64_t>(tokens.size()));
    ids.push_back(std::move(tokens));
    subject.push_back(subject_at);
    prompt.push_back(prompt_size);
    edit.push_back(owner);
    is_kl.push_back(kl);
  }
  size_t size() const { return ids.size(); }
};

Sequences lay_out(std::span<const EditExample> edits, bool cut_kl) {
  Sequences all;
  for (size_t e = 0; e < edits.size(); ++e) {
    const auto& edit = edits[e];
    if (edit.contexts.empty() || edit.target.empty()) {
      fail("edit request '{}': expected a prompt and a target of at least one token, got {} and {}",
           edit.id, edit.contexts.size(), edit.target.size());
    }
    for (const auto& context : edit.contexts) {
      auto ids = context.ids;
      ids.insert(ids.end(), edit.target.begin(), edit.target.end() - 1);
      all.add(std::move(ids), context.subject, static_cast<int64_t>(context.ids.size()),
              static_cast<int64_t>(e), false);
    }
    // Nothing behind the subject reaches its position.
    auto ids = edit.kl.ids;
    if (cut_kl) ids.resize(static_cast<size_t>(edit.kl.subject + 1));
    const auto size = static_cast<int64_t>(ids.size());
    all.add(std::move(ids), edit.kl.subject, size, static_cast<int64_t>(e), true);
  }
  return all;
}

Batch pack_window(const Sequences& all, const Window& window, at::Device device) {
  std::vector<int64_t> ids, positions;
  Batch batch;
  batch.starts = {0};
  for (size_t s = 0; s < all.size(); ++s) {
    for (int64_t t = window.begin[s]; t < window.end[s]; ++t) {
      ids.push_back(all.ids[s][static_cast<size_t>(t)]);
      positions.push_back(t);
    }
    batch.lengths.push_back(window.end[s] - window.begin[s]);
    batch.starts.push_back(static_cast<int64_t>(ids.size()));
  }
  batch.ids = longs(ids, device);
  batch.positions = longs(positions, device);
  return batch;
}

/// Rows of the window's tokens in the batch of whole sequences.
at::Tensor window_rows(const Sequences& all, const Window& window, at::Device device) {
  std::vector<int64_t> rows;
  for (size_t s = 0; s < all.size(); ++s) {
    for (int64_t t = window.begin[s]; t < window.end[s]; ++t) rows.push_back(all.starts[s] + t);
  }
  return longs(rows, device);
}

/// Whether a sequence is so long that longrope turns the positions before its subject otherwise
/// than it would turn them alone.
bool outgrows_cache(const ModelConfig& config, const Sequences& all) {
  if (!config.rope || config.rope->type != "longrope") return false;
  return std::any_of(all.ids.begin(), all.ids.end(), [&](const auto& ids) {
    return std::ssize(ids) > config.rope->original_context;
  });
}

/// The loss of all edits as a function of their δ.
///
/// Cached: blocks 0 .. layer run once, and so do the positions before the subject in the blocks
/// above; a step runs the blocks above at the positions from the subject on, and logits at target
/// and KL rows only. A δ of the MLP's output goes with it through what stands behind the MLP; one
/// of the attention's output goes through the block's MLP too, at the subject alone.
class ValueObjective {
 public:
  ValueObjective(const Model& model, const EditSite& where, std::span<const EditExample> edits,
                 const ValueSettings& settings, ValueSite site)
      : model_(model),
        where_(where),
        layer_(where.layer),
        edits_(static_cast<int64_t>(edits.size())),
        settings_(settings),
        site_(site),
        all_(lay_out(edits, settings.cached)) {
    const at::NoGradGuard no_grad;
    settings_.cached = settings.cached && !outgrows_cache(model.config(), all_);
    const auto device = model.device();
    Window whole{std::vector<int64_t>(all_.size(), 0), {}};
    for (const auto& ids : all_.ids) whole.end.push_back(static_cast<int64_t>(ids.size()));
    const auto batch = pack_window(all_, whole, device);

    std::vector<int64_t> subjects, bare;
    for (size_t s = 0; s < all_.size(); ++s) {
      const bool first = s == 0 || all_.edit[s] != all_.edit[s - 1];
      if (first) bare.push_back(static_cast<int64_t>(s));
      subjects.push_back(all_.starts[s] + all_.subject[s]);
    }
    const auto rows = longs(subjects, device);
    at::Tensor attention;
    const int64_t layer = layer_;
    HiddenOptions below{.last = layer + 1, .key_experts = {{layer, where.experts}}};
    below.on_attention = [&](int64_t at_layer, const at::Tensor& added, const at::Tensor& middle,
                             const at::Tensor&) {
      if (at_layer != layer) return;
      attention = added.index_select(0, rows);
      middle_ = middle.index_select(0, rows);
    };
    below.on_mlp = [&](int64_t at_layer, const at::Tensor& output) {
      if (at_layer == layer) output_ = output.index_select(0, rows);
    };
    below.on_key = [&](int64_t at_layer, const at::Tensor& key) {
      if (at_layer == layer) keys_ = widened(key.index_select(0, rows));
    };
    const auto residual = model.hidden(batch, below);
    bare_ = longs(bare, device);
    set_initial(attention, residual.index_select(0, rows));

    const Window prefix{whole.begin, settings_.cached ? all_.subject : whole.begin};
    const Window suffix{prefix.end, whole.end};
    suffix_ = pack_window(all_, suffix, device);
    start_ = residual.index_select(0, window_rows(all_, suffix, device));
    if (settings_.cached) {
      cache_ =
          model.empty_cache(std::ssize(all_.subject),
                            *std::max_element(all_.subject.begin(), all_.subject.end()), layer + 1);
      const auto before = pack_window(all_, prefix, device);
      if (before.tokens() > 0) {
        model.hidden(before, {.first = layer + 1,
                              .start = residual.index_select(0, window_rows(all_, prefix, device)),
                              .cache = &cache_,
                              .append = true});
      }
      cache_.lengths = all_.subject;
    }
    find_rows(edits, suffix);
  }

  /// Keys at the subjects of all sequences, averaged over each edit's contexts.
  at::Tensor mean_keys() const {
    auto mean = at::zeros({edits_, keys_.size(1)}, keys_.options());
    std::vector<int64_t> count(static_cast<size_t>(edits_), 0);
    for (size_t s = 0; s < all_.size(); ++s) {
      if (all_.is_kl[s]) continue;
      const int64_t e = all_.edit[s];
      ++count[static_cast<size_t>(e)];
      mean[e].add_(keys_[static_cast<int64_t>(s)]);
    }
    return mean / longs(count, mean.device()).unsqueeze(1);
  }
  at::Tensor bare_keys() const { return keys_.index_select(0, bare_); }
  /// v0, [E, D].
  const at::Tensor& initial() const { return initial_; }
  /// ‖·‖ of each half of rows [E, D]: [E, 1], or [E, 2] where there are two.
  at::Tensor norms(const at::Tensor& rows) const {
    return rows.view({rows.size(0), initial_norm_.size(1), -1}).norm(2, 2);
  }
  /// Each half scaled down to at most `factor` times the norm of v0's.
  at::Tensor clamped(const at::Tensor& rows, double factor) const {
    const auto scale = (factor * initial_norm_ / norms(rows)).clamp_max(1);
    return (rows.view({rows.size(0), scale.size(1), -1}) * scale.unsqueeze(2)).view_as(rows);
  }

  struct Parts {
    at::Tensor loss, nll;  ///< [E]
  };
  /// The first call is made with δ = 0: its distribution at the KL rows is the unedited one, which
  /// later ones are compared with.
  Parts operator()(const at::Tensor& delta) {
    const auto logits = row_logits(delta).split_with_sizes({targets_, edits_});
    const auto chosen = chosen_logprob(logits[0], target_ids_);
    const auto nll =
        at::zeros({edits_}, delta.options()).index_add(0, target_edit_, -chosen * target_weight_);
    const auto logp = at::log_softmax(logits[1], 1);
    if (!reference_.defined()) reference_ = logp.detach();
    const auto kl = (logp.exp() * (logp - reference_)).sum(1);
    const auto decay = (norms(delta) / initial_norm_.square()).sum(1);
    return {nll + settings_.kl_factor * kl + settings_.weight_decay * decay, nll};
  }

 private:
  void set_initial(const at::Tensor& attention, const at::Tensor& residual) {
    const auto bare = [&](const at::Tensor& rows) { return widened(rows.index_select(0, bare_)); };
    switch (site_) {
      case ValueSite::hidden:
        initial_ = bare(residual);
        break;
      case ValueSite::mlp_output:
        initial_ = mlp_output(model_, where_, bare_keys());
        break;
      case ValueSite::attention_and_mlp:
        initial_ = at::cat({bare(attention), bare(output_)}, 1);
        break;
    }
    const int64_t parts = site_ == ValueSite::attention_and_mlp ? 2 : 1;
    initial_norm_ = initial_.view({edits_, parts, -1}).norm(2, 2);
  }

  void find_rows(std::span<const EditExample> edits, const Window& window) {
    std::vector<int64_t> subject_rows, rows, kl_rows, ids, owner;
    std::vector<double> weight;
    for (size_t s = 0; s < all_.size(); ++s) {
      const int64_t base =
          suffix_.starts[s] - window.begin[s];  // row of position 0, if it were there
      subject_rows.push_back(base + all_.subject[s]);
      if (all_.is_kl[s]) {
        kl_rows.push_back(base + all_.subject[s]);
        continue;
      }
      const auto& edit = edits[static_cast<size_t>(all_.edit[s])];
      for (size_t t = 0; t < edit.target.size(); ++t) {
        rows.push_back(base + all_.prompt[s] - 1 + static_cast<int64_t>(t));
        ids.push_back(edit.target[t]);
        owner.push_back(all_.edit[s]);
        weight.push_back(1 / static_cast<double>(edit.target.size() * edit.contexts.size()));
      }
    }
    const auto device = model_.device();
    targets_ = static_cast<int64_t>(rows.size());
    rows.insert(rows.end(), kl_rows.begin(), kl_rows.end());
    subject_rows_ = longs(subject_rows, device);
    sequence_edit_ = longs(all_.edit, device);
    rows_ = longs(rows, device);
    target_ids_ = longs(ids, device);
    target_edit_ = longs(owner, device);
    target_weight_ = at::tensor(at::ArrayRef<double>(weight), at::kDouble).to(keys_.options());
  }

  /// Logits at the target rows, then at the KL rows: [M + E, vocab] float.
  at::Tensor row_logits(const at::Tensor& delta) const {
    const auto add_delta = [&](const at::Tensor& residual) {
      const auto rows = delta.index_select(0, sequence_edit_).to(residual.scalar_type());
      if (site_ == ValueSite::hidden) return residual.index_add(0, subject_rows_, rows);
      const auto put = [&](const at::Tensor& middle, const at::Tensor& output) {
        return residual.index_copy(
            0, subject_rows_, model_.add_mlp(layer_, middle, output).to(residual.scalar_type()));
      };
      if (site_ == ValueSite::mlp_output) return put(middle_, output_ + rows);
      const auto halves = rows.chunk(2, 1);
      const auto middle = middle_ + halves[0];
      const auto output = model_.config().parallel ? output_ : model_.mlp(layer_, middle);
      return put(middle, output + halves[1]);
    };
    if (settings_.cached) {
      auto* cache = const_cast<KvCache*>(&cache_);  // a constant prefix: append is off
      return widened(model_.logits(model_.hidden(
          suffix_,
          {.first = layer_ + 1, .start = add_delta(start_), .rows = rows_, .cache = cache})));
    }
    const auto residual = model_.hidden(suffix_, {.last = layer_ + 1});
    const auto hidden = model_.hidden(suffix_, {.first = layer_ + 1, .start = add_delta(residual)});
    return widened(model_.logits(hidden).index_select(0, rows_));
  }

  const Model& model_;
  EditSite where_;
  int64_t layer_;
  int64_t edits_;
  ValueSettings settings_;
  ValueSite site_;
  Sequences all_;
  at::Tensor keys_;  ///< [S, key width]
  /// [S, d] of block `layer`: the stream between attention and MLP, and what the MLP gave.
  at::Tensor middle_, output_;
  at::Tensor bare_;   ///< [E] the first sequence of each edit
  Batch suffix_;      ///< the tokens a step runs
  at::Tensor start_;  ///< their residual stream after block `layer`
  KvCache cache_;
  at::Tensor subject_rows_, sequence_edit_;              ///< [S]
  at::Tensor rows_;                                      ///< [M + E]
  at::Tensor target_ids_, target_edit_, target_weight_;  ///< [M]
  int64_t targets_ = 0;                                  ///< M
  at::Tensor reference_;                                 ///< [E, vocab]
  at::Tensor initial_, initial_norm_;                    ///< [E, D], [E, halves]
};

KeysValues optimise_group(const Model& model, const EditSite& where,
                          std::span<const EditExample> edits, const ValueSettings& settings,
                          ValueSite site) {
  const Model::KeepTransposes transposes(model);  // every step runs the same weights
  ValueObjective objective(model, where, edits, settings, site);
  KeysValues out;
  out.key = objective.mean_keys();
  out.bare_key = objective.bare_keys();
  out.initial = objective.initial();

  auto delta = at::zeros_like(out.initial);
  Adam adam(delta);
  auto active = at::ones({delta.size(0)}, delta.options().dtype(at::kBool));
  out.steps = at::zeros({delta.size(0)}, delta.options().dtype(at::kLong));
  for (int64_t step = 1;; ++step) {
    auto leaf = delta.detach().requires_grad_(true);
    ValueObjective::Parts parts;
    {
      const at::AutoGradMode grad(true);
      parts = objective(leaf);
    }
    out.loss = parts.loss.detach();
    out.nll = parts.nll.detach();
    active = active.logical_and(out.loss.ge(settings.early_stop));
    if (step == settings.steps || !active.any().item<bool>()) break;

    const auto gradient = torch::autograd::grad({parts.loss.sum()}, {leaf}).at(0);
    const at::NoGradGuard no_grad;
    const auto next =
        objective.clamped(delta - adam.step(gradient, settings.learning_rate), settings.clamp);
    delta = at::where(active.unsqueeze(1), next, delta);
    out.steps += active;
  }
  out.delta = delta;
  return out;
}

}  // namespace

at::Tensor mlp_output(const Model& model, const EditSite& site, const at::Tensor& key) {
  const auto value = at::linear(key, widened(edited_weight(model, site)));
  const at::Tensor& bias = model.block(site.layer).mlp.down.bias;
  return bias.defined() ? value + bias.detach() : value;
}

std::vector<std::span<const EditExample>> groups_by_tokens(std::span<const EditExample> edits,
                                                           int64_t batch_tokens) {
  std::vector<std::span<const EditExample>> result;
  size_t begin = 0;
  int64_t tokens = 0;
  for (size_t e = 0; e < edits.size(); ++e) {
    auto size = static_cast<int64_t>(edits[e].kl.ids.size());
    for (const auto& context : edits[e].contexts) {
      size += static_cast<int64_t>(context.ids.size() + edits[e].target.size());
    }
    if (e > begin && tokens + size > batch_tokens) {
      result.push_back(edits.subspan(begin, e - begin));
      begin = e;
      tokens = 0;
    }
    tokens += size;
  }
  if (begin < edits.size()) result.push_back(edits.subspan(begin));
  return result;
}

KeysValues keys_and_values(const Model& model, const EditSite& where,
                           std::span<const EditExample> edits, const ValueSettings& settings,
                           ValueSite site) {
  key_width(model.config(), where);  // refuses what the model does not have
  if (edits.empty()) fail("editing: there are no requests");
  std::vector<KeysValues> parts;
  for (const auto group : groups_by_tokens(edits, settings.batch_tokens)) {
    parts.push_back(optimise_group(model, where, group, settings, site));
  }
  const auto joined = [&](at::Tensor KeysValues::*field) {
    std::vector<at::Tensor> all;
    for (const auto& part : parts) all.push_back(part.*field);
    return at::cat(all);
  };
  return {joined(&KeysValues::key),   joined(&KeysValues::bare_key), joined(&KeysValues::initial),
          joined(&KeysValues::delta), joined(&KeysValues::nll),      joined(&KeysValues::loss),
          joined(&KeysValues::steps)};
}

ValueLoss value_loss(const Model& model, const EditSite& where, std::span<const EditExample> edits,
                     const at::Tensor& delta, const ValueSettings& settings, ValueSite site) {
  key_width(model.config(), where);
  ValueObjective objective(model, where, edits, settings, site);
  {
    const at::NoGradGuard no_grad;
    objective(at::zeros_like(delta));
  }
  const at::AutoGradMode grad(true);
  auto leaf = delta.detach().clone().requires_grad_(true);
  const auto loss = objective(leaf).loss;
  return {loss.detach(), torch::autograd::grad({loss.sum()}, {leaf}).at(0)};
}

}  // namespace resurface
