#include <fmt/format.h>

#include "bench/bench.h"

namespace sinopia::bench {
namespace {

void add(std::vector<Case>& cases, const std::string& where, int64_t N, int64_t size, int64_t I, int64_t O,
         int kernel, const Conv2dOptions& options) {
  const Padding pad = options.padding;
  const int64_t out = (size + pad.top + pad.bottom - kernel) / options.stride + 1;
  Case c;
  c.family = kernel == 1 ? "conv 1x1" : options.stride == 2 ? "conv 3x3 s2" : "conv 3x3";
  c.name = fmt::format("{} {}x{}x{}x{} > {}", where, N, size, size, I, O);
  c.flops = 2.0 * static_cast<double>(N * out * out * O * kernel * kernel * I);
  c.bytes = 4.0 * static_cast<double>(N * size * size * I + N * out * out * O + O * kernel * kernel * I);
  c.prepare = [=] {
    const Tensor x = random_tensor({N, size, size, I}), w = random_tensor({O, I, kernel, kernel});
    const Tensor b = random_tensor({O});
    Tensor y = Tensor::empty({N, out, out, O});
    Prepared p;
    p.contenders = onednn_conv2d(x, w, b, options, y.shape());
    p.contenders.insert(
        p.contenders.begin(),
        {"ours", [=]() mutable { cpu_kernels().conv2d(x, w, b, {}, options, Activation::None, y); }, y});
    if (kernel == 3 && options.stride == 1) {
      for (const auto& [name, method] : {std::pair{"direct", Conv2dMethod::Direct},
                                         {"F2", Conv2dMethod::Winograd2},
                                         {"F4", Conv2dMethod::Winograd4}}) {
        Conv2dOptions only = options;
        only.method = method;
        Tensor y_only = Tensor::empty(y.shape());
        p.contenders.push_back(
            {name, [=]() mutable { cpu_kernels().conv2d(x, w, b, {}, only, Activation::None, y_only); },
             y_only});
      }
    }
    p.reference = [=](int64_t i) {
      const int64_t o = i % O, ox = i / O % out, oy = i / O / out % out, n = i / O / out / out;
      Prepared::Value sum{element(b, o), std::abs(element(b, o))};
      for (int64_t ky = 0; ky < kernel; ++ky) {
        for (int64_t kx = 0; kx < kernel; ++kx) {
          const int64_t iy = oy * options.stride + ky - pad.top, ix = ox * options.stride + kx - pad.left;
          if (iy < 0 || iy >= size || ix < 0 || ix >= size) continue;
          for (int64_t k = 0; k < I; ++k) {
            sum.add(element(x, ((n * size + iy) * size + ix) * I + k) *
                    element(w, ((o * I + k) * kernel + ky) * kernel + kx));
          }
        }
      }
      return sum;
    };
    return p;
  };
  cases.push_back(std::move(c));
}

}  // namespace

void add_convolutions(std::vector<Case>& cases) {
  const Conv2dOptions same{.stride = 1, .padding = Padding::same(1)};
  const Conv2dOptions half{.stride = 2, .padding = Padding::same(1)};
  const Conv2dOptions half_vae{.stride = 2, .padding = {0, 0, 1, 1}};
  const std::string unet = "SD1.5 UNet", vae = "VAE", xl = "SDXL UNet";
  add(cases, unet, 2, 64, 4, 320, 3, same);
  add(cases, unet, 2, 64, 320, 320, 3, same);
  add(cases, unet, 2, 64, 640, 320, 3, same);
  add(cases, unet, 2, 64, 960, 320, 3, same);
  add(cases, unet, 2, 64, 320, 4, 3, same);
  add(cases, unet, 2, 64, 320, 320, 3, half);
  add(cases, unet, 2, 32, 320, 640, 3, same);
  add(cases, unet, 2, 32, 640, 640, 3, same);
  add(cases, unet, 2, 32, 1280, 640, 3, same);
  add(cases, unet, 2, 32, 640, 640, 3, half);
  add(cases, unet, 2, 16, 640, 1280, 3, same);
  add(cases, unet, 2, 16, 1280, 1280, 3, same);
  add(cases, unet, 2, 16, 2560, 1280, 3, same);
  add(cases, unet, 2, 8, 1280, 1280, 3, same);
  add(cases, unet, 2, 8, 2560, 1280, 3, same);
  add(cases, unet, 2, 64, 640, 320, 1, {});
  add(cases, unet, 2, 32, 960, 640, 1, {});
  add(cases, unet, 2, 16, 1280, 1280, 1, {});
  add(cases, unet, 2, 8, 2560, 1280, 1, {});
  add(cases, xl, 2, 128, 320, 320, 3, same);
  add(cases, vae, 1, 64, 4, 512, 3, same);
  add(cases, vae, 1, 64, 512, 512, 3, same);
  add(cases, vae, 1, 128, 512, 512, 3, same);
  add(cases, vae, 1, 256, 256, 256, 3, same);
  add(cases, vae, 1, 512, 256, 128, 3, same);
  add(cases, vae, 1, 512, 128, 128, 3, same);
  add(cases, vae, 1, 512, 128, 3, 3, same);
  add(cases, vae, 1, 512, 3, 128, 3, same);
  add(cases, vae, 1, 512, 128, 128, 3, half_vae);
  add(cases, vae, 1, 512, 256, 128, 1, {});
}

}  // namespace sinopia::bench
