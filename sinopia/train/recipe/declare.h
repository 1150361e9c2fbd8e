#pragma once

#include "sinopia/train/recipe/fields.h"
#include "sinopia/train/recipe/recipe.h"

namespace sinopia {

// The fields of each part of a recipe, for a visitor.
void visit_fields(Fields& f, DataRecipe& r);
void visit_fields(Fields& f, AutoencoderLossConfig& r);
void visit_fields(Fields& f, AutoencoderRecipe& r);
void visit_fields(Fields& f, LossWeightingConfig& r);
void visit_fields(Fields& f, TimestepSampling& r);
void visit_fields(Fields& f, DiffusionObjective::Config& r);
void visit_fields(Fields& f, DiffusionRecipe& r);
void visit_fields(Fields& f, LearningRate& r);
void visit_fields(Fields& f, OptimizerRecipe& r);
void visit_fields(Fields& f, EmaRecipe& r);
void visit_fields(Fields& f, ReportRecipe& r);
void visit_fields(Fields& f, CheckpointRecipe& r);
void visit_fields(Fields& f, Recipe& r);

}  // namespace sinopia
