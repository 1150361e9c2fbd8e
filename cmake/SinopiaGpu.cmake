# sinopia_gpu: the CUDA backend, or the stub that says there is none. Tests of its own link against
# sinopia_gpu_emulated, the same sources compiled as C++ (tests/cuda_emulation).
set(SINOPIA_CUDA_ARCHITECTURES 80 86 89 90a CACHE STRING "GPUs to compile for, as CMAKE_CUDA_ARCHITECTURES")

function(sinopia_gpu_library name)
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE fmt::fmt Threads::Threads)
endfunction()

if(NOT SINOPIA_CUDA)
  add_library(sinopia_gpu OBJECT ${PROJECT_SOURCE_DIR}/sinopia/backend/stub/cuda_device.cpp)
  sinopia_gpu_library(sinopia_gpu)
  target_link_libraries(sinopia_gpu PRIVATE sinopia_options)
  return()
endif()

# Where scripts/setup --cuda puts one, after those that are installed.
find_program(nvcc nvcc PATHS /usr/local/cuda/bin ${PROJECT_SOURCE_DIR}/build/cuda/nvidia/cu13/bin REQUIRED)
if(NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER ${nvcc})
endif()
enable_language(CUDA)
foreach(kind STANDARD EXTENSION)  # which CMake 3.25 does not know of CUDA 13
  if(NOT CMAKE_CUDA20_${kind}_COMPILE_OPTION)
    set(CMAKE_CUDA20_${kind}_COMPILE_OPTION -std=c++20)
  endif()
endforeach()
find_package(CUDAToolkit REQUIRED)
find_path(CUDNN_INCLUDE cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 HINTS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_LIBRARY_ROOT}/lib
             REQUIRED)
file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/sinopia/backend/cuda/*.cpp
     ${PROJECT_SOURCE_DIR}/sinopia/backend/cuda/*.cu)
add_library(sinopia_gpu OBJECT ${sources})
sinopia_gpu_library(sinopia_gpu)
set_target_properties(sinopia_gpu PROPERTIES CUDA_ARCHITECTURES "${SINOPIA_CUDA_ARCHITECTURES}" CUDA_STANDARD 20
                                             CUDA_STANDARD_REQUIRED ON)
# Divisions and roots as IEEE 754 has them, and products and sums fused only where a kernel says so: f32 on the GPU
# is to give what the CPU gives.
target_compile_options(sinopia_gpu PRIVATE
                       $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wno-psabi --fmad=false
                                                  --expt-relaxed-constexpr -diag-suppress=177 -DFMT_CONSTEVAL= -DFMT_USE_CONSTEXPR=1>
                       $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wno-psabi -ffp-contract=off>
                       $<$<BOOL:${SINOPIA_WERROR}>:$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>
                                                   $<$<COMPILE_LANGUAGE:CXX>:-Werror>>)
target_include_directories(sinopia_gpu SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS} ${CUDNN_INCLUDE})
set_property(GLOBAL PROPERTY SINOPIA_PACKAGES_sinopia_gpu CUDA::cudart_static CUDA::cublasLt ${CUDNN_LIBRARY})
