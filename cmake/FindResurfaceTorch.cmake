# LibTorch as imported targets of our own. find_package(Torch) insists on a CUDA toolkit whenever the
# wheel was built with CUDA; a CPU build needs none of it.
#
# Looks in Torch_ROOT (the folder that holds include/ and lib/), else in .venv of the source tree.
# Gives resurface::torch.

if(NOT Torch_ROOT)
  file(GLOB _torch_candidates
    "${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch")
  if(_torch_candidates)
    list(GET _torch_candidates 0 Torch_ROOT)
  endif()
endif()
if(NOT EXISTS "${Torch_ROOT}/include/ATen/ATen.h")
  message(FATAL_ERROR
    "LibTorch was not found (Torch_ROOT='${Torch_ROOT}'). Run scripts/setup.sh, which puts the pinned "
    "torch wheel into .venv, or pass -DTorch_ROOT=<folder with include/ and lib/>.")
endif()
set(Torch_ROOT "${Torch_ROOT}" CACHE PATH "LibTorch: the folder with include/ and lib/" FORCE)
message(STATUS "LibTorch: ${Torch_ROOT}")

# The wheel keeps its CUDA runtime libraries beside itself, in nvidia/<part>/lib.
file(GLOB _torch_nvidia_dirs "${Torch_ROOT}/../nvidia/*/lib")
set(_torch_rpath "${Torch_ROOT}/lib" ${_torch_nvidia_dirs})

add_library(resurface_torch INTERFACE)
add_library(resurface::torch ALIAS resurface_torch)
# After the system's folders: the wheel brings headers of another fmt, whose library it keeps to itself.
target_compile_options(resurface_torch INTERFACE
  "SHELL:-idirafter ${Torch_ROOT}/include"
  "SHELL:-idirafter ${Torch_ROOT}/include/torch/csrc/api/include")
target_link_directories(resurface_torch INTERFACE "${Torch_ROOT}/lib")
target_link_libraries(resurface_torch INTERFACE torch_cpu c10)
# at::parallel_for is a header template: without OpenMP in our own files it runs on one thread and
# says nothing. The wheel brings its OpenMP runtime; a second one would fight over the cores.
file(GLOB _torch_openmp "${Torch_ROOT}/lib/libgomp*.so*")
if(NOT _torch_openmp)
  message(FATAL_ERROR "No OpenMP runtime (libgomp*.so*) in ${Torch_ROOT}/lib")
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU") # clang would bring a runtime of its own; it only builds the fuzzer
  target_compile_options(resurface_torch INTERFACE -fopenmp)
endif()
target_link_libraries(resurface_torch INTERFACE ${_torch_openmp})
# libtorch_cpu.so names CUDA libraries that it opens only when a GPU is used.
target_link_options(resurface_torch INTERFACE -Wl,--allow-shlib-undefined)
foreach(_dir IN LISTS _torch_rpath)
  target_link_options(resurface_torch INTERFACE "-Wl,-rpath,${_dir}" "-Wl,-rpath-link,${_dir}")
endforeach()
if(RESURFACE_CUDA)
  if(NOT EXISTS "${Torch_ROOT}/lib/libtorch_cuda.so")
    message(FATAL_ERROR "RESURFACE_CUDA needs libtorch_cuda.so in ${Torch_ROOT}/lib")
  endif()
  # The linker would drop libtorch_cuda: nothing of ours names a symbol of it.
  target_link_options(resurface_torch INTERFACE
    "-Wl,--no-as-needed,${Torch_ROOT}/lib/libtorch_cuda.so,${Torch_ROOT}/lib/libc10_cuda.so,--as-needed")
  target_compile_definitions(resurface_torch INTERFACE RESURFACE_CUDA=1)
endif()
