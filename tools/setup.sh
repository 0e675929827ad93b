# Sourced by ./demo and ./test, in the checkout's folder: puts in place what a machine lacks to build illava, and sets
# $target, the folder that cargo builds into. Installs only what is missing and names each command before it runs.
# ./test sets setup_tests=1 first: Python, git, ffmpeg, a browser and Rust's formatter and linter come with the tests.
# ./demo --real sets setup_python=1: Python alone.
# tools/test_setup.py runs this file on simulated machines; ILLAVA_SETUP_ROOT is the root of their libraries.

say() { echo "setup: $*" >&2; }

stop() {
    say "$*"
    exit 1
}

# Whether version $1 (1.85.0) is at least $2 (1.89).
at_least() {
    [ -n "$1" ] || return 1
    rest=${1#*.}
    [ "${1%%.*}" -gt "${2%%.*}" ] || { [ "${1%%.*}" = "${2%%.*}" ] && [ "${rest%%.*}" -ge "${2#*.}" ]; }
}

# --- what is missing ---

# Whether bindgen will find a libclang that it can open, beside clang's own headers (stddef.h). The names and folders
# are those of the crate clang-sys, which passes over libclang-cpp, another library.
have_libclang() {
    prefix=${ILLAVA_SETUP_ROOT:-}
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        set -- "$LIBCLANG_PATH" "$LIBCLANG_PATH"/libclang*
    else
        set -- "$prefix"/usr/local/llvm*/lib*/libclang* "$prefix"/usr/local/lib*/libclang* \
            "$prefix"/usr/local/lib*/*/libclang* "$prefix"/usr/lib*/libclang* "$prefix"/usr/lib*/*/libclang* \
            "$prefix"/usr/lib*/*/lib/libclang*
        if command -v llvm-config >/dev/null; then
            set -- "$@" "$(llvm-config --prefix)"/lib*/libclang*
        fi
    fi
    for library; do
        case ${library##*/} in
            libclang-cpp*) continue ;;
            libclang.so* | libclang-*.so*) ;;
            *) continue ;;
        esac
        [ -f "$library" ] || continue
        # A folder given for these headers, or a clang that knows its own.
        [ -z "${BINDGEN_EXTRA_CLANG_ARGS:-}" ] && ! command -v clang >/dev/null || return 0
        folder=${library%/*}
        for header in "$folder"/clang/*/include/stddef.h "$folder"/../lib/clang/*/include/stddef.h \
            "$prefix"/usr/lib*/clang/*/include/stddef.h "$prefix"/usr/lib/llvm*/lib/clang/*/include/stddef.h; do
            [ ! -f "$header" ] || return 0
        done
    done
    return 1
}

# Prints the version of the cargo that would be called here, or nothing.
cargo_version() { cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9][0-9.]*\).*/\1/p'; }

rust_ok() { at_least "$(cargo_version)" "$rust"; }

# Sets $needed, one word for each thing without which nothing goes on.
find_needed() {
    needed=
    command -v c++ >/dev/null || command -v "${CXX:-c++}" >/dev/null || needed="$needed compiler"
    command -v "${CMAKE:-cmake}" >/dev/null || needed="$needed cmake"
    command -v make >/dev/null || command -v ninja >/dev/null || needed="$needed ninja"
    # Apple's compiler brings its own.
    [ "$(uname -s)" = Darwin ] || have_libclang || needed="$needed libclang"
    if [ -n "${setup_tests:-}" ] || ! rust_ok && ! command -v rustup >/dev/null; then
        command -v curl >/dev/null || needed="$needed curl"
    fi
    if [ -n "${setup_tests:-}${setup_python:-}" ]; then
        python3 -c 'import venv, ensurepip' 2>/dev/null || needed="$needed python"
    fi
    [ -n "${setup_tests:-}" ] || return 0
    command -v git >/dev/null || needed="$needed git"
    command -v ffmpeg >/dev/null && command -v ffprobe >/dev/null || needed="$needed ffmpeg"
}

# --- packages ---

# Prints the packages of manager $1 for the need $2.
packages() {
    case $1:$2 in
        apt-get:compiler | apk:compiler) echo g++ ;;
        dnf:compiler | zypper:compiler) echo gcc-c++ ;;
        pacman:compiler) echo gcc ;;
        apt-get:ninja | dnf:ninja) echo ninja-build ;;
        apt-get:libclang) echo libclang-dev ;;
        dnf:libclang | zypper:libclang) echo clang-devel ;;
        pacman:libclang) echo clang ;;
        apk:libclang) echo clang-dev clang-libclang ;;
        apt-get:curl | apk:curl) echo curl ca-certificates ;;
        apt-get:python) echo python3 python3-venv ;;
        dnf:python | apk:python | zypper:python) echo python3 ;;
        dnf:ffmpeg) echo ffmpeg-free ;;
        apt-get:browser) echo chromium chromium-driver ;;
        dnf:browser | zypper:browser) echo chromium chromedriver ;;
        apk:browser) echo chromium chromium-chromedriver ;;
        pacman:browser) echo chromium ;;
        apt-get:lints) echo rustfmt rust-clippy ;;
        dnf:lints) echo rustfmt clippy ;;
        *:browser | *:lints) ;;
        *) echo "$2" ;;
    esac
}

manager_found() {
    case $(uname -s) in
        Linux) known="apt-get dnf pacman apk zypper" ;;
        Darwin) known=brew ;;
        *) known= ;;
    esac
    for manager in $known; do
        ! command -v "$manager" >/dev/null || return 0
    done
    manager=
    return 1
}

# Sets $command, the line that installs with $manager.
install_command() {
    case $manager in
        apt-get) command="apt-get install -y --no-install-recommends" ;;
        dnf) command="dnf install -y" ;;
        pacman) command="pacman -Sy --noconfirm --needed" ;;
        apk) command="apk add" ;;
        zypper) command="zypper --non-interactive install --no-recommends" ;;
        brew) command="brew install" ;;
    esac
}

# Sets $root_by to what a command is put behind to run as root; fails if there is no way. Homebrew wants no root.
find_root() {
    root_by=env
    [ "$manager" != brew ] && [ "$(id -u)" != 0 ] || return 0
    root_by="sudo env"
    command -v sudo >/dev/null
}

# Installs the packages given; fails as the manager does.
install_packages() {
    install_command
    say "$command $*"
    if [ "$manager" = apt-get ] && [ -z "${lists_fresh:-}" ]; then
        $root_by apt-get update -qq ||
            say "apt-get update failed for a source: going on with the lists that could be read"
        lists_fresh=1
    fi
    # Word splitting is wanted in both: they hold words that are options.
    # shellcheck disable=SC2086
    $root_by DEBIAN_FRONTEND=noninteractive $command "$@" >/dev/null
}

setup_packages() {
    find_needed
    if [ "$(uname -s)" = Darwin ]; then
        case $needed in
            *compiler*) stop "the compiler is missing: run 'xcode-select --install', then start again" ;;
        esac
    fi
    [ -n "$needed" ] || return 0
    if ! manager_found; then
        if [ "$(uname -s)" = Darwin ]; then
            stop "missing:$needed, and there is no Homebrew to install it: see https://brew.sh, then start again"
        fi
        stop "missing:$needed; no package manager known here (apt-get, dnf, pacman, apk, zypper): install it yourself, then start again"
    fi
    set --
    for need in $needed; do
        # shellcheck disable=SC2046
        set -- "$@" $(packages "$manager" "$need")
    done
    install_command
    if ! find_root; then
        line="$command $*"
        [ "$manager" != apt-get ] || line="apt-get update && $line"
        stop "missing:$needed; no sudo here: run this as root, then start again: $line"
    fi
    install_packages "$@" || stop "'$command $*' failed: see its message above"
    case $needed in
        *libclang*)
            [ -z "${LIBCLANG_PATH:-}" ] || have_libclang ||
                stop "LIBCLANG_PATH=$LIBCLANG_PATH holds no libclang with its headers: unset it or correct it, then start again" ;;
    esac
}

# The tests of the server's page open it in a browser; they are left out if none can be had.
setup_browser() {
    [ -n "${setup_tests:-}" ] && ! command -v chromedriver >/dev/null || return 0
    if manager_found && [ -n "$(packages "$manager" browser)" ] && find_root; then
        # shellcheck disable=SC2046
        install_packages $(packages "$manager" browser) && command -v chromedriver >/dev/null && return 0
    fi
    say "no Chromium with chromedriver could be installed: the tests of the server's page will not run"
}

# --- Rust ---

install_rust() {
    old=$(cargo_version)
    say "installing Rust with rustup (illava needs $rust${old:+, here is $old})"
    script=$(mktemp)
    # The same script at two addresses: some networks let only the second through, which has the toolchains too.
    mirror=${RUSTUP_UPDATE_ROOT:-https://static.rust-lang.org/rustup}
    if ! curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs -o "$script" &&
        ! curl --proto '=https' --tlsv1.2 -sSf "$mirror/rustup-init.sh" -o "$script"; then
        rm -f "$script"
        stop "https://sh.rustup.rs and $mirror cannot be reached: install Rust $rust or newer yourself (https://rustup.rs), then start again"
    fi
    # A distribution's older Rust may stay: ours comes first on the path.
    RUSTUP_INIT_SKIP_PATH_CHECK=yes sh "$script" -y --profile minimal --default-toolchain stable >&2 || {
        rm -f "$script"
        stop "rustup failed: see its message above"
    }
    rm -f "$script"
    PATH=$cargo_home/bin:$PATH
}

setup_rust() {
    rust=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    # Set nowhere in some containers and units; `~name` is what the system's list of users says.
    : "${HOME:=$(eval "echo ~$(id -un)")}"
    export HOME
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    if ! rust_ok && [ -x "$cargo_home/bin/cargo" ]; then
        PATH=$cargo_home/bin:$PATH
    fi
    # A static program cannot open libclang, and that is what rustup's Rust makes on a musl system.
    for loader in "${ILLAVA_SETUP_ROOT:-}"/lib/ld-musl-*; do
        [ ! -e "$loader" ] || export RUSTFLAGS="${RUSTFLAGS:--C target-feature=-crt-static}"
    done
    setup_packages
    if ! rust_ok; then
        if command -v rustup >/dev/null; then
            old=$(cargo_version)
            say "rustup toolchain install stable (illava needs Rust $rust${old:+, here is $old})"
            rustup toolchain install stable --profile minimal >&2 ||
                stop "rustup could not fetch Rust $rust: check the network, or install it yourself, then start again"
        else
            install_rust
        fi
        rust_ok || stop "cargo is $(cargo_version) after that, illava needs $rust: put a newer one first on the PATH"
    fi
    [ -n "${setup_tests:-}" ] || return 0
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        if command -v rustup >/dev/null; then
            say "rustup component add rustfmt clippy"
            rustup component add rustfmt clippy >&2 || stop "rustup could not fetch rustfmt and clippy: the tests need both"
        elif manager_found && [ -n "$(packages "$manager" lints)" ] && find_root; then
            # shellcheck disable=SC2046
            install_packages $(packages "$manager" lints) || stop "rustfmt and clippy could not be installed: the tests need both"
        else
            stop "rustfmt and clippy are missing: install both of Rust $(cargo_version), then start again"
        fi
    fi
}

# --- places of things ---

setup_target() {
    . tools/target.sh
    mkdir -p "$target" 2>/dev/null && [ -w "$target" ] ||
        stop "$target cannot be written: set CARGO_TARGET_DIR to a folder of yours, then start again"
}

setup_rust
setup_browser
setup_target
