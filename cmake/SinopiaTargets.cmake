# Compile options shared by everything of ours.
add_library(sinopia_options INTERFACE)
# Products and sums fuse only where a kernel says so: two rounded operations stay two on every machine.
target_compile_options(sinopia_options INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wno-psabi -ffp-contract=off
                       $<$<BOOL:${SINOPIA_WERROR}>:-Werror>
                       $<$<BOOL:${SINOPIA_SANITIZE}>:-fsanitize=address,undefined -fno-sanitize-recover=all
                                                     -fno-omit-frame-pointer>)
target_link_options(sinopia_options INTERFACE
                    $<$<BOOL:${SINOPIA_SANITIZE}>:-fsanitize=address,undefined>)
if(SINOPIA_BUILD_FUZZERS)
  target_compile_options(sinopia_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# The layers from the lowest up, as sinopia_layer() names them.
set(SINOPIA_LAYERS "" CACHE INTERNAL "")

# sinopia_layer(name [third-party targets...]): the folder `name` as an object library that may use every layer
# declared before it. No file needs flags of its own: Highway compiles one source for all instruction sets.
function(sinopia_layer name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/backend/(cuda/|stub/cuda_)")  # sinopia_gpu has these
  if(SINOPIA_ONEDNN)
    list(FILTER sources EXCLUDE REGEX "/backend/stub/onednn\\.cpp$")
  else()
    list(FILTER sources EXCLUDE REGEX "/backend/cpu/onednn\\.cpp$")
  endif()
  if(NOT sources)
    return()
  endif()
  add_library(sinopia_${name} OBJECT ${sources})
  target_include_directories(sinopia_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                                    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(sinopia_${name} PUBLIC fmt::fmt PRIVATE sinopia_options Threads::Threads ${ARGN})
  foreach(layer IN LISTS SINOPIA_LAYERS)
    target_include_directories(sinopia_${name} PRIVATE
                               $<TARGET_PROPERTY:sinopia_${layer},INTERFACE_INCLUDE_DIRECTORIES>)
  endforeach()
  set_property(GLOBAL PROPERTY SINOPIA_PACKAGES_${name} ${ARGN})
  set(SINOPIA_LAYERS ${SINOPIA_LAYERS} ${name} CACHE INTERNAL "")
endfunction()

# sinopia_link_layers(target last [gpu]): links the objects of every layer up to and including `last`, with the
# third-party libraries they use; from the backend on also those of the GPU, by default the build's own.
function(sinopia_link_layers target last)
  set(gpu ${ARGV2})
  if(NOT gpu)
    set(gpu sinopia_gpu)
  endif()
  foreach(layer IN LISTS SINOPIA_LAYERS)
    get_property(packages GLOBAL PROPERTY SINOPIA_PACKAGES_${layer})
    target_link_libraries(${target} PRIVATE sinopia_${layer} ${packages})
    if(layer STREQUAL backend)
      get_property(packages GLOBAL PROPERTY SINOPIA_PACKAGES_${gpu})
      target_link_libraries(${target} PRIVATE ${gpu} ${packages})
    endif()
    if(layer STREQUAL last)
      break()
    endif()
  endforeach()
  target_link_libraries(${target} PRIVATE sinopia_options Threads::Threads)
endfunction()
