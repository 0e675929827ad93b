# Checks for every target of this directory and below: a library without them hides what its callers do.
include_guard(DIRECTORY)
set(ILLAVA_SANITIZE "" CACHE STRING "sanitizers, as -fsanitize= takes them")
if (ILLAVA_SANITIZE)
    # Not enum: upstream's GGUF reader loads an enum from the file and checks its range afterwards.
    add_compile_options(-fsanitize=${ILLAVA_SANITIZE} -fno-sanitize=enum -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
    add_link_options(-fsanitize=${ILLAVA_SANITIZE})
endif()
