# Sourced by ./demo and ./test: puts in place what a bare Debian, Ubuntu or macOS lacks to build illava.
# Only what is missing is installed, and each step is named before it runs. Whoever runs tests sets setup_tests=1 first:
# Python comes with them. (A sourced file gets no arguments of its own in every shell.)

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "setup: '$*' needs root: run it yourself, then start again" >&2
        return 1
    fi
}

# The library itself, not a program: bindgen opens it at build time.
have_libclang() {
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    for library in /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so*; do
        [ ! -e "$library" ] || return 0
    done
    return 1
}

setup_debian() {
    missing=
    command -v c++   >/dev/null || missing="$missing g++"
    command -v cmake >/dev/null || missing="$missing cmake"
    command -v make  >/dev/null || command -v ninja >/dev/null || missing="$missing ninja-build"
    command -v curl  >/dev/null || missing="$missing curl ca-certificates"
    have_libclang               || missing="$missing libclang-dev"
    if [ -n "${setup_tests:-}" ] && ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
        missing="$missing python3 python3-venv"
    fi
    # For the tests of video files; without it they say that they were skipped.
    if [ -n "${setup_tests:-}" ] && ! command -v ffprobe >/dev/null; then
        missing="$missing ffmpeg"
    fi
    # The tests of the server's page open it in a browser.
    if [ -n "${setup_tests:-}" ] && ! command -v chromedriver >/dev/null; then
        missing="$missing chromium chromium-driver"
    fi
    if [ -n "$missing" ]; then
        echo "setup: apt-get install$missing" >&2
        as_root apt-get update -qq
        # word splitting is wanted: $missing is a list of packages
        # shellcheck disable=SC2086
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    fi
}

setup_macos() {
    if ! xcode-select -p >/dev/null 2>&1; then
        echo "setup: the compiler is missing: run 'xcode-select --install', then start again" >&2
        return 1
    fi
    if ! command -v cmake >/dev/null; then
        echo "setup: brew install cmake" >&2
        brew install cmake
    fi
    if [ -n "${setup_tests:-}" ] && ! command -v ffprobe >/dev/null; then
        echo "setup: brew install ffmpeg" >&2
        brew install ffmpeg
    fi
}

setup_rust() {
    [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
    if ! command -v cargo >/dev/null; then
        echo "setup: installing Rust with rustup" >&2
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal >&2
        . "$HOME/.cargo/env"
    fi
}

case $(uname -s) in
    Linux)
        if command -v apt-get >/dev/null; then
            setup_debian
        else
            echo "setup: no apt-get here: a C++ compiler, cmake, libclang and python3 must be installed already" >&2
        fi ;;
    Darwin) setup_macos ;;
esac
setup_rust
