// What `resurface study` prints at its end: tables for a terminal, from the summary.
#include <cmath>

#include "study/reading.h"
#include "study/summary.h"

namespace resurface {
namespace {

using Json = nlohmann::ordered_json;

std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      text += i == 0 ? fmt::format("{:<{}}", row[i], widths[i])
                     : fmt::format("  {:>{}}", row[i], widths[i]);
    }
    text += '\n';
  }
  return text;
}

std::string short_estimate(const Json& e) {
  if (e.is_null() || e["mean"].is_null()) return "-";
  const auto mean = e["mean"].get<double>();
  return e["low"].is_null() ? fmt::format("{:.2f}", mean)
                            : fmt::format("{:.2f} [{:.2f}, {:.2f}]", mean, e["low"].get<double>(),
                                          e["high"].get<double>());
}

/// What replies do, other ways to ask, other ways back, the peak and the verdict; each only where
/// measured.
std::string other_tables(const Json& summary, const std::string& language) {
  using Table = std::vector<std::vector<std::string>>;
  std::string text;
  const auto add = [&](const std::string& title, const Table& table) {
    if (table.size() > 1) text += fmt::format("\n{}\n{}", title, aligned(table));
  };
  const auto label = [&](const std::string& model) {
    for (const Json& m : summary["models"])
      if (m["name"] == model) return m["label"].get<std::string>();
    return model;
  };

  Table replies = {{"model"}}, probes = {{"model", "probe", "ES", "match", "asserted"}};
  for (const Json& axis : summary["axes"]) {
    if (axis["set"] != "forget" || axis["language"] != language) continue;
    const Json& m = axis["metrics"];
    const auto figure = [&](const char* key) {
      return m.contains(key) ? short_estimate(m[key]) : "-";
    };
    if (axis["probe"] == "plain") {
      replies.push_back({label(axis["model"])});
      for (const auto& [name, value] : m.items()) {
        if (replies.size() == 2) replies[0].push_back(name);
        replies.back().push_back(short_estimate(value));
      }
    } else {
      probes.push_back({label(axis["model"]), axis["probe"], figure("extraction_strength"),
                        figure("greedy_match"), figure("asserted")});
    }
  }
  add("replies to held-out questions, shares", replies);
  Table trust = {{"detector", "precision", "recall", "n"}};
  for (const Json& d : summary["detectors"]) {
    trust.push_back({d["detector"], short_estimate(d["precision"]), short_estimate(d["recall"]),
                     fmt::format("{}", d["n"].get<int64_t>())});
  }
  add("how far the detectors can be trusted: hand-labelled replies, which the author of the rules "
      "had\n"
      "seen; docs/detectors.md gives the pessimistic bound",
      trust);
  add("other ways to ask", probes);

  const std::vector<const char*> figures = {"leak", "refusal", "degenerate", "other_language"};
  Table elsewhere = {{"model", "set"}};
  elsewhere[0].insert(elsewhere[0].end(), figures.begin(), figures.end());
  for (const Json& axis : summary["axes"]) {
    if (axis["set"] == "forget" || axis["language"] != language) continue;
    elsewhere.push_back({label(axis["model"]), axis["set"]});
    for (const auto* name : figures)
      elsewhere.back().push_back(short_estimate(axis["metrics"][name]));
  }
  add("innocent topics and controls, shares of replies", elsewhere);

  Table fit = {{"model", "perplexity", "KL(implanted || model)"}};
  for (const Json& f : summary["fit"]) {
    const auto figure = [](const Json& x, const char* format) {
      return x.is_null() ? std::string("-") : fmt::format(fmt::runtime(format), x.get<double>());
    };
    fit.push_back(
        {label(f["model"]), figure(f["perplexity"], "{:.2f}"), figure(f["kl"], "{:.3f}")});
  }
  add("ordinary text", fit);

  for (const Json& benchmark : summary["field"]["benchmarks"]) {
    Table table = {{"model"}};
    for (const Json& metric : benchmark["main"]) table[0].push_back(metric);
    for (const Json& result : summary["field"]["results"]) {
      if (result["benchmark"] != benchmark["benchmark"]) continue;
      table.push_back({label(result["model"])});
      for (const Json& metric : benchmark["main"]) {
        const auto found = result["metrics"].find(metric.get<std::string>());
        table.back().push_back(
            found == result["metrics"].end() ? "-" : fmt::format("{:.3g}", found->get<double>()));
      }
    }
    add(fmt::format("{}: {}", benchmark["benchmark"].get<std::string>(),
                    benchmark["paper"].get<std::string>()),
        table);
  }

  Table single = {
      {"model", "attack", "tested in", "reach", "attacked", "recovered", "gap to oracle"}};
  for (const Json& r : summary["recovery"]) {
    const auto rung = r["rung"].get<std::string>();
    if (rung.size() == 1 || r["metric"] != "extraction_strength") continue;
    // Across languages where the attack has one; else all together.
    if (rung.find('/') == std::string::npos ? r["language"] != language : r["language"] == "all")
      continue;
    single.push_back({label(r["model"]), rung, r["language"], r["reach"],
                      short_estimate(r["attacked"]), short_estimate(r["recovered"]),
                      short_estimate(r["oracle_gap"])});
  }
  add("attacks in one language, and other ways back", single);

  Table peaks = {{"model", "rung", "reach", "step", "attacked", "recovered", "gap to oracle"}};
  for (const Json& m : summary["models"]) {
    for (const Json& rung : summary["rungs"]) {
      if (rung["rung"].get<std::string>().size() != 1) continue;
      const Json* best = nullptr;  // the attacker's choice of reach
      for (const Json& r : summary["recovery"]) {
        if (r["model"] != m["name"] || r["rung"] != rung["rung"] || r["language"] != language ||
            r["metric"] != "extraction_strength")
          continue;
        if (best == nullptr || r["peak"]["attacked"]["mean"] > (*best)["peak"]["attacked"]["mean"])
          best = &r;
      }
      if (best == nullptr) continue;
      const Json& peak = (*best)["peak"];
      peaks.push_back({label(m["name"]), rung["rung"], (*best)["reach"], peak["step"].dump(),
                       short_estimate(peak["attacked"]), short_estimate(peak["recovered"]),
                       short_estimate(peak["oracle_gap"])});
    }
  }
  add("the attack at its peak, where most of a line is said", peaks);

  Table verdicts = {{"after the attack, A minus B", "rung", "difference in ES", "holds"}};
  for (const Json& v : summary["verdict"]) {
    if (v["rung"].get<std::string>().size() != 1) continue;
    verdicts.push_back({label(v["a"]) + " - " + label(v["b"]), v["rung"],
                        short_estimate(v["attacked"]), v["holds"].get<bool>() ? "yes" : "no"});
  }
  add("verdict: paired by line", verdicts);
  for (const Json& m : summary["models"]) {
    if (m["kind"] != "removed" || m["damaged"] != true) continue;
    text += fmt::format(
        "{} is damaged and cannot win: its utility is {} of the implanted model's, below {:g}\n",
        m["label"].get<std::string>(), short_estimate(m["utility"]),
        summary["damaged_below"].get<double>());
  }
  return text;
}

}  // namespace

std::string summary_table(const Json& summary) {
  const auto cell = [](const Json& e, const char* format) {
    return e.is_null() || e["mean"].is_null()
               ? std::string("-")
               : fmt::format(fmt::runtime(format), e["mean"].get<double>());
  };
  const std::string language = pooled_language(summary);
  const auto before = [&](const std::string& model, const char* set,
                          const char* metric_name) -> Json {
    for (const Json& row : summary["before_attack"]) {
      if (row["model"] == model && row["set"] == set && row["phrasing"] == "held_out" &&
          row["language"] == language) {
        return row["metrics"][metric_name];
      }
    }
    return nullptr;
  };
  const auto percent = [](const Json& e) { return std::lround(100 * e.get<double>()); };

  double retrain = 0;
  for (const Json& model : summary["models"]) {
    const bool is = model["method"] == "retrain" || (retrain == 0 && model["kind"] == "oracle");
    if (is && !model["cost"].is_null()) retrain = model["cost"]["flops"].get<double>();
  }
  const std::string gap_rung = headline_rung(summary);
  std::vector<std::vector<std::string>> rows = {{"model", "ES", "match", "retain", "utility"}};
  // A column each would be too many: runs in one language and ways back have tables of their own.
  std::vector<std::string> ladder;
  for (const Json& rung : summary["rungs"]) {
    if (rung["rung"].get<std::string>().size() == 1) ladder.push_back(rung["rung"]);
  }
  for (const std::string& rung : ladder) {
    rows[0].push_back(fmt::format("recovered {} %", rung));
  }
  for (const std::string& head : {"gap " + gap_rung, std::string("FLOPs"), std::string("x retrain"),
                                  std::string("seconds")}) {
    rows[0].push_back(head);
  }
  for (const Json& model : summary["models"]) {
    const auto name = model["name"].get<std::string>();
    std::vector<std::string> row = {
        model["label"].get<std::string>(),
        cell(before(name, "forget", "extraction_strength"), "{:.2f}"),
        cell(before(name, "forget", "greedy_match"), "{:.2f}"),
        cell(before(name, "retain", "extraction_strength"), "{:.2f}"),
        cell(model["utility"], "{:.2f}") + (model["damaged"] == true ? " damaged" : "")};
    for (const std::string& rung : ladder) {
      const Json* best = worst_recovery(summary, name, rung);
      if (best == nullptr) {
        row.emplace_back("-");
        continue;
      }
      const Json& r = (*best)["recovered"];
      std::string text = fmt::format("{}", percent(r["mean"]));
      if (!r["low"].is_null())
        text += fmt::format(" [{}, {}]", percent(r["low"]), percent(r["high"]));
      row.push_back(text + " " + (*best)["reach"].get<std::string>());
    }
    const Json* gap = worst_recovery(summary, name, gap_rung);
    if (gap == nullptr || (*gap)["oracle_gap"]["mean"].is_null()) {
      row.emplace_back("-");
    } else {
      const Json& g = (*gap)["oracle_gap"];
      row.push_back(g["low"].is_null()
                        ? fmt::format("{:.2f}", g["mean"].get<double>())
                        : fmt::format("{:.2f} [{:.2f}, {:.2f}]", g["mean"].get<double>(),
                                      g["low"].get<double>(), g["high"].get<double>()));
    }
    if (model["cost"].is_null()) {
      row.insert(row.end(), {"-", "-", "-"});
    } else {
      const double flops = model["cost"]["flops"].get<double>();
      row.push_back(fmt::format("{:.2g}", flops));
      row.push_back(retrain > 0 ? fmt::format("{:.2f}", flops / retrain) : "-");
      row.push_back(fmt::format("{:.1f}", model["cost"]["seconds"].get<double>()));
    }
    rows.push_back(std::move(row));
  }
  return aligned(rows) + other_tables(summary, language);
}

}  // namespace resurface
