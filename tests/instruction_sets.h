#pragma once

#include <functional>

#include <gtest/gtest.h>
#include <hwy/targets.h>

namespace sinopia::testing {

/// Runs `body` once for each instruction set that the kernels were compiled for and this machine has.
inline void for_each_instruction_set(const std::function<void()>& body) {
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace sinopia::testing
