#include "sinopia/pipelines/preview.h"

#include <vector>

#include "sinopia/io/image_tensor.h"
#include "sinopia/ops/elementwise.h"
#include "sinopia/ops/linear.h"

namespace sinopia {

Image preview_image(const Tensor& latents) {
  // One row a colour, one column a latent channel.
  static const std::vector<float> kFactors = {0.3512f, 0.3250f, -0.2829f, -0.2120f,  //
                                              0.2297f, 0.4974f, 0.1762f,  -0.2616f,  //
                                              0.3227f, 0.2350f, 0.2721f,  -0.7177f};
  const Tensor rgb = linear(latents, Tensor::from(Shape{3, 4}, kFactors));
  return tensor_to_images(clamp(rgb, -1, 1)).front();
}

}  // namespace sinopia
