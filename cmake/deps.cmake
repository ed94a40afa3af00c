# All dependencies are system packages (scripts/setup.sh installs them by name); configuring never needs the network.
find_package(fmt REQUIRED)             # messages
find_package(Threads REQUIRED)         # base/team.h
find_package(nlohmann_json REQUIRED)   # config.json, tokenizer.json, JSONL
find_package(yaml-cpp REQUIRED)        # recipes
find_package(CLI11 REQUIRED)           # command line
find_package(ZLIB REQUIRED)            # .jsonl.gz
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)    # pre-tokeniser regexes
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)  # Unicode normal forms
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)          # .jsonl.zst
add_library(PCRE2::8BIT ALIAS PkgConfig::PCRE2)
add_library(utf8proc::utf8proc ALIAS PkgConfig::UTF8PROC)
add_library(zstd::zstd ALIAS PkgConfig::ZSTD)

# Parquet, where Apache Arrow's C++ libraries are: a system package, or the headers and libraries of the pyarrow wheel that
# `scripts/setup.sh --parquet` unpacks. Without them a .parquet file is an error that says so.
set(HONE_PARQUET AUTO CACHE STRING "Read Parquet: ON, OFF, or AUTO, where Apache Arrow is found")
set_property(CACHE HONE_PARQUET PROPERTY STRINGS AUTO ON OFF)
set(HONE_PARQUET_ROOT ${PROJECT_SOURCE_DIR}/build/parquet/pyarrow CACHE PATH "A pyarrow wheel, unpacked")
add_library(hone_parquet INTERFACE)
set(HONE_HAS_PARQUET OFF)
if(NOT HONE_PARQUET STREQUAL "OFF")
  find_package(Parquet CONFIG QUIET)
  file(GLOB arrow_library ${HONE_PARQUET_ROOT}/libarrow.so.*)
  file(GLOB parquet_library ${HONE_PARQUET_ROOT}/libparquet.so.*)
  if(Parquet_FOUND)
    target_link_libraries(hone_parquet INTERFACE Parquet::parquet_shared Arrow::arrow_shared)
    set(HONE_HAS_PARQUET ON)
  elseif(arrow_library AND parquet_library)
    foreach(name arrow parquet)
      add_library(hone_${name}_wheel SHARED IMPORTED)
      set_target_properties(hone_${name}_wheel PROPERTIES IMPORTED_LOCATION ${${name}_library} IMPORTED_NO_SONAME OFF
                            INTERFACE_INCLUDE_DIRECTORIES ${HONE_PARQUET_ROOT}/include)
      target_link_libraries(hone_parquet INTERFACE hone_${name}_wheel)
    endforeach()
    set(HONE_HAS_PARQUET ON)
  elseif(HONE_PARQUET STREQUAL "ON")
    message(FATAL_ERROR "HONE_PARQUET is ON, but there is no Apache Arrow: run scripts/setup.sh --parquet")
  endif()
endif()
