// The opcodes: CPython's Lib/pickletools.py. pickle_torch.cpp has what they call.
#include "core/checkpoint/pickle.h"

#include <cstring>

#include "core/run/error.h"

namespace resurface {
namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxPickle = 16 << 20;  // a tensor takes some 200 bytes of it

}  // namespace

Pickle::Pickle(std::string where, std::string_view bytes)
    : where_(std::move(where)), bytes_(bytes.substr(0, kMaxPickle)) {
  run();
}

void Pickle::damaged(const std::string& what) const {
  fail("{}: its pickle is damaged at byte {}: {}", where_, at_, what);
}

std::string_view Pickle::take(uint64_t size) {
  if (size > bytes_.size() - at_) {
    if (bytes_.size() == kMaxPickle) {
      fail("{}: its pickle is longer than {} MiB, which no state dict needs", where_,
           kMaxPickle >> 20);
    }
    damaged("it ends too early; is the download complete?");
  }
  at_ += size;
  return bytes_.substr(at_ - size, size);
}

std::string_view Pickle::line() {
  const size_t end = bytes_.find('\n', at_);
  if (end == std::string_view::npos) damaged("a line without an end");
  const std::string_view text = take(end - at_);
  take(1);
  return text;
}

template <class T>
T Pickle::take_number() {
  T value;
  const auto bytes = take(sizeof value);
  std::memcpy(&value, bytes.data(), bytes.size());
  return value;
}

uint32_t Pickle::add(PickleValue value) {
  values_.push_back(std::move(value));
  return static_cast<uint32_t>(values_.size() - 1);
}

uint32_t Pickle::top() const {
  if (stack_.empty() || (!marks_.empty() && stack_.size() <= marks_.back())) {
    damaged("it takes from an empty stack");
  }
  return stack_.back();
}

uint32_t Pickle::pop() {
  const uint32_t value = top();
  stack_.pop_back();
  return value;
}

std::vector<uint32_t> Pickle::pop_to_mark() {
  if (marks_.empty()) damaged("a mark is missing");
  const auto from = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<uint32_t> items(from, stack_.end());
  stack_.erase(from, stack_.end());
  marks_.pop_back();
  return items;
}

PickleValue& Pickle::container(Kind kind, const char* what) {
  PickleValue& value = values_[top()];
  if (value.kind != kind) damaged(fmt::format("{} is added to something else", what));
  return value;
}

void Pickle::remember(uint32_t key) { memo_[key] = top(); }

void Pickle::recall(uint32_t key) {
  const auto found = memo_.find(key);
  if (found == memo_.end()) damaged("it recalls what it never remembered");
  stack_.push_back(found->second);
}

void Pickle::run() {
  for (;;) {
    const auto opcode = static_cast<unsigned char>(take(1)[0]);
    if (opcode == '.') break;
    step(opcode);
  }
  if (stack_.size() != 1 || !marks_.empty()) damaged("it leaves more or less than one value");
  root_ = stack_[0];
}

/// Values that stand for themselves, and the stack.
void Pickle::step(unsigned char opcode) {
  switch (opcode) {
    case 0x80:  // PROTO
      take(1);
      break;
    case 0x95:  // FRAME
      take(8);
      break;
    case '(':  // MARK
      marks_.push_back(stack_.size());
      break;
    case '0':  // POP
      pop();
      break;
    case '1':  // POP_MARK
      pop_to_mark();
      break;
    case '2':  // DUP
      stack_.push_back(top());
      break;
    case 'N':
      push({});
      break;
    case 0x88:  // NEWTRUE
    case 0x89:  // NEWFALSE
      push({.kind = Kind::boolean, .number = opcode == 0x88});
      break;
    case 'J':  // BININT
      push({.kind = Kind::integer, .number = take_number<int32_t>()});
      break;
    case 'K':  // BININT1
      push({.kind = Kind::integer, .number = take_number<uint8_t>()});
      break;
    case 'M':  // BININT2
      push({.kind = Kind::integer, .number = take_number<uint16_t>()});
      break;
    case 0x8a:    // LONG1
    case 0x8b: {  // LONG4
      const std::string_view digits =
          take(opcode == 0x8a ? take_number<uint8_t>() : take_number<uint32_t>());
      int64_t number = digits.empty() || static_cast<signed char>(digits.back()) >= 0 ? 0 : -1;
      std::memcpy(&number, digits.data(), std::min<size_t>(digits.size(), sizeof number));
      push(
          {.kind = digits.size() <= sizeof number ? Kind::integer : Kind::other, .number = number});
      break;
    }
    case 'G':  // BINFLOAT
      take(8);
      push({.kind = Kind::other});
      break;
    case 0x8c:  // SHORT_BINUNICODE
    case 'U':   // SHORT_BINSTRING
      push({.kind = Kind::text, .text = take(take_number<uint8_t>())});
      break;
    case 'X':  // BINUNICODE
    case 'T':  // BINSTRING
      push({.kind = Kind::text, .text = take(take_number<uint32_t>())});
      break;
    case 0x8d:  // BINUNICODE8
      push({.kind = Kind::text, .text = take(take_number<uint64_t>())});
      break;
    case 'C':  // SHORT_BINBYTES
      push({.kind = Kind::other, .text = take(take_number<uint8_t>())});
      break;
    case 'B':  // BINBYTES
      push({.kind = Kind::other, .text = take(take_number<uint32_t>())});
      break;
    case 0x8e:  // BINBYTES8
      push({.kind = Kind::other, .text = take(take_number<uint64_t>())});
      break;
    case 'q':  // BINPUT
      remember(take_number<uint8_t>());
      break;
    case 'r':  // LONG_BINPUT
      remember(take_number<uint32_t>());
      break;
    case 0x94:  // MEMOIZE
      remember(static_cast<uint32_t>(memo_.size()));
      break;
    case 'h':  // BINGET
      recall(take_number<uint8_t>());
      break;
    case 'j':  // LONG_BINGET
      recall(take_number<uint32_t>());
      break;
    default:
      build(opcode);
  }
}

/// Containers, and what stands for objects.
void Pickle::build(unsigned char opcode) {
  switch (opcode) {
    case ')':
      push({.kind = Kind::tuple});
      break;
    case 0x85:    // TUPLE1
    case 0x86:    // TUPLE2
    case 0x87: {  // TUPLE3
      std::vector<uint32_t> items(opcode - 0x84);
      for (size_t i = items.size(); i-- > 0;) items[i] = pop();
      push({.kind = Kind::tuple, .items = std::move(items)});
      break;
    }
    case 't':
      push({.kind = Kind::tuple, .items = pop_to_mark()});
      break;
    case ']':
      push({.kind = Kind::list});
      break;
    case 'l':
      push({.kind = Kind::list, .items = pop_to_mark()});
      break;
    case 'a': {  // APPEND
      const uint32_t item = pop();
      container(Kind::list, "an item").items.push_back(item);
      break;
    }
    case 'e': {  // APPENDS
      const auto items = pop_to_mark();
      auto& list = container(Kind::list, "an item").items;
      list.insert(list.end(), items.begin(), items.end());
      break;
    }
    case '}':
      push({.kind = Kind::dict});
      break;
    case 's': {  // SETITEM
      const uint32_t value = pop(), key = pop();
      auto& dict = container(Kind::dict, "a key").items;
      dict.insert(dict.end(), {key, value});
      break;
    }
    case 'd':    // DICT
    case 'u': {  // SETITEMS
      const auto items = pop_to_mark();
      if (items.size() % 2 != 0) damaged("a key without a value");
      if (opcode == 'd') push({.kind = Kind::dict});
      auto& dict = container(Kind::dict, "a key").items;
      dict.insert(dict.end(), items.begin(), items.end());
      break;
    }
    case 'c': {  // GLOBAL
      const auto module = line(), name = line();
      load_global(module, name);
      break;
    }
    case 0x93: {  // STACK_GLOBAL
      const uint32_t name = pop(), module = pop();
      if (values_[name].kind != Kind::text || values_[module].kind != Kind::text) {
        damaged("a global without a name");
      }
      load_global(values_[module].text, values_[name].text);
      break;
    }
    case 'R':     // REDUCE
    case 0x81: {  // NEWOBJ
      const uint32_t arguments = pop(), callable = pop();
      if (values_[callable].kind != Kind::global || values_[arguments].kind != Kind::tuple) {
        damaged("it calls what cannot be called");
      }
      reduce(callable, arguments);
      break;
    }
    case 'b': {  // BUILD: attributes of a module; of all else (OrderedDict's _metadata) unused
      const uint32_t state = pop();
      if (PickleValue& value = values_[top()]; value.kind == Kind::module) value.items = {state};
      break;
    }
    case 'Q':  // BINPERSID
      load_storage(pop());
      break;
    default:
      fail(
          "{}: its pickle uses opcode 0x{:02x} at byte {}, which no state dict needs; save it "
          "anew: torch.save(model.state_dict(), FILE)",
          where_, opcode, at_ - 1);
  }
}

}  // namespace resurface
