# The flags of the CPU kernels: src/kernels/cpu/ISA/*.cpp is compiled for that instruction set, everything else for the
# baseline. No contraction: a * b + c must round alike in every kernel that says so, whatever surrounds it. GCC 12 takes its
# own intrinsics' "any value will do" for a use of an uninitialised variable.
set(HONE_ISA_FLAGS -ffp-contract=off -Wno-uninitialized -Wno-maybe-uninitialized)
set(HONE_ISA_FLAGS_avx2 -mavx2 -mfma)
set(HONE_ISA_FLAGS_avx512 ${HONE_ISA_FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl)
set(HONE_ISA_FLAGS_avx512_bf16 ${HONE_ISA_FLAGS_avx512} -mavx512bf16)
set(HONE_ISA_FLAGS_avx512_amx ${HONE_ISA_FLAGS_avx512_bf16} -mamx-tile -mamx-bf16)
foreach(isa avx2 avx512 avx512_bf16 avx512_amx)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/cpu/${isa}/*.cpp)
  set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "${HONE_ISA_FLAGS_${isa}};${HONE_ISA_FLAGS}")
endforeach()
