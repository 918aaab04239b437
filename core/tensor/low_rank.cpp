#include "core/tensor/low_rank.h"

#include "core/tensor/ops.h"
#include "core/tensor/product.h"

namespace resurface {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

/// Rows and columns of a task: small enough that a task's data stay in the cache.
constexpr int64_t kTaskRows = 48, kTaskColumns = 64;

/// [G, width, r] to [G, width, R], R the next multiple of the vector's length, zeros behind.
at::Tensor padded(const at::Tensor& x) {
  const int64_t missing = whole_lanes(x.size(2)) - x.size(2);
  return (missing > 0 ? at::constant_pad_nd(x, {0, missing}) : x).contiguous();
}

at::Tensor stack_of(const at::Tensor& x) { return x.dim() == 2 ? x.unsqueeze(0) : x; }

/// run(group, first row, rows) over all rows, no task across two groups.
template <class Run>
void over_rows(const std::vector<int64_t>& starts, const Run& run) {
  struct Task {
    int64_t group, begin, rows;
  };
  std::vector<Task> tasks;
  for (size_t g = 0; g + 1 < starts.size(); ++g) {
    for (int64_t at = starts[g]; at < starts[g + 1]; at += kTaskRows) {
      tasks.push_back({static_cast<int64_t>(g), at, std::min(kTaskRows, starts[g + 1] - at)});
    }
  }
  at::parallel_for(0, std::ssize(tasks), 2, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Task& task = tasks[static_cast<size_t>(i)];
      run(task.group, task.begin, task.rows);
    }
  });
}

/// [G, r, width]: the sum over each group's rows n of low[n]ᵀ wide[n]. low [N, R], wide [N, width].
at::Tensor outer_sums(const at::Tensor& low, const at::Tensor& wide, int64_t rank,
                      const std::vector<int64_t>& starts) {
  const int64_t width = wide.size(1), ld = low.size(1);
  const int64_t groups = std::ssize(starts) - 1;
  at::Tensor sums = at::empty({groups, rank, width}, wide.options());
  const float *pl = low.const_data_ptr<float>(), *pw = wide.const_data_ptr<float>();
  float* ps = sums.mutable_data_ptr<float>();
  const int64_t blocks = (width + kTaskColumns - 1) / kTaskColumns;
  at::parallel_for(0, groups * blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t g = i / blocks, column = i % blocks * kTaskColumns;
      const int64_t begin = starts[static_cast<size_t>(g)];
      const int64_t rows = starts[static_cast<size_t>(g) + 1] - begin;
      product(rank, std::min(kTaskColumns, width - column), rows, {pl + begin * ld, 1, ld},
              pw + begin * width + column, width, ps + g * rank * width + column, width, false);
    }
  });
  return sums;
}

struct LowRank : Function<LowRank> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_in, const at::Tensor& weight,
                            const at::Tensor& a, const at::Tensor& b, double scale,
                            const std::vector<int64_t>* starts) {
    const at::Tensor x = x_in.contiguous();
    const int64_t in = x.size(1), out = weight.size(0), rank = b.size(-1);
    at::Tensor y = resurface::linear(x, weight).contiguous();
    const at::Tensor down = padded(stack_of(a).transpose(1, 2));               // [G, in, R]
    const at::Tensor up = (stack_of(b).transpose(1, 2) * scale).contiguous();  // [G, r, out]
    const int64_t ld = down.size(2);
    const at::Tensor low = at::empty({x.size(0), ld}, x.options());
    const float *px = x.const_data_ptr<float>(), *pd = down.const_data_ptr<float>(),
                *pu = up.const_data_ptr<float>();
    float *py = y.mutable_data_ptr<float>(), *pl = low.mutable_data_ptr<float>();
    over_rows(*starts, [&](int64_t g, int64_t at, int64_t rows) {
      product(rows, ld, in, {px + at * in, in, 1}, pd + g * in * ld, ld, pl + at * ld, ld, false);
      product(rows, out, rank, {pl + at * ld, ld, 1}, pu + g * rank * out, out, py + at * out, out,
              true);
    });
    ctx->save_for_backward({x, weight, a, b, low});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["starts"] = *starts;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &a = saved[2], &b = saved[3],
                     &low = saved[4];
    const double scale = ctx->saved_data["scale"].toDouble();
    const auto starts = ctx->saved_data["starts"].toIntVector();
    const at::Tensor g = grads[0].contiguous();
    const int64_t in = x.size(1), out = g.size(1), rank = b.size(-1), ld = low.size(1);
    at::Tensor gx, gw;
    if (ctx->needs_input_grad(0)) gx = resurface::linear(g, weight.t()).contiguous();
    if (ctx->needs_input_grad(1)) gw = resurface::linear(g.t(), x.t());

    const at::Tensor up = padded(stack_of(b) * scale);  // [G, out, R]
    const at::Tensor down = stack_of(a).contiguous();   // [G, r, in]
    const at::Tensor glow = at::empty_like(low);        // of x Aᵀ
    const float *pg = g.const_data_ptr<float>(), *pu = up.const_data_ptr<float>(),
                *pd = down.const_data_ptr<float>();
    float *pl = glow.mutable_data_ptr<float>(),
          *px = gx.defined() ? gx.mutable_data_ptr<float>() : nullptr;
    over_rows(starts, [&](int64_t group, int64_t at, int64_t rows) {
      product(rows, ld, out, {pg + at * out, out, 1}, pu + group * out * ld, ld, pl + at * ld, ld,
              false);
      if (px != nullptr) {
        product(rows, in, rank, {pl + at * ld, ld, 1}, pd + group * rank * in, in, px + at * in, in,
                true);
      }
    });
    at::Tensor ga, gb;
    if (ctx->needs_input_grad(2)) ga = outer_sums(glow, x, rank, starts).view_as(a);
    if (ctx->needs_input_grad(3)) {
      gb = (outer_sums(low, g, rank, starts).transpose(1, 2) * scale).contiguous().view_as(b);
    }
    return {gx, gw, ga, gb, at::Tensor(), at::Tensor()};
  }
};

bool fused(const at::Tensor& x, const at::Tensor& weight) {
  return x.is_cpu() && x.dim() == 2 && x.numel() > 0 && x.scalar_type() == at::kFloat &&
         weight.scalar_type() == at::kFloat && weight.size(0) % kLanes == 0 &&
         weight.size(1) % kLanes == 0;
}

}  // namespace

at::Tensor low_rank_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& a,
                           const at::Tensor& b, double scale, const std::vector<int64_t>& starts) {
  if (fused(x, weight)) return LowRank::apply(x, weight, a, b, scale, &starts);
  const auto all_a = stack_of(a).unbind(0), all_b = stack_of(b).unbind(0);
  std::vector<at::Tensor> parts;
  for (size_t g = 0; g < all_a.size(); ++g) {
    const at::Tensor own =
        all_a.size() == 1 ? x : x.narrow(0, starts[g], starts[g + 1] - starts[g]);
    parts.push_back(resurface::linear(resurface::linear(own, all_a[g]), all_b[g]) * scale);
  }
  return resurface::linear(x, weight) + (parts.size() == 1 ? parts[0] : at::cat(parts));
}

at::Tensor row_norms(const at::Tensor& weight, const at::Tensor& a, const at::Tensor& b,
                     double scale) {
  const at::NoGradGuard no_grad;
  return at::addmm(weight.to(a.scalar_type()), b, a, 1, scale).norm(2, 1);
}

}  // namespace resurface
