# All dependencies are system packages (scripts/setup.sh installs them by name); configuring never needs the network.
find_package(fmt REQUIRED)             # messages
find_package(OpenMP REQUIRED)          # threads of the CPU kernels
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
