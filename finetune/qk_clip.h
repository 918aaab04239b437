// QK-clip (Kimi Team 2025, "Kimi K2: Open Agentic Intelligence", algorithm 1): after a step of
// Muon, a head whose largest attention logit S over the step's batch exceeds tau has its W_q and
// W_k scaled by sqrt(tau / S) each. Where several heads share a key (grouped queries), W_q alone is
// scaled, by tau / S: so does the report with its shared rotary key, so that clipping one head does
// not touch the others. In latent attention that is the rotated part of W_q; the parts of W_q and
// of the keys' up-projection that are a head's own are scaled by the root each.
//
// Where we differ: the report takes S from the step's own forward, before the update; here it is
// that of the updated weights, from one more forward over the batch (about a third of the step's
// arithmetic again), block after block with those before it clipped. The bound then holds exactly
// for the weights that the step leaves behind.
#pragma once

#include "core/model/model.h"

namespace resurface {

/// Clips the blocks whose W_q requires gradients, biases with the weights. A W_k that does not
/// train stays, and W_q takes the whole factor. Returns the largest logits before clipping,
/// [layers, heads] float: of later blocks, with the earlier ones clipped. Layers of linear
/// attention have no logits and no row. Throws Error for a model that normalises queries and keys.
at::Tensor clip_attention(Model& model, const Batch& batch, double tau);

}  // namespace resurface
