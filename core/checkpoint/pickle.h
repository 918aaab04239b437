// Pickles of state dicts, read without executing anything: only the opcodes that torch's picklers
// write, and only the globals that describe tensors. Whatever else a pickle asks for is refused by
// name. What is read lies in one array and refers to itself by number, so that neither deep nesting
// nor cycles need the stack or leak.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace resurface {

struct PickleValue {
  enum class Kind : uint8_t {
    none,
    boolean,
    integer,  ///< that fits 64 bits
    other,    ///< a real number, bytes or a larger integer, which nobody asks for
    text,
    tuple,
    list,
    dict,    ///< items: key, value, key, value, ...
    global,  ///< text: "module name"
    module,  ///< of a LibTorch archive; items: its state, when it has one
    storage,
    tensor,
  };
  Kind kind = Kind::none;
  at::ScalarType dtype = at::ScalarType::Undefined;  ///< of a storage (Undefined: bytes) or tensor
  int64_t number = 0;     ///< a storage's elements, a tensor's offset in elements
  std::string_view text;  ///< within the pickle; a storage's key
  /// Of a tensor: storage, shape and strides (tuples).
  std::vector<uint32_t> items;
};

class Pickle {
 public:
  using Kind = PickleValue::Kind;

  /// Reads the one pickle at the start of `bytes`, which have to outlive it. `where` begins an
  /// Error's message.
  Pickle(std::string where, std::string_view bytes);

  const PickleValue& root() const { return values_[root_]; }
  const PickleValue& at(uint32_t reference) const { return values_[reference]; }
  const std::deque<PickleValue>& values() const { return values_; }
  size_t size() const { return at_; }  ///< bytes read
  /// The whole numbers of a tuple or list.
  std::vector<int64_t> integers(const PickleValue& list) const;

 private:
  void run();
  void step(unsigned char opcode);
  void build(unsigned char opcode);
  void reduce(uint32_t callable, uint32_t arguments);
  uint32_t rebuild_tensor(std::string_view function, const PickleValue& arguments);
  void load_storage(uint32_t tuple);
  void load_global(std::string_view module, std::string_view name);

  uint32_t add(PickleValue value);
  void push(PickleValue value) { stack_.push_back(add(std::move(value))); }
  uint32_t pop();
  uint32_t top() const;
  std::vector<uint32_t> pop_to_mark();
  PickleValue& container(Kind kind, const char* what);
  void remember(uint32_t key);
  void recall(uint32_t key);

  std::string_view take(uint64_t size);
  std::string_view line();
  template <class T>
  T take_number();
  [[noreturn]] void damaged(const std::string& what) const;

  std::string where_;
  std::string_view bytes_;
  size_t at_ = 0;
  std::deque<PickleValue> values_;  // adding leaves references to the others as they are
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint32_t, uint32_t> memo_;
  uint32_t root_ = 0;
};

}  // namespace resurface
