"""Compiles the score's kernels for one card with NVRTC: cuda_rtc.py ARCH NVRTC_LIB KERNELS INCLUDE..."""

import ctypes
import glob
import os
import sys

# Declarations that the kernels take from the headers of ggml-cuda, which NVRTC cannot read: they include the host's.
PRELUDE = """
#include <cuda_fp16.h>
#define GGML_UNUSED(x) (void) (x)
#define NO_DEVICE_CODE
#include "illava-score-mma.cuh"
#include "illava-score-scalar.cuh"
"""

KERNELS = (
    [f"score_scalar<score_pass::{p}>" for p in ("rows", "columns")]
    + [f"score_pack<score_type::{t}>" for t in ("f32", "f16", "bf16", "q8_0", "q4_0")]
    + ["score_reduce", "score_mma<score_pass::rows, 128, 2>"]
)


def main() -> int:
    arch, library, kernels, *includes = sys.argv[1:]
    # The compiler opens its builtins by name.
    for builtins in glob.glob(os.path.join(library, "libnvrtc-builtins.so*")):
        ctypes.CDLL(builtins, mode=ctypes.RTLD_GLOBAL)
    nvrtc = ctypes.CDLL(glob.glob(os.path.join(library, "libnvrtc.so*"))[0])

    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), PRELUDE.encode(), b"kernels.cu", 0, None, None)
    for kernel in KERNELS:
        nvrtc.nvrtcAddNameExpression(program, kernel.encode())
    options = [f"--gpu-architecture={arch}", "--std=c++17", "--use_fast_math", f"-I{kernels}"] + [f"-I{i}" for i in includes]
    result = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*[o.encode() for o in options]))

    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if result != 0:
        print(log.value.decode(), file=sys.stderr)
        return 1

    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    cubin = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, cubin)
    for kernel in KERNELS:
        name = ctypes.c_char_p()
        if nvrtc.nvrtcGetLoweredName(program, kernel.encode(), ctypes.byref(name)) != 0 or name.value not in cubin.raw:
            print(f"cuda_rtc: {kernel} is not in the code for {arch}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
