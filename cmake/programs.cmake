# The one program, `hone`.
if(EXISTS ${PROJECT_SOURCE_DIR}/src/cli/main.cpp)
  add_executable(hone ${PROJECT_SOURCE_DIR}/src/cli/main.cpp)
  target_link_libraries(hone PRIVATE hone_cli hone_warnings)
endif()
