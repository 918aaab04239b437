#include "core/text/jinja/template.h"

#include "core/text/jinja/interpreter.h"
#include "core/text/jinja/parser.h"

namespace resurface::jinja {

struct Template::Tree {
  Source source;
  Limits limits;
  Parsed parsed;
};

Template Template::parse(std::string text, std::string name, Limits limits) {
  Source source(std::move(text), std::move(name), limits);
  auto parsed = jinja::parse(source, limits);
  Template result;
  result.tree_ = std::make_shared<const Tree>(Tree{std::move(source), limits, std::move(parsed)});
  return result;
}

std::string Template::render(const nlohmann::ordered_json& variables, const std::tm& now) const {
  return Interpreter(tree_->source, tree_->limits, now).run(tree_->parsed.body, variables);
}

bool Template::reads(const std::string& variable) const {
  return tree_->parsed.names.contains(variable);
}

const std::string& Template::text() const { return tree_->source.text(); }

}  // namespace resurface::jinja
