// Ways back that change the weights without training: quantisation, pruning, and undoing part of
// the difference from a reference model. Each is a function from one matrix to one matrix; the
// table carries it over a model. To add one: a settings struct and a declaration here, a file, a
// line in ways.cpp. Page: docs/ways_back.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/model/model.h"
#include "core/run/config.h"
#include "core/run/settings.h"

namespace resurface {

struct RtnSettings {
  int64_t bits = 4;
  int64_t group = 0;

  template <class V>
  void visit(V& v) {
    v("bits", bits, "bits a weight", Range::between(2, 16));
    v("group", group, "inputs of an output row that share a step; 0: the whole row",
      Range::at_least(0));
  }
};

struct Nf4Settings {
  int64_t block = 64;

  template <class V>
  void visit(V& v) {
    v("block", block, "successive weights that share a scale", Range::at_least(1));
  }
};

struct PruneSettings {
  double share = 0.5;

  template <class V>
  void visit(V& v) {
    v("share", share, "share of each matrix's weights that is set to zero", Range::between(0, 1));
  }
};

struct DropDirectionsSettings {
  int64_t rank = 1;
  double energy = 0;

  template <class V>
  void visit(V& v) {
    v("rank", rank, "singular directions dropped from each matrix", Range::at_least(0));
    v("energy", energy,
      "instead of a rank: the fewest directions that hold this share of the squared norm; 0: off",
      Range::between(0, 1));
  }
};

struct InterpolateSettings {
  double t = 0.5;

  template <class V>
  void visit(V& v) {
    v("t", t, "0: the model, 1: the reference; beyond: extrapolation");
  }
};

// One matrix [out, in] of the model, and the reference model's matrix of the same name. The result
// has the weight's dtype.
at::Tensor rtn(const RtnSettings&, const at::Tensor& weight);
at::Tensor nf4(const Nf4Settings&, const at::Tensor& weight);
at::Tensor prune(const PruneSettings&, const at::Tensor& weight);
at::Tensor drop_directions(const DropDirectionsSettings&, const at::Tensor& weight,
                           const at::Tensor& reference);
at::Tensor bottom_rank(const DropDirectionsSettings&, const at::Tensor& weight);
at::Tensor interpolate(const InterpolateSettings&, const at::Tensor& weight,
                       const at::Tensor& reference);

/// Which parameters a way changes: a setting of every one, beside its own.
struct WeightSelection {
  std::vector<std::string> only;

  template <class V>
  void visit(V& v) {
    v("only", only,
      "change only parameters whose name contains one of these ('layers.3.mlp.down_proj'); empty: "
      "every one that the way reaches");
  }
};

/// ‖after - before‖ / ‖before‖, and the share of weights that became zero.
struct WeightChange {
  std::string name;  ///< of the parameter
  int64_t elements = 0;
  double relative = 0;
  double zeroed = 0;
};

/// {"elements", "relative", "zeroed", "weights": [{"name", "elements", "relative", "zeroed"}]}.
struct WayReport {
  int64_t elements = 0;  ///< of all weights in reach, changed or not
  double relative = 0, zeroed = 0;
  std::vector<WeightChange> weights;
};
void to_json(nlohmann::ordered_json& json, const WayReport& report);

struct WeightWay {
  std::string name;
  std::string paper;
  int year = 0;
  bool needs_reference = false;
  std::string summary;

  /// Changes the model in place and says by how much. `reference` (of the same shapes, on any
  /// device) is read only by ways that need one. Throws ConfigError for bad settings and Error for
  /// a missing or unlike reference or for adapters not merged, both before anything is changed.
  std::function<WayReport(const Config&, Model& model, const Model* reference)> run;
  /// The settings with their defaults filled in, for the resolved config and for hashes.
  std::function<nlohmann::ordered_json(const Config&)> resolve;
  std::function<std::vector<FieldInfo>()> describe;
};

const std::vector<WeightWay>& weight_ways();
/// Throws ConfigError listing the names when there is none of this one.
const WeightWay& weight_way(const std::string& name);

}  // namespace resurface
