// One hash for a set of named tensors: what a study's stages and edit files are keyed by.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/checkpoint/write.h"

namespace resurface {

/// xxh3-128 over names, dtypes, shapes and bytes, in order of name, hex: the same for any sharding
/// or order in a file.
std::string hash_tensors(std::vector<std::pair<std::string, at::Tensor>> tensors);
/// Of tensors that are made one at a time.
std::string hash_tensors(std::vector<TensorSource> tensors);

}  // namespace resurface
