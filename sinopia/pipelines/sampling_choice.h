#pragma once

#include <string_view>

#include "sinopia/diffusion/plan.h"
#include "sinopia/models/checkpoint/parts.h"

namespace sinopia {

/// The scheduler that a checkpoint's own words describe, for files without a scheduler_config.json.
SchedulerConfig scheduler_config(const ScheduleInfo& info);

/// How to sample. With neither name: the model's own scheduler as diffusers runs it. A sampler alone:
/// diffusers' scheduler of that sampler with the model's settings; where diffusers has none, and whenever a
/// sigma schedule is named, the sampler on that schedule as AUTOMATIC1111 has it. Throws as plan_sampling and
/// plan_for_scheduler do.
SamplingPlan choose_plan(std::string_view sampler, std::string_view scheduler, const SchedulerConfig& own,
                         const NoiseSchedule& schedule, int steps);

}  // namespace sinopia
