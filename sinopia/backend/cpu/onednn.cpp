#include "sinopia/backend/cpu/onednn.h"

#include <memory>
#include <unordered_map>

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include "sinopia/backend/cpu/scratch.h"
#include "sinopia/base/error.h"

namespace sinopia {
namespace {

using Dims = dnnl::memory::dims;
using Tag = dnnl::memory::format_tag;
using Type = dnnl::memory::data_type;
using Layout = dnnl::memory::desc;

/// Our threads are the only ones: within this scope oneDNN, for whom OpenMP counts them, has one.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

template <class Body>
auto checked(const Body& body) {
  const OneThread alone;
  try {
    return body();
  } catch (const dnnl::error& error) {
    fail(ErrorKind::Backend, "[onednn] {}", error.what());
  }
}

/// The scratch memory is ours: oneDNN's own would be shared by the threads that run one product.
dnnl::matmul::primitive_desc describe(const dnnl::engine& engine, const Layout& x, const Layout& w,
                                      const Layout& y) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
#if DNNL_VERSION_MAJOR < 3
  return {dnnl::matmul::desc(x, w, y), attributes, engine};
#else
  return {engine, x, w, y, attributes};
#endif
}

Type type_of(DType dtype) {
  return dtype == DType::BF16 ? Type::bf16 : dtype == DType::I8 ? Type::s8 : Type::f32;
}

bool has(dnnl::cpu_isa asked) {  // each is the bits of what it includes
  const auto bits = static_cast<unsigned>(asked);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & bits) == bits;
}

class Product {
 public:
  Product(DType dtype, const void* w, int64_t N, int64_t K, int64_t rows, int64_t y_step)
      : type_(type_of(dtype)),
        sum_(dtype == DType::I8 ? Type::s32 : Type::f32),
        N_(N),
        K_(K),
        rows_(rows),
        y_step_(y_step) {
    description_ = describe(engine_, x_layout(rows), Layout(Dims{K, N}, type_, Tag::any), y_layout(rows));
    primitive_ = dnnl::matmul(description_);
    const dnnl::memory given(Layout(Dims{K, N}, type_, Tag::ba), engine_, const_cast<void*>(w));
    weights_ = dnnl::memory(description_.weights_desc(), engine_);
    dnnl::stream stream(engine_);
    dnnl::reorder(given, weights_).execute(stream, const_cast<dnnl::memory&>(given), weights_);
    stream.wait();
  }

  void run(const void* x, int64_t M, void* y) const {
    if (M == rows_) return run(description_, primitive_, x, M, y);
    const auto description = describe(engine_, x_layout(M), weights_.get_desc(), y_layout(M));
    run(description, dnnl::matmul(description), x, M, y);
  }

 private:
  Layout x_layout(int64_t M) const { return {Dims{M, K_}, type_, Tag::ab}; }
  Layout y_layout(int64_t M) const { return {Dims{M, N_}, sum_, Dims{y_step_, 1}}; }

  void run(const dnnl::matmul::primitive_desc& description, const dnnl::matmul& primitive, const void* x,
           int64_t M, void* y) const {
    const Layout scratch = description.scratchpad_desc();
    dnnl::stream stream(engine_);
    primitive.execute(stream, {{DNNL_ARG_SRC, {x_layout(M), engine_, const_cast<void*>(x)}},
                               {DNNL_ARG_WEIGHTS, weights_},
                               {DNNL_ARG_DST, {y_layout(M), engine_, y}},
                               {DNNL_ARG_SCRATCHPAD,
                                {scratch, engine_, thread_scratch(scratch.get_size() / sizeof(float) + 1)}}});
    stream.wait();
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  Type type_, sum_;
  int64_t N_, K_, rows_, y_step_;
  dnnl::matmul::primitive_desc description_;
  dnnl::matmul primitive_;
  dnnl::memory weights_;
};

}  // namespace

std::string_view onednn_needs(MatmulPrecision precision) {
  using Isa = dnnl::cpu_isa;
  if (precision == MatmulPrecision::BF16 && !has(Isa::avx512_core_bf16))
    return "a processor with AVX512-BF16 or AMX, which this one is not";
  if (precision == MatmulPrecision::Int8 && !has(Isa::avx512_core_vnni) && !has(Isa::avx2_vnni))
    return "a processor with VNNI or AMX, which this one is not";
  return "";
}

WeightProduct onednn_product(DType dtype, const void* w, int64_t N, int64_t K, int64_t rows, int64_t y_step) {
  const auto product = checked([&] { return std::make_shared<const Product>(dtype, w, N, K, rows, y_step); });
  return [product](const void* x, int64_t M, void* y) { checked([&] { product->run(x, M, y); }); };
}

}  // namespace sinopia
