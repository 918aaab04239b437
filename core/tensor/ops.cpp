#include "core/tensor/ops.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <cmath>

#include "core/tensor/lanes.h"

namespace resurface {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

bool fused(const at::Tensor& x) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

// Rows a task handles at least, so that small batches stay on one thread.
int64_t grain(int64_t width) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(width, 1)); }

// --- RMSNorm
// ------------------------------------------------------------------------------------------

struct RmsNorm : Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            double eps, at::ScalarType out_type) {
    at::Tensor y, scale;
    if (fused(x) && x.scalar_type() == at::kFloat &&
        (out_type == at::kFloat || out_type == at::kBFloat16)) {
      const int64_t n = x.size(0), d = x.size(1);
      const at::Tensor in = x.contiguous(), w = weight.to(at::kFloat).contiguous();
      y = at::empty({n, d}, in.options().dtype(out_type));
      scale = at::empty({n}, in.options());
      const float *px = in.const_data_ptr<float>(), *pw = w.const_data_ptr<float>();
      float* ps = scale.mutable_data_ptr<float>();
      dispatch(out_type, [&](auto tag) {
        using T = decltype(tag);
        T* py = y.mutable_data_ptr<T>();
        at::parallel_for(0, n, grain(d), [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            const float* row = px + i * d;
            float sum = 0;
#pragma GCC ivdep
            for (int64_t j = 0; j < d; ++j) sum += row[j] * row[j];
            const float r = 1.0f / std::sqrt(sum / static_cast<float>(d) + static_cast<float>(eps));
            ps[i] = r;
            T* out = py + i * d;
            for (int64_t j = 0; j < d; ++j) out[j] = store<T>(row[j] * r * pw[j]);
          }
        });
      });
      ctx->save_for_backward({in, weight, scale});
    } else {
      const at::Tensor in = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
      scale = (in.square().mean(-1) + eps).rsqrt();
      y = (in * scale.unsqueeze(-1) * weight.to(in.scalar_type())).to(out_type);
      ctx->save_for_backward({x, weight, scale});
    }
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &scale = saved[2];
    const bool need_weight = ctx->needs_input_grad(1);
    if (fused(x) && x.scalar_type() == at::kFloat) {
      const int64_t n = x.size(0), d = x.size(1);
      const at::Tensor g = grads[0].contiguous(), w = weight.to(at::kFloat).contiguous();
      at::Tensor gx = at::empty_like(x);
      // One partial sum for each fixed block of rows, added in order: the result does not depend on
      // the number of threads.
      constexpr int64_t rows_a_part = 32;
      const int64_t parts = (n + rows_a_part - 1) / rows_a_part;
      at::Tensor partial = need_weight ? at::zeros({parts, d}, x.options()) : at::Tensor();
      const float *px = x.const_data_ptr<float>(), *pw = w.const_data_ptr<float>(),
                  *ps = scale.const_data_ptr<float>();
      float *pgx = gx.mutable_data_ptr<float>(),
            *pp = need_weight ? partial.mutable_data_ptr<float>() : nullptr;
      dispatch(g.scalar_type(), [&](auto tag) {
        using T = decltype(tag);
        const T* pg = g.const_data_ptr<T>();
        at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
          for (int64_t part = begin; part < end; ++part) {
            for (int64_t i = part * rows_a_part; i < std::min(n, (part + 1) * rows_a_part); ++i) {
              const float* row = px + i * d;
              const T* grow = pg + i * d;
              const float r = ps[i];
              float dot = 0;
#pragma GCC ivdep
              for (int64_t j = 0; j < d; ++j) dot += load(grow[j]) * pw[j] * row[j];
              const float c = dot * r * r * r / static_cast<float>(d);
              float* out = pgx + i * d;
              for (int64_t j = 0; j < d; ++j) {
                out[j] = load(grow[j]) * pw[j] * r - row[j] * c;
              }
              if (pp != nullptr) {
                float* acc = pp + part * d;
                for (int64_t j = 0; j < d; ++j) acc[j] += load(grow[j]) * row[j] * r;
              }
            }
          }
        });
      });
      at::Tensor gw = need_weight ? partial.sum(0).to(weight.scalar_type()) : at::Tensor();
      return {gx, gw, at::Tensor(), at::Tensor()};
    }
    const auto type = scale.scalar_type();
    const at::Tensor in = x.to(type), g = grads[0].to(type), r = scale.unsqueeze(-1);
    const at::Tensor gw_in = g * weight.to(type);
    const at::Tensor gx = gw_in * r - in * (r.pow(3) * (gw_in * in).mean(-1, true));
    at::Tensor gw = need_weight ? (g * in * r).sum(0).to(weight.scalar_type()) : at::Tensor();
    return {gx.to(x.scalar_type()), gw, at::Tensor(), at::Tensor()};
  }
};

// --- rotary embedding
// -----------------------------------------------------------------------------------

// direction +1 rotates, -1 rotates back (which is the gradient).
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, int64_t heads,
                  float direction) {
  const int64_t n = x.size(0), width = x.size(1), dim = width / heads, half = dim / 2;
  if (!fused(x)) {
    const at::Tensor in = x.view({n, heads, 2, half});
    const at::Tensor a = in.select(2, 0), b = in.select(2, 1);
    const at::Tensor c = cos.to(x.scalar_type()).unsqueeze(1),
                     s = sin.to(x.scalar_type()).unsqueeze(1) * direction;
    return at::stack({a * c - b * s, b * c + a * s}, 2).view({n, width});
  }
  const at::Tensor in = x.contiguous();
  at::Tensor y = at::empty_like(in);
  const float *pc = cos.const_data_ptr<float>(), *ps = sin.const_data_ptr<float>();
  dispatch(x.scalar_type(), [&](auto tag) {
    using T = decltype(tag);
    const T* px = in.const_data_ptr<T>();
    T* py = y.mutable_data_ptr<T>();
    at::parallel_for(0, n, grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float *c = pc + i * half, *s = ps + i * half;
        for (int64_t h = 0; h < heads; ++h) {
          const T* a = px + i * width + h * dim;
          const T* b = a + half;
          T* oa = py + i * width + h * dim;
          T* ob = oa + half;
#pragma GCC ivdep
          for (int64_t j = 0; j < half; ++j) {
            const float va = load(a[j]), vb = load(b[j]);
            oa[j] = store<T>(va * c[j] - vb * s[j] * direction);
            ob[j] = store<T>(vb * c[j] + va * s[j] * direction);
          }
        }
      }
    });
  });
  return y;
}

struct Rotary : Function<Rotary> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& cos,
                            const at::Tensor& sin, int64_t heads) {
    ctx->save_for_backward({cos, sin});
    ctx->saved_data["heads"] = heads;
    return rotate(x, cos, sin, heads, 1);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    return {rotate(grads[0], saved[0], saved[1], ctx->saved_data["heads"].toInt(), -1),
            at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

// --- linear layers
// --------------------------------------------------------------------------------------

// a bᵀ by oneDNN, any strides; nothing where this LibTorch has no such operator.
std::optional<at::Tensor> onednn_product(const at::Tensor& a, const at::Tensor& b) {
  using Signature = at::Tensor(
      const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
      c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static const auto found =
      c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  if (!found || !at::globalContext().userEnabledMkldnn()) return std::nullopt;
  static const auto op = found->typed<Signature>();
  return op.call(a, b, std::nullopt, "none", c10::List<std::optional<at::Scalar>>(), "");
}

bool by_onednn(const at::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.dim() == 2 && x.numel() > 0;
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (by_onednn(a)) {
    if (auto y = onednn_product(a, b)) return *y;
  }
  return at::mm(a, b.t());
}

struct LinearFunction : Function<LinearFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight) {
    ctx->save_for_backward({x, weight});
    return product(x, weight);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    at::Tensor gx, gw;
    if (ctx->needs_input_grad(0)) gx = product(grads[0], weight.t());
    if (ctx->needs_input_grad(1)) gw = product(grads[0].t(), x.t());
    return {gx, gw};
  }
};

struct FrozenLinearFunction : Function<FrozenLinearFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& transposed) {
    ctx->save_for_backward({weight});
    return product(x, transposed.t());
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    // Its transpose is what the gradient multiplies by, and W is that already.
    return {product(grads[0], ctx->get_saved_variables()[0].t()), at::Tensor(), at::Tensor()};
  }
};

// --- SwiGLU
// ---------------------------------------------------------------------------------------------

struct Swiglu : Function<Swiglu> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate, const at::Tensor& up) {
    ctx->save_for_backward({gate, up});
    if (!fused(gate)) return at::silu(gate) * up;
    const at::Tensor g = gate.contiguous(), u = up.contiguous();
    at::Tensor y = at::empty_like(g);
    dispatch(g.scalar_type(), [&](auto tag) {
      using T = decltype(tag);
      const T *pg = g.const_data_ptr<T>(), *pu = u.const_data_ptr<T>();
      T* py = y.mutable_data_ptr<T>();
      at::parallel_for(0, g.numel(), 8192, [&](int64_t begin, int64_t end) {
#pragma GCC ivdep
        for (int64_t i = begin; i < end; ++i) {
          const float v = load(pg[i]);
          py[i] = store<T>(v / (1.0f + exponential(-v)) * load(pu[i]));
        }
      });
    });
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &gate = saved[0], &up = saved[1];
    if (!fused(gate)) {
      const at::Tensor sigma = at::sigmoid(gate);
      return {grads[0] * up * sigma * (1 + gate * (1 - sigma)), grads[0] * gate * sigma};
    }
    const at::Tensor g = gate.contiguous(), u = up.contiguous(), go = grads[0].contiguous();
    at::Tensor gg = at::empty_like(g), gu = at::empty_like(u);
    dispatch(g.scalar_type(), [&](auto tag) {
      using T = decltype(tag);
      const T *pg = g.const_data_ptr<T>(), *pu = u.const_data_ptr<T>(),
              *po = go.const_data_ptr<T>();
      T *pgg = gg.mutable_data_ptr<T>(), *pgu = gu.mutable_data_ptr<T>();
      at::parallel_for(0, g.numel(), 8192, [&](int64_t begin, int64_t end) {
#pragma GCC ivdep
        for (int64_t i = begin; i < end; ++i) {
          const float v = load(pg[i]), o = load(po[i]);
          const float sigma = 1.0f / (1.0f + exponential(-v));
          pgg[i] = store<T>(o * load(pu[i]) * sigma * (1.0f + v * (1.0f - sigma)));
          pgu[i] = store<T>(o * v * sigma);
        }
      });
    });
    return {gg, gu};
  }
};

// --- padding
// ----------------------------------------------------------------------------------------------

struct PadRows : Function<PadRows> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& pick,
                            const at::Tensor& back) {
    ctx->save_for_backward({back});
    return x.index_select(0, pick);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {grads[0].index_select(0, ctx->get_saved_variables()[0]), at::Tensor(), at::Tensor()};
  }
};

struct UnpadRows : Function<UnpadRows> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& back) {
    ctx->save_for_backward({back});
    ctx->saved_data["rows"] = x.size(0);
    return x.index_select(0, back);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    auto sizes = grads[0].sizes().vec();
    sizes[0] = ctx->saved_data["rows"].toInt();
    return {at::zeros(sizes, grads[0].options())
                .index_copy_(0, ctx->get_saved_variables()[0], grads[0]),
            at::Tensor()};
  }
};

struct StandIn : Function<StandIn> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& weight,
                            const at::Tensor& copy) {
    ctx->saved_data["type"] = static_cast<int64_t>(weight.scalar_type());
    return copy.alias();
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto type = static_cast<at::ScalarType>(ctx->saved_data["type"].toInt());
    return {grads[0].to(type), at::Tensor()};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, at::ScalarType out) {
  return RmsNorm::apply(x, weight, eps, out);
}

at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                  int64_t heads) {
  return Rotary::apply(x, cos, sin, heads);
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight) {
  return by_onednn(x) ? LinearFunction::apply(x, weight) : at::linear(x, weight);
}

at::Tensor frozen_linear(const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& transposed) {
  return by_onednn(x) ? FrozenLinearFunction::apply(x, weight, transposed) : at::linear(x, weight);
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) { return Swiglu::apply(gate, up); }

at::Tensor pad_rows(const at::Tensor& x, const at::Tensor& pick, const at::Tensor& back) {
  return PadRows::apply(x, pick, back);
}

at::Tensor unpad_rows(const at::Tensor& x, const at::Tensor& back) {
  return UnpadRows::apply(x, back);
}

at::Tensor stand_in(const at::Tensor& weight, const at::Tensor& copy) {
  return StandIn::apply(weight, copy);
}

}  // namespace resurface
