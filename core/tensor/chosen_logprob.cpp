// Log-probs of chosen tokens from whole rows of logits, without the table of all log-probs: forward
// reads the logits twice, backward reads them once and writes their gradient.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "core/tensor/lanes.h"
#include "core/tensor/ops.h"

namespace resurface {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Sixteen of everything, so that loops are vector code, and a sum of many terms stays exact.
constexpr int64_t lanes = 16;

template <class T>
float highest_of(const T* row, int64_t size) {
  float high[lanes];
  for (float& x : high) x = load(row[0]);
  int64_t j = 0;
  for (; j + lanes <= size; j += lanes) {
    for (int64_t k = 0; k < lanes; ++k) {
      const float x = load(row[j + k]);
      high[k] = x > high[k] ? x : high[k];
    }
  }
  for (; j < size; ++j) high[0] = std::max(high[0], load(row[j]));
  return *std::max_element(high, high + lanes);
}

/// The first place of the highest.
template <class T>
int64_t place_of_highest(const T* row, int64_t size) {
  const float highest = highest_of(row, size);
  int64_t j = 0;
  for (; j + lanes <= size; j += lanes) {
    int there = 0;
    for (int64_t k = 0; k < lanes; ++k) there |= load(row[j + k]) == highest;
    if (there) break;
  }
  while (j < size && load(row[j]) != highest) ++j;
  return j < size ? j : 0;  // none: the row is NaN
}

template <class T>
float log_sum_exp(const T* row, int64_t size) {
  const float highest = highest_of(row, size);
  float sums[lanes] = {};
  int64_t j = 0;
  for (; j + lanes <= size; j += lanes) {
    for (int64_t k = 0; k < lanes; ++k) sums[k] += exponential(load(row[j + k]) - highest);
  }
  double sum = 0;
  for (const float part : sums) sum += part;
  for (; j < size; ++j) sum += exponential(load(row[j]) - highest);
  return highest + static_cast<float>(std::log(sum));
}

struct ChosenLogprob : Function<ChosenLogprob> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& logits, const at::Tensor& ids) {
    const at::Tensor in = logits.contiguous();
    const int64_t rows = in.size(0), size = in.size(1);
    at::Tensor logprob = at::empty({rows}, in.options().dtype(at::kFloat));
    at::Tensor normaliser = at::empty_like(logprob);
    const auto* chosen = ids.const_data_ptr<int64_t>();
    dispatch(in.scalar_type(), [&](auto tag) {
      using T = decltype(tag);
      const T* x = in.const_data_ptr<T>();
      auto *out = logprob.mutable_data_ptr<float>(),
           *log_sum = normaliser.mutable_data_ptr<float>();
      at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          log_sum[i] = log_sum_exp(x + i * size, size);
          out[i] = load(x[i * size + chosen[i]]) - log_sum[i];
        }
      });
    });
    ctx->save_for_backward({in, ids, normaliser});
    return logprob;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &in = saved[0], &ids = saved[1], &normaliser = saved[2];
    const int64_t rows = in.size(0), size = in.size(1);
    const at::Tensor g = grads[0].contiguous();
    at::Tensor gradient = at::empty_like(in);
    const auto* chosen = ids.const_data_ptr<int64_t>();
    dispatch(in.scalar_type(), [&](auto tag) {
      using T = decltype(tag);
      const T* x = in.const_data_ptr<T>();
      T* out = gradient.mutable_data_ptr<T>();
      const auto *of = g.const_data_ptr<float>(), *log_sum = normaliser.const_data_ptr<float>();
      at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const T* row = x + i * size;
          T* to = out + i * size;
          const float scale = -of[i], shift = log_sum[i];
          for (int64_t j = 0; j < size; ++j)
            to[j] = store<T>(scale * exponential(load(row[j]) - shift));
          const float chosen_p = exponential(load(row[chosen[i]]) - shift);
          to[chosen[i]] = store<T>(of[i] * (1.0f - chosen_p));
        }
      });
    });
    return {gradient, at::Tensor()};
  }
};

}  // namespace

at::Tensor likeliest(const at::Tensor& logits) {
  const auto type = logits.scalar_type();
  if (!logits.is_cpu() || (type != at::kFloat && type != at::kBFloat16)) return logits.argmax(1);
  const at::Tensor in = logits.contiguous();
  const int64_t rows = in.size(0), size = in.size(1);
  at::Tensor ids = at::empty({rows}, at::kLong);
  auto* out = ids.mutable_data_ptr<int64_t>();
  dispatch(type, [&](auto tag) {
    using T = decltype(tag);
    const T* x = in.const_data_ptr<T>();
    at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = place_of_highest(x + i * size, size);
    });
  });
  return ids;
}

at::Tensor chosen_logprob(const at::Tensor& logits, const at::Tensor& ids) {
  const auto type = logits.scalar_type();
  if (logits.is_cpu() && (type == at::kFloat || type == at::kBFloat16)) {
    return ChosenLogprob::apply(logits, ids.contiguous());
  }
  const auto wide = type == at::kDouble ? at::kDouble : at::kFloat;
  return at::log_softmax(logits, -1, wide).gather(1, ids.unsqueeze(1)).squeeze(1);
}

}  // namespace resurface
