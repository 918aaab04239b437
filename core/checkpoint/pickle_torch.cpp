// What torch's pickles call: torch/serialization.py, torch/_utils.py and, for LibTorch archives,
// torch/csrc/jit/serialization/pickler.cpp.
#include "core/checkpoint/pickle.h"
#include "core/run/error.h"

namespace resurface {
namespace {

constexpr size_t kMaxArguments = 16;  // of a call; torch gives at most 8

struct Type {
  std::string_view name;
  at::ScalarType dtype;
};
constexpr std::array kStorages = {
    Type{"torch DoubleStorage", at::kDouble},
    Type{"torch FloatStorage", at::kFloat},
    Type{"torch HalfStorage", at::kHalf},
    Type{"torch BFloat16Storage", at::kBFloat16},
    Type{"torch LongStorage", at::kLong},
    Type{"torch IntStorage", at::kInt},
    Type{"torch ShortStorage", at::kShort},
    Type{"torch CharStorage", at::kChar},
    Type{"torch ByteStorage", at::kByte},
    Type{"torch BoolStorage", at::kBool},
    Type{"torch.storage UntypedStorage", at::ScalarType::Undefined},
    Type{"torch UntypedStorage", at::ScalarType::Undefined},
};
constexpr std::array kDtypes = {
    Type{"torch float64", at::kDouble},
    Type{"torch float32", at::kFloat},
    Type{"torch float16", at::kHalf},
    Type{"torch bfloat16", at::kBFloat16},
    Type{"torch float8_e4m3fn", at::ScalarType::Float8_e4m3fn},
    Type{"torch float8_e5m2", at::ScalarType::Float8_e5m2},
    Type{"torch int64", at::kLong},
    Type{"torch int32", at::kInt},
    Type{"torch int16", at::kShort},
    Type{"torch int8", at::kChar},
    Type{"torch uint64", at::ScalarType::UInt64},
    Type{"torch uint32", at::ScalarType::UInt32},
    Type{"torch uint16", at::ScalarType::UInt16},
    Type{"torch uint8", at::kByte},
    Type{"torch bool", at::kBool},
};
constexpr std::array<std::string_view, 17> kFunctions = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_parameter_with_state",
    "torch._tensor _rebuild_from_type_v2",
    "torch Tensor",
    "torch Size",
    "torch device",
    "torch.nn.parameter Parameter",
    "torch.jit._pickle build_intlist",
    "torch.jit._pickle build_tensorlist",
    "torch.jit._pickle build_doublelist",
    "torch.jit._pickle build_boollist",
    "torch.jit._pickle restore_type_tag",
    "torch.serialization _get_layout",
};

const Type* find(std::span<const Type> types, std::string_view name) {
  auto found = std::ranges::find(types, name, &Type::name);
  return found == types.end() ? nullptr : &*found;
}

bool is_tensor_function(std::string_view name) {
  return name.starts_with("torch._utils _rebuild_tensor");
}

}  // namespace

void Pickle::load_global(std::string_view module, std::string_view name) {
  const std::string known = fmt::format("{} {}", module, name);
  if (module == "__torch__" || module.starts_with("__torch__.")) {
    push({.kind = Kind::global, .text = "__torch__"});
    return;
  }
  for (std::span<const Type> types :
       {std::span<const Type>(kStorages), std::span<const Type>(kDtypes)}) {
    if (const Type* type = find(types, known)) {
      push({.kind = Kind::global, .dtype = type->dtype, .text = type->name});
      return;
    }
  }
  if (auto found = std::ranges::find(kFunctions, known); found != kFunctions.end()) {
    push({.kind = Kind::global, .text = *found});
    return;
  }
  fail(
      "{}: this is a pickle with code in it: it wants '{}.{}', and only tensors are read. Load it "
      "where you trust it, and save its tensors alone: torch.save(model.state_dict(), FILE)",
      where_, module.substr(0, 200), name.substr(0, 200));
}

void Pickle::load_storage(uint32_t reference) {
  const PickleValue& tuple = values_[reference];
  const auto item = [&](size_t i) -> const PickleValue& { return values_[tuple.items[i]]; };
  if (tuple.kind != Kind::tuple || tuple.items.size() < 5 || item(0).text != "storage" ||
      item(1).kind != Kind::global || !find(kStorages, item(1).text) ||
      item(2).kind != Kind::text || item(4).kind != Kind::integer || item(4).number < 0) {
    damaged("a reference to something else than a storage of tensors");
  }
  if (tuple.items.size() > 5 && item(5).kind != Kind::none) {
    fail(
        "{}: storages that are views of others (torch 0.1) are not read; load and save it again "
        "with a newer torch",
        where_);
  }
  push({.kind = Kind::storage,
        .dtype = item(1).dtype,
        .number = item(4).number,
        .text = item(2).text});
}

void Pickle::reduce(uint32_t callable, uint32_t reference) {
  const std::string_view function = values_[callable].text;
  const PickleValue& arguments = values_[reference];
  if (arguments.items.size() > kMaxArguments)
    damaged(fmt::format("{} is given {} arguments", function, arguments.items.size()));
  const auto need = [&](size_t count) {
    if (arguments.items.size() < count) damaged(fmt::format("{} lacks arguments", function));
  };
  if (function == "__torch__") {
    push({.kind = Kind::module});
  } else if (is_tensor_function(function)) {
    stack_.push_back(rebuild_tensor(function, arguments));
  } else if (function == "torch._tensor _rebuild_from_type_v2") {
    need(3);
    const PickleValue &inner = values_[arguments.items[0]], &passed = values_[arguments.items[2]];
    if (inner.kind == Kind::global && inner.text.starts_with("torch._utils _rebuild_parameter") &&
        passed.kind == Kind::tuple && !passed.items.empty()) {
      stack_.push_back(passed.items[0]);
    } else if (inner.kind == Kind::global && is_tensor_function(inner.text)) {
      stack_.push_back(rebuild_tensor(inner.text, passed));
    } else {
      damaged("a tensor of a kind that is not known");
    }
  } else if (function == "collections OrderedDict") {
    PickleValue dict{.kind = Kind::dict};
    for (uint32_t list : arguments.items) {
      // Moved out of the list: a pickle that calls again and again on one list stays small.
      for (uint32_t pair : std::exchange(values_[list].items, {})) {
        if (values_[pair].items.size() != 2) damaged("a key without a value");
        dict.items.insert(dict.items.end(), values_[pair].items.begin(), values_[pair].items.end());
      }
    }
    push(std::move(dict));
  } else if (function == "torch device" || function == "torch.serialization _get_layout") {
    push({.kind = Kind::other});
  } else if (find(kStorages, function) || find(kDtypes, function) || function == "torch Tensor") {
    damaged(fmt::format("it calls {}", function));
  } else {  // a parameter, a size or a list: its first argument
    need(1);
    stack_.push_back(arguments.items[0]);
  }
}

uint32_t Pickle::rebuild_tensor(std::string_view function, const PickleValue& arguments) {
  const auto kind = [&](size_t i) { return values_[arguments.items[i]].kind; };
  const bool v3 = function.ends_with("_v3");
  if (arguments.items.size() < (v3 ? 7 : 4) || kind(0) != Kind::storage ||
      kind(1) != Kind::integer || kind(2) != Kind::tuple || kind(3) != Kind::tuple ||
      (v3 && kind(6) != Kind::global)) {
    damaged(fmt::format("{} has other arguments than torch gives it", function));
  }
  PickleValue tensor{.kind = Kind::tensor,
                     .dtype = values_[arguments.items[v3 ? 6 : 0]].dtype,
                     .number = values_[arguments.items[1]].number,
                     .items = {arguments.items[0], arguments.items[2], arguments.items[3]}};
  if (tensor.dtype == at::ScalarType::Undefined) damaged("a tensor without a dtype");
  return add(std::move(tensor));
}

std::vector<int64_t> Pickle::integers(const PickleValue& list) const {
  std::vector<int64_t> numbers;
  for (uint32_t item : list.items) {
    if (values_[item].kind != Kind::integer) damaged("a shape of something else than numbers");
    numbers.push_back(values_[item].number);
  }
  return numbers;
}

}  // namespace resurface
