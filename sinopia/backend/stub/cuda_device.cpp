#include "sinopia/backend/cuda_device.h"

#include "sinopia/backend/graph_recording.h"
#include "sinopia/backend/kernels.h"
#include "sinopia/backend/parameter_store.h"
#include "sinopia/base/error.h"

namespace sinopia {
namespace {

constexpr const char* kObstacle = "this build has no CUDA (make CUDA=90a)";

[[noreturn]] void refuse() { fail(ErrorKind::Unsupported, "[backend] {}; use the CPU", kObstacle); }

}  // namespace

Kernels& cuda_kernels(int) { refuse(); }
bool built_with_cuda() { return false; }
std::string cuda_obstacle() { return kObstacle; }
int cuda_device_count() { return 0; }
void open_cuda_device(int) { refuse(); }
std::string cuda_device_name(int) { refuse(); }
size_t free_cuda_memory(int) { refuse(); }
void synchronise_cuda(int) { refuse(); }
void set_cuda_tf32(bool) {}
Tensor store_parameter(const Tensor&, Device, DType) { refuse(); }
void give_up_parameters(Device) {}
ParameterStats parameter_stats(Device) { return {}; }
std::unique_ptr<GraphRecording> record_graph(Device, const std::function<void()>&) { return nullptr; }
bool is_recording_graph() { return false; }
void on_memory_shortage(std::function<size_t(Device, size_t)>) {}

}  // namespace sinopia
