#include "core/tensor/attention.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>

#include "core/run/error.h"
#include "core/tensor/lanes.h"
#include "core/tensor/product.h"

namespace resurface {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

/// Query rows handled together: few enough that little above the diagonal is computed.
constexpr int64_t kRows = 24;
/// Stands for minus infinity; its exponential is cleared, not trusted.
constexpr float kMasked = -1e30f;

// --- one sequence and key-value head
// --------------------------------------------------------------

/// One of the tensors q, k, v or their gradients: row n of head h at data + n * stride + h * dim.
template <class T>
struct Rows {
  T* data;
  int64_t stride;
};

template <class T>
void read_rows(const T* from, int64_t stride, int64_t rows, int64_t dim, float* to) {
  for (int64_t i = 0; i < rows; ++i) {
    const T* row = from + i * stride;
    for (int64_t d = 0; d < dim; ++d) to[i * dim + d] = load(row[d]);
  }
}

template <class T>
void write_rows(const float* from, int64_t rows, int64_t dim, T* to, int64_t stride) {
  for (int64_t i = 0; i < rows; ++i) {
    T* row = to + i * stride;
    for (int64_t d = 0; d < dim; ++d) row[d] = store<T>(from[i * dim + d]);
  }
}

/// to [dim, ld] = from [rows, dim] transposed; columns beyond `rows` are zero.
void transpose(const float* from, int64_t rows, int64_t dim, float* to, int64_t ld) {
  for (int64_t d = 0; d < dim; ++d) {
    float* row = to + d * ld;
    for (int64_t i = 0; i < rows; ++i) row[i] = from[i * dim + d];
    std::fill(row + rows, row + ld, 0.0f);
  }
}

/// Working memory of a thread, grown as needed and kept between the tasks of one call.
struct Scratch {
  std::vector<float> k, v, kt, vt, p, dp, q, o, dq, dk, dv;
  static float* take(std::vector<float>& buffer, int64_t size) {
    if (static_cast<int64_t>(buffer.size()) < size) buffer.resize(static_cast<size_t>(size));
    return buffer.data();
  }
};

/// Scores to probabilities, in place. scores [rows, ld]: the row of query r looks at the last
/// `window` (0: all) of the first `first + r + 1` keys; the others, up to `columns`, become zero.
void softmax_rows(float* scores, int64_t ld, int64_t rows, int64_t first, int64_t window,
                  int64_t columns, float scale) {
  for (int64_t r = 0; r < rows; ++r) {
    float* s = scores + r * ld;
    const int64_t seen = first + r + 1,
                  unseen = window > 0 ? std::max<int64_t>(0, seen - window) : 0;
    std::fill(s, s + unseen, kMasked);
    std::fill(s + seen, s + columns, kMasked);
    Lanes most = *reinterpret_cast<const Lanes*>(s);
    for (int64_t j = kLanes; j < columns; j += kLanes) {
      const Lanes x = *reinterpret_cast<const Lanes*>(s + j);
      most = x > most ? x : most;
    }
    float top = most[0];
    for (int i = 1; i < kLanes; ++i) top = std::max(top, most[i]);
    for (int64_t j = 0; j < columns; ++j) s[j] = exponential((s[j] - top) * scale);
    std::fill(s, s + unseen, 0.0f);
    std::fill(s + seen, s + columns, 0.0f);
    Lanes sums{};
    for (int64_t j = 0; j < columns; j += kLanes) sums += *reinterpret_cast<const Lanes*>(s + j);
    float sum = 0;
    for (int i = 0; i < kLanes; ++i) sum += sums[i];
    const float inverse = 1.0f / sum;
    for (int64_t j = 0; j < columns; ++j) s[j] *= inverse;
  }
}

/// dp, the gradient of the probabilities p, to that of the scores: p (dp - sum(p dp)) · scale.
void softmax_backward_rows(const float* p, float* dp, int64_t ld, int64_t rows, int64_t columns,
                           float scale) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* pr = p + r * ld;
    float* dr = dp + r * ld;
    Lanes dots{};
    for (int64_t j = 0; j < columns; j += kLanes) {
      dots += *reinterpret_cast<const Lanes*>(pr + j) * *reinterpret_cast<const Lanes*>(dr + j);
    }
    float dot = 0;
    for (int i = 0; i < kLanes; ++i) dot += dots[i];
    for (int64_t j = 0; j < columns; ++j) dr[j] = pr[j] * (dr[j] - dot) * scale;
  }
}

template <class T>
struct Task {
  int64_t start, length, prefix;         // rows of the sequence, positions before it
  int64_t group, kv_head, dim;           // query heads a key-value head serves; which; head_dim
  const T *prefix_keys, *prefix_values;  // [prefix, dim], rows prefix_stride apart
  int64_t prefix_stride;
  int64_t window;
  float scale;

  int64_t keys() const { return prefix + length; }

  /// Prefix and own rows of a key-value tensor, [keys, dim] in fp32.
  float* gather(Rows<const T> own, const T* before, std::vector<float>& buffer) const {
    float* all = Scratch::take(buffer, keys() * dim);
    if (prefix > 0) read_rows(before, prefix_stride, prefix, dim, all);
    read_rows(own.data + start * own.stride + kv_head * dim, own.stride, length, dim,
              all + prefix * dim);
    return all;
  }

  void forward(Rows<const T> q, Rows<const T> k, Rows<const T> v, Rows<T> out, Scratch& s) const {
    const int64_t ld = whole_lanes(keys());
    const float* kf = gather(k, prefix_keys, s.k);
    const float* vf = gather(v, prefix_values, s.v);
    float* kt = Scratch::take(s.kt, dim * ld);
    transpose(kf, keys(), dim, kt, ld);
    float* p = Scratch::take(s.p, kRows * ld);
    float* qf = Scratch::take(s.q, kRows * dim);
    float* o = Scratch::take(s.o, kRows * dim);
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      for (int64_t r0 = 0; r0 < length; r0 += kRows) {
        const int64_t rows = std::min(kRows, length - r0), seen = prefix + r0 + rows;
        const int64_t columns = whole_lanes(seen);
        read_rows(q.data + (start + r0) * q.stride + h * dim, q.stride, rows, dim, qf);
        product(rows, columns, dim, {qf, dim, 1}, kt, ld, p, ld, false);
        softmax_rows(p, ld, rows, prefix + r0, window, columns, scale);
        product(rows, dim, seen, {p, ld, 1}, vf, dim, o, dim, false);
        write_rows(o, rows, dim, out.data + (start + r0) * out.stride + h * dim, out.stride);
      }
    }
  }

  void backward(Rows<const T> q, Rows<const T> k, Rows<const T> v, Rows<const T> grad, Rows<T> dq,
                Rows<T> dk, Rows<T> dv, Scratch& s) const {
    const int64_t ld = whole_lanes(keys());
    const float* kf = gather(k, prefix_keys, s.k);
    const float* vf = gather(v, prefix_values, s.v);
    float* kt = Scratch::take(s.kt, dim * ld);
    float* vt = Scratch::take(s.vt, dim * ld);
    transpose(kf, keys(), dim, kt, ld);
    transpose(vf, keys(), dim, vt, ld);
    float* p = Scratch::take(s.p, kRows * ld);
    float* dp = Scratch::take(s.dp, kRows * ld);
    float* qf = Scratch::take(s.q, kRows * dim);
    float* go = Scratch::take(s.o, kRows * dim);
    float* dqf = Scratch::take(s.dq, kRows * dim);
    float* dkf = Scratch::take(s.dk, length * dim);
    float* dvf = Scratch::take(s.dv, length * dim);
    std::fill(dkf, dkf + length * dim, 0.0f);
    std::fill(dvf, dvf + length * dim, 0.0f);
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      for (int64_t r0 = 0; r0 < length; r0 += kRows) {
        const int64_t rows = std::min(kRows, length - r0), own = r0 + rows, seen = prefix + own;
        const int64_t columns = whole_lanes(seen);
        read_rows(q.data + (start + r0) * q.stride + h * dim, q.stride, rows, dim, qf);
        read_rows(grad.data + (start + r0) * grad.stride + h * dim, grad.stride, rows, dim, go);
        product(rows, columns, dim, {qf, dim, 1}, kt, ld, p, ld, false);
        softmax_rows(p, ld, rows, prefix + r0, window, columns, scale);
        product(rows, columns, dim, {go, dim, 1}, vt, ld, dp, ld, false);
        product(own, dim, rows, {p + prefix, 1, ld}, go, dim, dvf, dim, true);
        softmax_backward_rows(p, dp, ld, rows, columns, scale);
        product(rows, dim, seen, {dp, ld, 1}, kf, dim, dqf, dim, false);
        product(own, dim, rows, {dp + prefix, 1, ld}, qf, dim, dkf, dim, true);
        write_rows(dqf, rows, dim, dq.data + (start + r0) * dq.stride + h * dim, dq.stride);
      }
    }
    write_rows(dkf, length, dim, dk.data + start * dk.stride + kv_head * dim, dk.stride);
    write_rows(dvf, length, dim, dv.data + start * dv.stride + kv_head * dim, dv.stride);
  }
};

// --- all of them ---------------------------------------------------------------------------------

/// What the backward pass needs beside q, k and v: constants to the gradient.
struct Constants : torch::CustomClassHolder {
  Constants(AttentionLayout l, at::Tensor keys, at::Tensor values)
      : layout(std::move(l)), prefix_keys(std::move(keys)), prefix_values(std::move(values)) {}
  AttentionLayout layout;
  at::Tensor prefix_keys, prefix_values;
};

template <class T>
std::vector<Task<T>> tasks_of(const Constants& constants, int64_t width) {
  const AttentionLayout& layout = constants.layout;
  const int64_t dim = width / layout.heads;
  std::vector<Task<T>> tasks;
  for (size_t b = 0; b < layout.lengths.size(); ++b) {
    const int64_t before = layout.prefix.empty() ? 0 : layout.prefix[b];
    for (int64_t g = 0; g < layout.kv_heads; ++g) {
      Task<T> task{.start = layout.starts[b],
                   .length = layout.lengths[b],
                   .prefix = before,
                   .group = layout.heads / layout.kv_heads,
                   .kv_head = g,
                   .dim = dim,
                   .prefix_keys = nullptr,
                   .prefix_values = nullptr,
                   .prefix_stride = 0,
                   .window = layout.window,
                   .scale = layout.scale > 0 ? static_cast<float>(layout.scale)
                                             : 1.0f / std::sqrt(static_cast<float>(dim))};
      if (before > 0) {
        const auto at = [&](const at::Tensor& cache) {
          return cache.const_data_ptr<T>() + static_cast<int64_t>(b) * cache.stride(0) +
                 g * cache.stride(1);
        };
        task.prefix_keys = at(constants.prefix_keys);
        task.prefix_values = at(constants.prefix_values);
        task.prefix_stride = constants.prefix_keys.stride(2);
      }
      tasks.push_back(task);
    }
  }
  // The longest first, so that the threads end together.
  std::stable_sort(tasks.begin(), tasks.end(), [](const Task<T>& a, const Task<T>& b) {
    return a.length * a.keys() > b.length * b.keys();
  });
  return tasks;
}

/// Runs every task once, threads taking the next as they become free. A task writes rows of its
/// own, so the result does not depend on who ran it.
template <class T, class Run>
void run_tasks(const std::vector<Task<T>>& tasks, const Run& run) {
  std::atomic<size_t> next = 0;
  const auto work = [&](int64_t, int64_t) {
    Scratch scratch;
    for (size_t i = next++; i < tasks.size(); i = next++) run(tasks[i], scratch);
  };
  double pairs = 0;
  for (const Task<T>& task : tasks) {
    pairs += static_cast<double>(task.length * task.keys() * task.group);
  }
  if (pairs < 4096) {
    work(0, 1);
  } else {
    at::parallel_for(0, at::get_num_threads(), 1, work);
  }
}

template <class T>
Rows<const T> rows_of(const at::Tensor& x) {
  return {x.const_data_ptr<T>(), x.stride(0)};
}
template <class T>
Rows<T> writable(const at::Tensor& x) {
  return {x.mutable_data_ptr<T>(), x.stride(0)};
}

struct PackedAttention : Function<PackedAttention> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q_in, const at::Tensor& k_in,
                            const at::Tensor& v_in, c10::intrusive_ptr<Constants> constants) {
    const at::Tensor q = q_in.contiguous(), k = k_in.contiguous(), v = v_in.contiguous();
    ctx->save_for_backward({q, k, v});
    ctx->saved_data["constants"] = c10::IValue::make_capsule(constants);
    at::Tensor out = at::empty_like(q);
    dispatch(q.scalar_type(), [&](auto tag) {
      using T = decltype(tag);
      const auto tasks = tasks_of<T>(*constants, q.size(1));
      const auto rq = rows_of<T>(q), rk = rows_of<T>(k), rv = rows_of<T>(v);
      const auto ro = writable<T>(out);
      run_tasks(tasks, [&](const Task<T>& t, Scratch& s) { t.forward(rq, rk, rv, ro, s); });
    });
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const auto holder = ctx->saved_data["constants"].toCapsule();
    const auto& constants = *static_cast<const Constants*>(holder.get());
    const at::Tensor grad = grads[0].contiguous();
    const at::Tensor dq = at::empty_like(q), dk = at::empty_like(k), dv = at::empty_like(v);
    dispatch(q.scalar_type(), [&](auto tag) {
      using T = decltype(tag);
      const auto tasks = tasks_of<T>(constants, q.size(1));
      const auto rq = rows_of<T>(q), rk = rows_of<T>(k), rv = rows_of<T>(v), rg = rows_of<T>(grad);
      const auto wq = writable<T>(dq), wk = writable<T>(dk), wv = writable<T>(dv);
      run_tasks(tasks,
                [&](const Task<T>& t, Scratch& s) { t.backward(rq, rk, rv, rg, wq, wk, wv, s); });
    });
    return {dq, dk, dv, at::Tensor()};
  }
};

}  // namespace

bool packed_attention_takes(at::Device device, at::ScalarType type, int64_t head_dim) {
  return device.is_cpu() && (type == at::kFloat || type == at::kBFloat16) && head_dim % kLanes == 0;
}

at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const AttentionLayout& layout, const at::Tensor& prefix_keys,
                            const at::Tensor& prefix_values) {
  const int64_t dim = q.size(1) / layout.heads;
  const bool prefixed =
      std::any_of(layout.prefix.begin(), layout.prefix.end(), [](int64_t n) { return n > 0; });
  if (prefixed &&
      (prefix_keys.scalar_type() != q.scalar_type() || prefix_keys.size(3) != dim ||
       prefix_keys.stride(3) != 1 || prefix_values.strides() != prefix_keys.strides())) {
    fail("attention: the cached keys are {} [{}], the queries {} with heads of {}",
         at::toString(prefix_keys.scalar_type()), fmt::join(prefix_keys.sizes(), ", "),
         at::toString(q.scalar_type()), dim);
  }
  return PackedAttention::apply(q, k, v,
                                c10::make_intrusive<Constants>(layout, prefix_keys, prefix_values));
}

}  // namespace resurface
