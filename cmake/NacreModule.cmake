# nacre_module(NAME x [CORE] SOURCES a.cpp... [DEPENDS y z] [LIBRARIES fmt::fmt] [TESTS a_test.cpp...] [FUZZ b_fuzz.cpp...])
#
# Makes the static library nacre_x (headers are included as "x/header.hpp"), its unit tests in one
# program nacre_x_test, and one program per FUZZ file: of libFuzzer under NACRE_FUZZ, else a test that runs some inputs
# (base/testing/fuzz_main.cpp). A CORE module is compiled a second
# time with the freestanding flags of the bare-metal build, so that a hosted include in it breaks
# the build at once; and it never touches vector registers, because the `soft` engine calls it
# while they hold the guest's values.
set(NACRE_WARNINGS -Wall -Wextra -Wconversion -Wshadow -Werror)
# clang's -mgeneral-regs-only takes `long double` away too, and then does not parse <span> or <optional>.
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  set(NACRE_GENERAL_REGISTERS -mno-mmx -mno-sse -mno-avx)
else()
  set(NACRE_GENERAL_REGISTERS -mgeneral-regs-only)
endif()
set(NACRE_CORE_FLAGS -fno-exceptions -fno-rtti ${NACRE_GENERAL_REGISTERS})
set(NACRE_FREESTANDING_FLAGS -ffreestanding -fno-exceptions -fno-rtti -mno-red-zone ${NACRE_GENERAL_REGISTERS}
    -fno-pie -mcmodel=kernel -fno-stack-protector -fno-threadsafe-statics)

function(nacre_module)
  cmake_parse_arguments(M "CORE" "NAME" "SOURCES;DEPENDS;LIBRARIES;TESTS;TEST_DEPENDS;FUZZ" ${ARGN})
  set(target nacre_${M_NAME})
  set(depends ${M_DEPENDS})
  list(TRANSFORM depends PREPEND nacre_)
  set(test_depends ${M_TEST_DEPENDS})
  list(TRANSFORM test_depends PREPEND nacre_)
  if(M_SOURCES)
    add_library(${target} STATIC ${M_SOURCES})
    set(scope PUBLIC)
    target_compile_options(${target} PRIVATE ${NACRE_WARNINGS})
    if(M_CORE)
      target_compile_options(${target} PRIVATE ${NACRE_CORE_FLAGS})
    endif()
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(${target} ${scope} ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(${target} ${scope} ${depends} ${M_LIBRARIES})

  if(M_CORE AND M_SOURCES AND NACRE_FREESTANDING)
    add_library(${target}_freestanding STATIC ${M_SOURCES})
    target_include_directories(${target}_freestanding PRIVATE ${CMAKE_SOURCE_DIR}/src)
    # The sanitizers of a preset are for the hosted build; the freestanding one has no runtime for them.
    target_compile_options(${target}_freestanding PRIVATE ${NACRE_WARNINGS} ${NACRE_FREESTANDING_FLAGS}
                           -fno-sanitize=all)
  endif()

  if(NACRE_TESTS AND M_TESTS)
    add_executable(${target}_test ${M_TESTS})
    target_compile_options(${target}_test PRIVATE ${NACRE_WARNINGS})
    target_link_libraries(${target}_test PRIVATE ${target} ${test_depends} GTest::gtest_main GTest::gmock)
    gtest_discover_tests(${target}_test TEST_PREFIX ${M_NAME}. DISCOVERY_TIMEOUT 60)
  endif()
  foreach(source ${M_FUZZ})
    get_filename_component(fuzz ${source} NAME_WE)
    # A few small inputs that are worth starting from, in a folder beside it.
    set(seeds ${CMAKE_CURRENT_SOURCE_DIR}/${source})
    string(REGEX REPLACE "\\.cpp$" "_seeds" seeds ${seeds})
    if(NOT EXISTS ${seeds})
      set(seeds)
    endif()
    if(NACRE_FUZZ)
      add_executable(${fuzz} ${source})
      target_compile_options(${fuzz} PRIVATE -fsanitize=fuzzer)
      target_link_options(${fuzz} PRIVATE -fsanitize=fuzzer)
      add_test(NAME fuzz.${fuzz} COMMAND ${CMAKE_SOURCE_DIR}/scripts/fuzz $<TARGET_FILE:${fuzz}> ${seeds})
      set_tests_properties(fuzz.${fuzz} PROPERTIES TIMEOUT 7200)
    elseif(NACRE_TESTS)
      add_executable(${fuzz} ${source} ${CMAKE_SOURCE_DIR}/src/base/testing/fuzz_main.cpp)
      add_test(NAME fuzz.${fuzz} COMMAND ${fuzz} ${seeds})
      set_tests_properties(fuzz.${fuzz} PROPERTIES TIMEOUT 600)
    else()
      continue()
    endif()
    target_compile_options(${fuzz} PRIVATE ${NACRE_WARNINGS})
    target_link_libraries(${fuzz} PRIVATE ${target} ${test_depends})
  endforeach()
endfunction()
