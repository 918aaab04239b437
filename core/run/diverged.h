// Settings under which a computation leaves the finite numbers: a search goes on to others.
#pragma once

#include "core/run/error.h"

namespace resurface {

class Diverged : public Error {
 public:
  using Error::Error;
};

}  // namespace resurface
