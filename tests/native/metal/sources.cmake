# What test-metal-score is made of besides itself: upstream's encoding of graphs (C++, but written for
# Apple's compiler), our dispatch, the kernels' source and the emulated device.
set(metal "${ILLAVA_SOURCE}/ggml/src/ggml-metal")
set(upstream
    "${metal}/ggml-metal-common.cpp"
    "${metal}/ggml-metal-device.cpp"
    "${metal}/ggml-metal-fusion.cpp"
    "${metal}/ggml-metal-ops.cpp"
    "${metal}/ggml-metal-tuning.cpp")
set_source_files_properties(${upstream} PROPERTIES COMPILE_OPTIONS "-w")

set(kernels "${CMAKE_CURRENT_SOURCE_DIR}/metal/attn_score.cpp")
set_source_files_properties("${kernels}" PROPERTIES
    COMPILE_OPTIONS "-Wno-attributes;-Wno-unknown-pragmas"
    OBJECT_DEPENDS "${metal}/kernels/attn_score.metal")
set(kernel_directory "${metal}/kernels")
if (CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    # Only Apple's Clang takes an attribute list there.
    set(kernel_directory "${CMAKE_CURRENT_BINARY_DIR}/kernels")
    file(READ "${metal}/kernels/attn_score.metal" source)
    string(REGEX REPLACE "\\[\\[host_name[^]]*\\]\\]" "" source "${source}")
    file(CONFIGURE OUTPUT "${kernel_directory}/attn_score.metal" CONTENT "${source}" @ONLY)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${metal}/kernels/attn_score.metal")
endif()

target_sources(test-metal-score PRIVATE
    ${upstream}
    "${metal}/illava-score-metal.cpp"
    "${kernels}"
    "${CMAKE_CURRENT_SOURCE_DIR}/metal/device.cpp"
    "${CMAKE_CURRENT_SOURCE_DIR}/metal/threadgroup.cpp")
target_include_directories(test-metal-score BEFORE PRIVATE
    "${CMAKE_CURRENT_SOURCE_DIR}" "${CMAKE_CURRENT_SOURCE_DIR}/metal" "${kernel_directory}" "${metal}" "${metal}/kernels")

# Address spaces are words to a C++ compiler; Clang knows them from OpenCL.
find_program(ILLAVA_CLANG clang)
set(knows_address_spaces 1)
if (ILLAVA_CLANG)
    execute_process(COMMAND "${ILLAVA_CLANG}" -x cl -cl-std=clc++2021 -target spir64 -fsyntax-only /dev/null
        RESULT_VARIABLE knows_address_spaces OUTPUT_QUIET ERROR_QUIET)
endif()
if (knows_address_spaces EQUAL 0)
    add_test(NAME metal-address-spaces
        COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/metal/check-address-spaces.sh" "${ILLAVA_CLANG}" "${metal}")
else()
    message(STATUS "the Metal kernels' address spaces are not checked: no clang with C++ for OpenCL 2021 (14 or later)")
endif()
