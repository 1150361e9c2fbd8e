# The library as others link it: every layer in one archive, the public headers, and find_package(sinopia).
include(CMakePackageConfigHelpers)

add_library(sinopia STATIC)
foreach(layer IN LISTS SINOPIA_LAYERS)
  get_property(packages GLOBAL PROPERTY SINOPIA_PACKAGES_${layer})
  target_sources(sinopia PRIVATE $<TARGET_OBJECTS:sinopia_${layer}>)
  target_link_libraries(sinopia PRIVATE ${packages})
endforeach()
get_property(packages GLOBAL PROPERTY SINOPIA_PACKAGES_sinopia_gpu)
target_sources(sinopia PRIVATE $<TARGET_OBJECTS:sinopia_gpu>)
target_link_libraries(sinopia PRIVATE ${packages})
set_target_properties(sinopia PROPERTIES LINKER_LANGUAGE CXX)
target_compile_features(sinopia PUBLIC cxx_std_20)
target_include_directories(sinopia PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                          $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(sinopia PUBLIC fmt::fmt Threads::Threads)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/sinopia)
install(TARGETS sinopia EXPORT sinopiaTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT sinopiaTargets NAMESPACE sinopia:: DESTINATION ${package_folder})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/sinopia/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/sinopia
        FILES_MATCHING PATTERN "*.h" PATTERN "backend/cpu" EXCLUDE PATTERN "backend/cuda" EXCLUDE)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/sinopiaConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/sinopiaConfig.cmake INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/sinopiaConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/sinopiaConfig.cmake ${PROJECT_BINARY_DIR}/sinopiaConfigVersion.cmake
        DESTINATION ${package_folder})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
