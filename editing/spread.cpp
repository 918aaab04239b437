#include "editing/spread.h"

#include "core/run/diverged.h"
#include "editing/site.h"

namespace resurface {
namespace {

at::Tensor longs(const std::vector<int64_t>& values, at::Device device) {
  return at::tensor(at::IntArrayRef(values), at::kLong).to(device);
}

at::Tensor host(const at::Tensor& x) { return x.to(at::kCPU, at::kDouble); }

/// The prompts of some edits, cut behind their subjects, on their way up through the blocks.
class Prompts {
 public:
  Prompts(const Model& model, std::span<const EditExample> edits) : model_(model) {
    std::vector<std::vector<int64_t>> all, bare;
    std::vector<int64_t> ends, bare_ends, bare_rows, owner;
    std::vector<double> share;
    int64_t row = 0;
    for (size_t e = 0; e < edits.size(); ++e) {
      for (const auto& context : edits[e].contexts) {
        const bool first = &context == &edits[e].contexts.front();
        all.emplace_back(context.ids.begin(), context.ids.begin() + context.subject + 1);
        for (int64_t t = 0; first && t <= context.subject; ++t) bare_rows.push_back(row + t);
        row += context.subject + 1;
        ends.push_back(row - 1);
        if (first) {
          bare.push_back(all.back());
          bare_ends.push_back(std::ssize(bare_rows) - 1);
          bare_in_all_.push_back(row - 1);
        }
        owner.push_back(static_cast<int64_t>(e));
        share.push_back(1 / static_cast<double>(edits[e].contexts.size()));
      }
    }
    const auto device = model.device();
    all_ = pack_sequences(all, device);
    bare_ = pack_sequences(bare, device);
    ends_ = longs(ends, device);
    bare_ends_ = longs(bare_ends, device);
    bare_rows_ = longs(bare_rows, device);
    owner_ = longs(owner, device);
    share_ = at::tensor(at::ArrayRef<double>(share), at::kDouble).unsqueeze(1).to(device);
  }

  /// Runs the blocks up to a site; the averaged keys there, [E, key width].
  at::Tensor advance(const EditSite& site) {
    const int64_t layer = site.layer;
    HiddenOptions options{.first = next_,
                          .last = layer + 1,
                          .start = stream_,
                          .key_experts = {{layer, site.experts}}};
    options.on_attention = [&](int64_t at_layer, const at::Tensor&, const at::Tensor& middle,
                               const at::Tensor&) {
      if (at_layer == layer) middle_ = middle;
    };
    options.on_key = [&](int64_t at_layer, const at::Tensor& key) {
      if (at_layer == layer) key_ = key;
    };
    options.on_mlp = [&](int64_t at_layer, const at::Tensor& output) {
      if (at_layer == layer) output_ = output;
    };
    stream_ = model_.hidden(all_, options);
    next_ = layer + 1;
    const auto keys = widened(key_.index_select(0, ends_));
    return at::zeros({bare_.size(), keys.size(1)}, keys.options())
        .index_add(0, owner_, keys * share_.to(keys.scalar_type()));
  }

  /// What is to reach its target at the end of the bare prompts' subjects, [E, d].
  at::Tensor value(int64_t last, ValueSite site) const {
    const bool here = next_ == last + 1;
    const auto ends = longs(bare_in_all_, model_.device());
    if (site == ValueSite::hidden) {
      if (here) return widened(stream_.index_select(0, ends));
      return widened(model_.hidden(bare_, {.first = next_,
                                           .last = last + 1,
                                           .start = stream_.index_select(0, bare_rows_),
                                           .rows = bare_ends_}));
    }
    if (here) return widened(output_.index_select(0, ends));
    HiddenOptions options{.first = next_,
                          .last = last + 1,
                          .start = stream_.index_select(0, bare_rows_),
                          .rows = bare_ends_};
    at::Tensor found;
    options.on_mlp = [&](int64_t layer, const at::Tensor& output) {
      if (layer == last) found = output;
    };
    model_.hidden(bare_, options);
    return widened(found);
  }

  /// The stream as if the last block reached held W + R Xᵀ, rounded as an edit file holds them.
  void write(const at::Tensor& residual, const at::Tensor& along) {
    const auto as = [&](const at::Tensor& x) {
      return x.to(at::kFloat).to(stream_.device(), key_.scalar_type());
    };
    stream_ = model_.add_mlp(next_ - 1, middle_, output_ + key_.mm(as(along)).mm(as(residual)));
  }

 private:
  const Model& model_;
  Batch all_, bare_;                  ///< every prompt; the first of each edit
  at::Tensor ends_;                   ///< [S] rows of all_ where subjects end
  at::Tensor owner_;                  ///< [S] edits
  at::Tensor share_;                  ///< [S, 1] of a prompt in its edit's averaged key
  at::Tensor bare_rows_;              ///< rows of all_ that make up bare_
  at::Tensor bare_ends_;              ///< [E] rows of bare_ where subjects end
  std::vector<int64_t> bare_in_all_;  ///< [E] the same rows in all_
  int64_t next_ = 0;                  ///< the first block not run
  at::Tensor stream_;                 ///< of all_, before it
  at::Tensor middle_, key_, output_;  ///< of all_ in the block below it
};

}  // namespace

EditFile measured(std::span<const EditExample> edits, int64_t layer, const KeysValues& values) {
  EditFile file;
  for (int64_t e = 0; e < std::ssize(edits); ++e) {
    file.measures.push_back({.id = edits[static_cast<size_t>(e)].id,
                             .layer = layer,
                             .target_loss = values.nll[e].item<double>(),
                             .steps = values.steps[e].item<int64_t>()});
  }
  return file;
}

void add_update(EditFile& file, const Model& model, const EditSite& site,
                const at::Tensor& residual, const at::Tensor& keys, const at::Tensor& along) {
  const auto lengths = along.norm(2, 0);
  const auto norms = residual.norm(2, 1) * lengths / host(edited_weight(model, site)).norm();
  // Without a key, where a subject has come to choose none of the site's experts, nothing.
  const auto dots = (keys * along).sum(0) / lengths.clamp_min(std::numeric_limits<double>::min());
  for (int64_t e = 0; e < residual.size(0); ++e) {
    auto& measure = file.measures[static_cast<size_t>(e)];
    const double norm = norms[e].item<double>();
    if (!std::isfinite(norm)) {
      throw Diverged(fmt::format("edit request '{}': the update of layer {} is not finite",
                                 measure.id, site.layer));
    }
    measure.relative_norm = std::max(measure.relative_norm, norm);
    measure.key_dot_u = dots[e].item<double>();
  }
  const auto left = residual.t().to(at::kFloat).contiguous();
  for (auto& [name, right] : cut(model, site, along.t().to(at::kFloat))) {
    file.deltas.push_back({name, left, right});
  }
}

EditFile spread(const Model& model, std::span<const EditExample> edits, const Spread& how,
                const ValueSettings& settings, const Directions& directions) {
  const int64_t last = how.sites.back().layer;
  const auto values = keys_and_values(model, how.sites.back(), edits, settings, how.value);
  auto target = host(values.initial + values.delta);
  if (how.value == ValueSite::attention_and_mlp) target = target.chunk(2, 1)[1];

  // How much of what the MLP gives joins the stream, where that is what is to be reached.
  const double joins = how.value == ValueSite::hidden ? model.config().mlp_residual.beta : 1;

  const at::NoGradGuard no_grad;
  std::vector<Prompts> groups;
  for (const auto group : groups_by_tokens(edits, settings.batch_tokens)) {
    groups.emplace_back(model, group);
  }
  EditFile file = measured(edits, last, values);
  for (size_t i = 0; i < how.sites.size(); ++i) {
    const EditSite& site = how.sites[i];
    const auto left = static_cast<double>(how.sites.size() - i);
    std::vector<at::Tensor> keys, current;
    for (auto& group : groups) {
      keys.push_back(host(group.advance(site)));
      current.push_back(host(group.value(last, how.value)));
    }
    const auto key = at::cat(keys).t();  // [key width, n]
    // R, [n, d]
    const auto residual =
        (target - at::cat(current)) / (joins * (how.square_root ? std::sqrt(left) : left));
    const auto along = directions(site, key);
    add_update(file, model, site, residual, key, along);
    for (auto& group : groups) group.write(residual, along);
  }
  return file;
}

}  // namespace resurface
