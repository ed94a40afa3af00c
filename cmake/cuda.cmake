# HONE_CUDA: ON, the kernels for NVIDIA cards by nvcc; EMULATION, the same files by g++ for the emulator (emulation/cuda), which runs and
# checks them on the processor; AUTO; OFF.
set(HONE_CUDA AUTO CACHE STRING "Kernels for NVIDIA cards: AUTO (ON where there is nvcc), ON, OFF or EMULATION (the processor plays the card)")
set_property(CACHE HONE_CUDA PROPERTY STRINGS AUTO ON OFF EMULATION)
set(cuda ${HONE_CUDA})
if(cuda STREQUAL AUTO)
  include(CheckLanguage)
  check_language(CUDA)
  set(cuda ON)
  if(NOT CMAKE_CUDA_COMPILER)
    set(cuda OFF)
  endif()
endif()
if(NOT cuda)
  return()
endif()
# What the emulator checks is what these make g++ call (emulation/cuda/instrument.cpp); the sanitizers themselves are not linked.
set(HONE_CUDA_EMULATION_FLAGS -x c++ -O1 -Wno-unknown-pragmas -fsanitize=thread,alignment,bounds --param=tsan-instrument-func-entry-exit=0)

if(NOT cuda STREQUAL EMULATION)
  set(CMAKE_CUDA_ARCHITECTURES 80;90a;100;120 CACHE STRING "Compute capabilities")
  enable_language(CUDA)
  foreach(kind STANDARD EXTENSION)  # which CMake 3.25 does not know of nvcc
    if(NOT CMAKE_CUDA20_${kind}_COMPILE_OPTION)
      set(CMAKE_CUDA20_${kind}_COMPILE_OPTION -std=c++20)
    endif()
  endforeach()
  find_package(CUDAToolkit REQUIRED)
  add_compile_options($<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr>)  # what kernels share with the CPU's (kernels/moments.h)
  add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xptxas -v>")
  list(PREPEND CMAKE_CUDA_COMPILER_LAUNCHER ${PROJECT_SOURCE_DIR}/scripts/keep_ptxas.sh)
endif()

# NVIDIA's cuBLASLt and cuDNN, where the toolkit has none, as scripts/setup.sh --cuda unpacks them: headers to build with, and lib/ beside
# the program, where they are looked for. They are loaded when they are first called; nothing is linked to them.
set(wheels ${PROJECT_SOURCE_DIR}/build/cuda-libraries)
set(HONE_CUDA_WHEEL_INCLUDE)
foreach(header nvidia/cu13/include/cublasLt.h nvidia/cudnn/include/cudnn.h)
  if(NOT cuda STREQUAL EMULATION AND EXISTS ${wheels}/${header})
    cmake_path(GET header PARENT_PATH folder)
    list(APPEND HONE_CUDA_WHEEL_INCLUDE ${wheels}/${folder})
    if(NOT EXISTS ${PROJECT_BINARY_DIR}/lib)
      file(CREATE_LINK ${wheels} ${PROJECT_BINARY_DIR}/lib SYMBOLIC)
    endif()
  endif()
endforeach()

set_source_files_properties(${PROJECT_SOURCE_DIR}/src/device/cuda_absent.cpp ${PROJECT_SOURCE_DIR}/src/kernels/cuda_absent.cpp
                            PROPERTIES HEADER_FILE_ONLY ON)
add_library(hone_cuda_runtime INTERFACE)
file(GLOB device CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/device/cuda/*.cpp)
target_sources(hone_device PRIVATE ${device})
target_link_libraries(hone_device PRIVATE hone_cuda_runtime)  # private: no room above sees CUDA's headers
file(GLOB kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/cuda/*.cu)
file(GLOB host CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/cuda/*.cpp)
add_library(hone_kernels_cuda STATIC ${kernels} ${host})
target_link_libraries(hone_kernels_cuda PUBLIC hone_kernels hone_cuda_runtime)
target_link_libraries(hone_kernels PRIVATE hone_kernels_cuda)  # whose table is one of its tables
target_include_directories(hone_kernels_cuda PRIVATE ${HONE_CUDA_WHEEL_INCLUDE})
set(sm90a 0)  # whether there is code for sm_90a: its kernels are empty in that of other architectures
if(cuda STREQUAL EMULATION OR CMAKE_CUDA_ARCHITECTURES MATCHES "90a")
  set(sm90a 1)
endif()
set_source_files_properties(${PROJECT_SOURCE_DIR}/src/kernels/cuda/hopper_path.cpp PROPERTIES COMPILE_DEFINITIONS HONE_CUDA_SM90A=${sm90a})
set_target_properties(hone_kernels_cuda PROPERTIES UNITY_BUILD OFF)
if(cuda STREQUAL EMULATION)
  find_package(OpenMP REQUIRED)  # the emulator alone has it
  file(GLOB emulator CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/emulation/cuda/*.cpp)
  add_library(hone_cuda_emulation STATIC ${emulator})
  set_target_properties(hone_cuda_emulation PROPERTIES UNITY_BUILD OFF)
  target_include_directories(hone_cuda_emulation PUBLIC ${PROJECT_SOURCE_DIR}/emulation/cuda/include PRIVATE ${PROJECT_SOURCE_DIR}/emulation/cuda)
  target_link_libraries(hone_cuda_emulation PRIVATE fmt::fmt OpenMP::OpenMP_CXX)
  # Every access of a kernel is a call into it, which reads thread-local variables.
  target_compile_options(hone_cuda_emulation PRIVATE $<$<CONFIG:Release>:-O3> -ftls-model=initial-exec)
  set_source_files_properties(${kernels} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${HONE_CUDA_EMULATION_FLAGS}")
  target_link_libraries(hone_cuda_runtime INTERFACE hone_cuda_emulation)
  target_link_libraries(hone_kernels_cuda PRIVATE hone_warnings)
else()
  target_link_libraries(hone_cuda_runtime INTERFACE CUDA::cudart_static)  # static: it loads the driver when it is first called
endif()
