# What is built from the rooms: the program `hone`, the library libhone with its one public header, and the example.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

add_executable(hone ${PROJECT_SOURCE_DIR}/src/cli/main.cpp)
target_link_libraries(hone PRIVATE hone_cli hone_warnings)

# Shared, so that a user of the library needs none of its dependencies' headers.
file(GLOB library_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/library/*.cpp)
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/rooms/library)
file(CREATE_LINK ${PROJECT_SOURCE_DIR}/src/library ${PROJECT_BINARY_DIR}/rooms/library/library SYMBOLIC)
add_library(hone_library SHARED ${library_sources})
add_library(hone::hone ALIAS hone_library)
set_target_properties(hone_library PROPERTIES OUTPUT_NAME hone EXPORT_NAME hone VERSION ${PROJECT_VERSION} SOVERSION 0)
target_include_directories(hone_library PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
target_include_directories(hone_library PRIVATE ${PROJECT_BINARY_DIR}/rooms/library)
target_compile_features(hone_library PUBLIC cxx_std_20)
# BUILD_INTERFACE: the rooms are inside the shared object, an installed package does not name them.
target_link_libraries(hone_library PRIVATE $<BUILD_INTERFACE:hone_train> $<BUILD_INTERFACE:hone_warnings>)

target_link_options(hone_library PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/hone.map)
set_target_properties(hone_library PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/hone.map)

add_executable(fine_tune ${PROJECT_SOURCE_DIR}/examples/fine_tune.cpp)
target_link_libraries(fine_tune PRIVATE hone::hone $<BUILD_INTERFACE:hone_warnings>)
add_executable(train_run ${PROJECT_SOURCE_DIR}/examples/train_run.cpp)
target_link_libraries(train_run PRIVATE hone::hone $<BUILD_INTERFACE:hone_warnings>)

install(TARGETS hone RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS hone_library EXPORT honeTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${PROJECT_SOURCE_DIR}/include/hone/hone.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/hone)
install(EXPORT honeTargets NAMESPACE hone:: FILE honeConfig.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/hone)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/honeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/honeConfigVersion.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/hone)
