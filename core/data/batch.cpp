#include "core/data/batch.h"

#include "core/run/error.h"

namespace resurface {
namespace {

at::Tensor to_tensor(const std::vector<int64_t>& values, at::Device device) {
  return at::tensor(at::IntArrayRef(values), at::TensorOptions().dtype(at::kLong)).to(device);
}

// Lays sequences end to end and fills everything but the scored tokens.
Batch lay_out(const std::vector<int64_t>& ids, std::vector<int64_t> lengths, at::Device device) {
  Batch batch;
  batch.starts.reserve(lengths.size() + 1);
  batch.starts.push_back(0);
  std::vector<int64_t> positions;
  positions.reserve(ids.size());
  for (const int64_t length : lengths) {
    for (int64_t i = 0; i < length; ++i) positions.push_back(i);
    batch.starts.push_back(batch.starts.back() + length);
  }
  batch.lengths = std::move(lengths);
  batch.ids = to_tensor(ids, device);
  batch.positions = to_tensor(positions, device);
  return batch;
}

}  // namespace

Batch Batch::to(at::Device device) const {
  Batch moved = *this;
  for (at::Tensor* tensor : {&moved.ids, &moved.positions, &moved.rows, &moved.targets,
                             &moved.sequence, &moved.weight, &moved.reference_logprob,
                             &moved.reference_logits, &moved.reference_hidden, &moved.frozen}) {
    if (tensor->defined()) *tensor = tensor->to(device);
  }
  for (Added& one : moved.added) one.value = one.value.to(device);
  return moved;
}

Batch pack(std::span<const Example* const> examples, at::Device device, bool drop_last) {
  std::vector<int64_t> ids, lengths, rows, targets, sequence;
  std::vector<float> weight;
  for (const Example* example : examples) {
    if (example->prompt.empty()) {
      fail(
          "example {} of the batch has an empty prompt; its first answer token has nothing to "
          "follow",
          lengths.size());
    }
    const auto start = static_cast<int64_t>(ids.size());
    ids.insert(ids.end(), example->prompt.begin(), example->prompt.end());
    ids.insert(ids.end(), example->answer.begin(), example->answer.end());
    if (drop_last && !example->answer.empty()) ids.pop_back();
    lengths.push_back(static_cast<int64_t>(ids.size()) - start);
    const int64_t before = start + static_cast<int64_t>(example->prompt.size()) - 1;
    for (size_t i = 0; i < example->answer.size(); ++i) {
      rows.push_back(before + static_cast<int64_t>(i));
      targets.push_back(example->answer[i]);
      sequence.push_back(static_cast<int64_t>(lengths.size()) - 1);
    }
    weight.push_back(static_cast<float>(example->weight));
  }
  Batch batch = lay_out(ids, std::move(lengths), device);
  batch.rows = to_tensor(rows, device);
  batch.targets = to_tensor(targets, device);
  batch.sequence = to_tensor(sequence, device);
  batch.weight = at::tensor(at::ArrayRef<float>(weight)).to(device);
  return batch;
}

Batch pack(std::span<const Example> examples, at::Device device, bool drop_last) {
  std::vector<const Example*> pointers;
  pointers.reserve(examples.size());
  for (const Example& example : examples) pointers.push_back(&example);
  return pack(std::span<const Example* const>(pointers), device, drop_last);
}

Batch pack_chosen(std::span<const Example> examples, std::span<const int64_t> indices,
                  at::Device device) {
  std::vector<const Example*> chosen;
  chosen.reserve(indices.size());
  for (const int64_t index : indices) chosen.push_back(&examples[static_cast<size_t>(index)]);
  return pack(std::span<const Example* const>(chosen), device);
}

Batch pack_sequences(std::span<const std::vector<int64_t>> sequences, at::Device device) {
  std::vector<int64_t> ids, lengths;
  for (const auto& sequence : sequences) {
    if (sequence.empty()) fail("sequence {} of the batch is empty", lengths.size());
    ids.insert(ids.end(), sequence.begin(), sequence.end());
    lengths.push_back(static_cast<int64_t>(sequence.size()));
  }
  return lay_out(ids, std::move(lengths), device);
}

void assign_adapters(Batch& batch, std::span<const int64_t> sequences) {
  const auto assigned = std::accumulate(sequences.begin(), sequences.end(), int64_t{0});
  if (assigned != batch.size()) {
    fail("{} of the batch's {} sequences are assigned to adapters", assigned, batch.size());
  }
  batch.adapter_starts = {0};
  size_t at = 0;
  for (const int64_t count : sequences) {
    at += static_cast<size_t>(count);
    batch.adapter_starts.push_back(batch.starts[at]);
  }
}

std::vector<std::vector<int64_t>> batches_by_tokens(std::span<const Example> examples,
                                                    int64_t max_tokens) {
  std::vector<int64_t> order(examples.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return examples[static_cast<size_t>(a)].size() > examples[static_cast<size_t>(b)].size();
  });
  std::vector<std::vector<int64_t>> batches;
  int64_t room = 0;
  for (const int64_t index : order) {
    const int64_t size = examples[static_cast<size_t>(index)].size();
    if (batches.empty() || size > room) {
      batches.emplace_back();
      room = max_tokens;
    }
    batches.back().push_back(index);
    room -= size;
  }
  return batches;
}

}  // namespace resurface
