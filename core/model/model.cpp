#include "core/model/model.h"

#include <ATen/CPUGeneratorImpl.h>

#include <set>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/tensor_hash.h"
#include "core/model/families.h"
#include "core/model/parameters.h"
#include "core/run/error.h"
#include "core/run/nearest.h"

namespace resurface {
namespace {

/// Shapes a slot after what the config says, filled from nothing yet.
VisitParameter allocate(at::ScalarType dtype, at::Device device) {
  return [=](const std::string&, at::Tensor& slot, const std::vector<int64_t>& shape, bool) {
    slot = at::empty(shape, at::TensorOptions().dtype(dtype).device(device));
  };
}

/// `name` without its first word: what files of a model without its head call their tensors.
std::string without_stem(const std::string& name) {
  const auto dot = name.find('.');
  return dot == std::string::npos ? name : name.substr(dot + 1);
}

}  // namespace

Model::Model(ModelConfig config) : config_(std::move(config)) {
  const auto turn = [&](const std::optional<Rope>& rope) -> std::optional<Turn> {
    if (!rope) return std::nullopt;
    int64_t dims = rope->dims;
    if (dims == 0) dims = config_.latent ? config_.latent->rope_dims : config_.head_dim;
    const auto tensor = [&](int64_t length) {
      const auto frequencies = rope->inverse_frequencies(dims, length);
      return at::tensor(at::ArrayRef<double>(frequencies), at::kDouble);
    };
    Turn made{*rope, tensor(0), {}};
    if (rope->type == "longrope") made.long_frequencies = tensor(rope->original_context + 1);
    return made;
  };
  turn_ = turn(config_.rope);
  local_turn_ = turn(config_.local_rope);
  weights_.blocks.resize(static_cast<size_t>(config_.layers));
}

void Model::register_parameters() {
  parameters_.clear();
  tensors_.clear();
  each_parameter(
      config_, weights_,
      [&](const std::string& name, at::Tensor& slot, const std::vector<int64_t>&, bool trains) {
        tensors_.emplace_back(name, slot);
        if (trains) parameters_.emplace_back(name, slot);
      });
  if (config_.tied_head) weights_.head = weights_.embedding;
  for (auto* turn : {&turn_, &local_turn_}) {
    if (!*turn) continue;
    (*turn)->frequencies = (*turn)->frequencies.to(device());
    if ((*turn)->long_frequencies.defined()) {
      (*turn)->long_frequencies = (*turn)->long_frequencies.to(device());
    }
  }
}

Model Model::load(const std::filesystem::path& folder, at::Device device, at::ScalarType dtype) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  Model model(
      read_model_config(checkpoint.config(), (checkpoint.folder() / "config.json").string()));
  const ModelConfig& config = model.config_;
  const std::string embedding = place_of(config, "model.embed_tokens.weight").name;
  model.bare_ = !checkpoint.contains(embedding) && checkpoint.contains(without_stem(embedding));
  std::set<std::string> used;
  each_parameter(
      config, model.weights_,
      [&](const std::string& name, at::Tensor& slot, const std::vector<int64_t>& shape, bool) {
        const Place place = model.place(name);
        const at::Tensor stored = checkpoint.tensor(place.name);
        const at::Tensor part = place.of(stored);
        // A copy: the mapped file is read-only and weights are written in training.
        slot = at::empty(shape, at::TensorOptions().dtype(dtype).device(device));
        if (part.sizes() != place.shaped(slot).sizes()) {
          fail("{}: tensor '{}' has shape [{}], config.json makes '{}' [{}]", folder.string(),
               place.name, fmt::join(stored.sizes(), ", "), name, fmt::join(shape, ", "));
        }
        // Piece by piece: an embedding may be half of the model, which is not to lie here twice.
        constexpr int64_t kElements = 8 << 20;
        const int64_t rows = std::max<int64_t>(1, kElements * part.size(0) / part.numel());
        const auto from = part.split(rows), to = place.shaped(slot).split(rows);
        for (size_t i = 0; i < from.size(); ++i) {
          to[i].copy_(from[i]);
          checkpoint.release(from[i]);
        }
        used.insert(place.name);
      });
  const auto ignored = family_of(config).ignored;
  for (const TensorInfo& info : checkpoint.tensors()) {
    const bool left_alone = used.contains(info.name) ||
                            info.name == "lm_head.weight" ||  // a tied head, stored a second time
                            info.name.ends_with("rotary_emb.inv_freq") ||
                            (ignored != nullptr && ignored(config, info.name));
    if (!left_alone) {
      fail("{}: tensor '{}' belongs to no parameter of a {} model; the nearest is '{}'",
           folder.string(), info.name, config.family,
           nearest(info.name, std::vector<std::string>(used.begin(), used.end())));
    }
  }
  model.compute_ = dtype;
  model.register_parameters();
  return model;
}

Model Model::random(const ModelConfig& config, uint64_t seed, at::Device device,
                    at::ScalarType dtype) {
  Model model(config);
  each_parameter(model.config_, model.weights_, allocate(dtype, device));
  model.compute_ = dtype;
  model.register_parameters();
  model.reset(seed);
  return model;
}

void Model::reset(uint64_t seed) {
  const at::NoGradGuard no_grad;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (const auto& [name, value] : tensors_) {
    if (name.ends_with("bias") || (value.dim() == 1 && config_.norm == NormKind::rms_plus_one)) {
      value.zero_();
    } else if (value.dim() == 1) {
      value.fill_(1);
    } else {
      value.copy_(at::empty(value.sizes(), at::kFloat).normal_(0, 0.02, generator));
    }
  }
}

Place Model::place(const std::string& parameter) const {
  Place place = place_of(config_, parameter);
  if (bare_ && !place.name.starts_with("lm_head")) place.name = without_stem(place.name);
  return place;
}

at::Tensor Model::parameter(const std::string& name) const {
  std::vector<std::string> names;
  for (const auto& [known, tensor] : parameters_) {
    if (known == name) return tensor;
    names.push_back(known);
  }
  fail("the model has no parameter '{}'; the nearest is '{}'", name, nearest(name, names));
}

std::vector<Linear*> Model::linears() {
  std::vector<Linear*> all;
  for (Block& block : weights_.blocks) {
    const auto own = block.linears();
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

std::vector<Linear*> Model::linears_and_routers() {
  std::vector<Linear*> all = linears();
  for (Block& block : weights_.blocks) {
    if (!block.router.name.empty()) all.push_back(&block.router);
  }
  return all;
}

int64_t Model::stacked_adapters() const {
  if (weights_.blocks.empty()) return 0;
  const Block& block = weights_.blocks.front();
  const Linear& first = block.q.name.empty() ? block.kv_down : block.q;
  return first.lora && first.lora->a.dim() == 3 ? first.lora->a.size(0) : 0;
}

void Model::require_grad(bool on) {
  for (auto& [name, tensor] : parameters_) tensor.requires_grad_(on);
}

void Model::copy_from(const Model& other) {
  at::NoGradGuard no_grad;
  if (other.tensors_.size() != tensors_.size()) fail("copying between models of other shapes");
  for (size_t i = 0; i < tensors_.size(); ++i) tensors_[i].second.copy_(other.tensors_[i].second);
}

Model Model::clone() const {
  at::NoGradGuard no_grad;
  Model copy(config_);
  size_t i = 0;
  each_parameter(copy.config_, copy.weights_,
                 [&](const std::string&, at::Tensor& slot, const std::vector<int64_t>&, bool) {
                   slot = tensors_[i++].second.detach().clone();
                 });
  copy.compute_ = compute_;
  copy.checkpointing_ = checkpointing_;
  copy.bare_ = bare_;
  copy.register_parameters();
  return copy;
}

std::string Model::content_hash() const { return hash_tensors(tensors_); }

void Model::save(const std::filesystem::path& folder, const std::filesystem::path& source) const {
  at::NoGradGuard no_grad;
  if (source.empty()) {
    std::vector<std::pair<std::string, at::Tensor>> tensors;
    for (const auto& [name, tensor] : tensors_) {
      tensors.emplace_back(name, tensor.detach().cpu().contiguous());
    }
    write_checkpoint(folder, write_model_config(config_), tensors);
    return;
  }
  const Checkpoint base = Checkpoint::open(source);
  std::map<std::string, at::Tensor> changed;
  for (const auto& [name, tensor] : tensors_) {
    const Place place = this->place(name);
    const at::Tensor stored = base.tensor(place.name);
    const at::Tensor now = place.shaped(tensor.detach().cpu()).to(stored.scalar_type());
    if (at::equal(now, place.of(stored))) continue;
    auto& whole = changed.try_emplace(place.name).first->second;
    if (!whole.defined()) whole = stored.clone();
    place.of(whole).copy_(now);
  }
  base.save_with(folder, changed);
}

}  // namespace resurface
