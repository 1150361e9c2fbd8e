#pragma once

namespace sinopia {

/// The x in [0,1] below which a beta distribution (a, b) has the probability p, p in [0,1], a and b in
/// (0,100]. Within 1e-12 of the true value. Throws InvalidArgument outside these ranges.
double beta_quantile(double p, double a, double b);

}  // namespace sinopia
