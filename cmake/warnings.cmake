add_library(hone_warnings INTERFACE)
target_compile_options(hone_warnings INTERFACE -Wall -Wextra -Wshadow -Wconversion)
# GCC 12 takes std::string and fmt for overflowing buffers when it inlines them (GCC bugs 105329, 105651).
target_compile_options(hone_warnings INTERFACE -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds)
# A file that is compiled together with others is taken for a header there, whose types must not hold those of one file.
target_compile_options(hone_warnings INTERFACE $<$<BOOL:$<TARGET_PROPERTY:UNITY_BUILD>>:-Wno-subobject-linkage>)
if(HONE_WERROR)
  target_compile_options(hone_warnings INTERFACE -Werror)
endif()
if(HONE_SANITIZE)
  add_compile_options(-fsanitize=${HONE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${HONE_SANITIZE})
endif()
