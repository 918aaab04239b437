// LibTorch's memory on a CPU, kept from step to step.
#pragma once

namespace resurface {

/// From now on tensors of 1 MiB and more take blocks that earlier tensors gave back. A training
/// step frees and takes the same few gigabytes again and again; malloc either returns them to the
/// kernel, which must clear every page anew (a fifth of a step), or, as no two steps have the same
/// number of tokens, keeps blocks of ever more sizes until memory is gone. What is kept is bounded:
/// at most a quarter more than tensors have ever held at once. Called once, before the first tensor
/// is made.
void keep_tensor_memory();

}  // namespace resurface
