"""Tests what tools/setup.sh installs and says on machines that lack something: each machine is a folder of programs,
which is its whole PATH, and a root of libraries. Its package manager, rustup and sudo write down how they are called,
and an installation puts there what the package would."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
# Programs that every system has.
BASE = ["sh", "sed", "env", "mktemp", "rm", "mkdir", "cat", "cp", "chmod", "ln", "touch", "dirname"]
BUILD = ["c++", "cmake", "make"]
TESTS = ["curl", "git", "ffmpeg", "ffprobe", "chromedriver", "python3"]
LIBCLANG = ["usr/lib/llvm-14/lib/libclang.so.1", "usr/lib/llvm-14/lib/clang/14.0.6/include/stddef.h"]
# Packages and the programs that they bring; files of the root begin with a slash.
PROVIDES = {
    "g++": "c++", "gcc-c++": "c++", "gcc": "c++", "cmake": "cmake", "ninja-build": "ninja", "ninja": "ninja",
    "libclang-dev": " ".join("/" + f for f in LIBCLANG), "clang-devel": "/usr/lib64/libclang.so.20 /usr/lib/clang/20/include/stddef.h",
    "clang": "clang /usr/lib/libclang.so", "clang-libclang": "/usr/lib/libclang.so.20",
    "clang-dev": "/usr/lib/llvm20/lib/clang/20/include/stddef.h", "curl": "curl", "python3": "python3", "git": "git",
    "ffmpeg": "ffmpeg ffprobe", "ffmpeg-free": "ffmpeg ffprobe", "chromium-driver": "chromedriver",
}
APT = "apt-get install -y --no-install-recommends "
RUST = "rustup-init -y --profile minimal --default-toolchain stable"

MANAGER = """#!/bin/sh
echo "${0##*/} $*" >> "$SIM/log"
case ${0##*/} in
    brew) [ "$SIM_UID" != 0 ] || exit 13 ;;
    *) [ "$SIM_UID" = 0 ] || [ -n "$SIM_SUDO" ] || exit 13 ;;
esac
case "$*" in update*) exit "$SIM_UPDATE" ;; esac
for word; do
    case " $SIM_ABSENT " in *" $word "*) echo "E: Package '$word' has no installation candidate" >&2; exit 100 ;; esac
done
for word; do
    for thing in $(sed -n "s,^$word = ,,p" "$SIM/provides"); do
        case $thing in
            /*) mkdir -p "$SIM/root${thing%/*}"; touch "$SIM/root$thing" ;;
            *) cp "$SIM/program" "$SIM/bin/$thing" ;;
        esac
    done
done
"""
CARGO = """#!/bin/sh
case "$1 $2" in
    "--version ") echo "cargo @ (83a7b 2025-01-01)" ;;
    "fmt --version" | "clippy --version") [ -e "$SIM/lints" ] ;;
    "metadata --no-deps") printf '{"packages":[],"target_directory":"%s","version":1}\\n' "${CARGO_TARGET_DIR:-$PWD/target}" ;;
    "build --release")
        folder=${CARGO_TARGET_DIR:-$PWD/target}/release
        mkdir -p "$folder"
        cp "$SIM/illava" "$folder/illava" ;;
esac
"""
# Program that the build makes: writes down how it is called.
ILLAVA = """#!/bin/sh
echo "${0%/illava} $*" >> "$SIM/log"
"""
# Script that https://sh.rustup.rs sends.
INSTALLER = """echo "rustup-init $*" >> "$SIM/log"
home=${CARGO_HOME:-$HOME/.cargo}
mkdir -p "$home/bin"
sed 's/@/1.95.0/' "$SIM/cargo" > "$home/bin/cargo"
cp "$SIM/rustup" "$home/bin/rustup"
chmod +x "$home/bin/cargo" "$home/bin/rustup"
"""
RUSTUP = """#!/bin/sh
echo "rustup $*" >> "$SIM/log"
[ -z "$SIM_OFFLINE" ] || { echo "error: could not download file" >&2; exit 1; }
case "$1" in
    toolchain) sed 's/@/1.95.0/' "$SIM/cargo" > "$(command -v cargo)" ;;
    component) touch "$SIM/lints" ;;
esac
"""
CURL = """#!/bin/sh
[ -z "$SIM_OFFLINE" ] || { echo "curl: (6) Could not resolve host: sh.rustup.rs" >&2; exit 6; }
while [ "$1" != -o ]; do shift; done
cp "$SIM/installer" "$2"
"""


class Machine:
    """A simulated machine; `programs` beside the base, `files` below the root, `rust` the version of cargo in its PATH."""

    def __init__(self, folder, system="Linux", programs=BUILD, files=LIBCLANG, rust="1.95.0", rustup=False, manager="apt-get",
                 uid=0, sudo=False, offline=False, absent="", update=0, lints=True, checkout="checkout"):
        self.folder, self.checkout = Path(folder), Path(folder) / checkout
        self.bin, self.root = self.folder / "bin", self.folder / "root"
        for place in (self.bin, self.root, self.checkout / "tools", self.folder / "home"):
            place.mkdir(parents=True)
        for name in BASE:
            self.bin.joinpath(name).symlink_to(shutil.which(name))
        self.write("program", "#!/bin/sh\n")
        self.write("cargo", CARGO)
        self.write("illava", ILLAVA)
        self.write("rustup", RUSTUP)
        self.write("installer", INSTALLER)
        self.write("provides", "".join(f"{package} = {things}\n" for package, things in PROVIDES.items()))
        for name in programs:
            self.write(f"bin/{name}", CURL if name == "curl" else "#!/bin/sh\n")
        # A package brings the same curl.
        if "curl" not in programs:
            self.write("program", CURL.replace("while", '[ "${0##*/}" = curl ] || exit 0\nwhile'))
        for name in ([manager] if manager else []):
            self.write(f"bin/{name}", MANAGER)
        self.write("bin/uname", f"#!/bin/sh\necho {system}\n")
        self.write("bin/id", f'#!/bin/sh\n[ "$1" = -u ] && echo {uid} || echo nobody-of-the-simulation\n')
        if rust:
            self.write("bin/cargo", CARGO.replace("@", rust))
        if rustup:
            self.write("bin/rustup", RUSTUP)
        if sudo:
            self.write("bin/sudo", '#!/bin/sh\necho "sudo" >> "$SIM/log"\nSIM_SUDO=1 exec "$@"\n')
        if lints:
            self.write("lints", "")
        for file in files:
            self.write(f"root/{file}", "")
        for name in ("setup.sh", "target.sh"):
            shutil.copy(TOOLS / name, self.checkout / "tools" / name)
        self.write(f"{checkout}/Cargo.toml", '[package]\nrust-version = "1.89"\n')
        self.env = {"PATH": str(self.bin), "HOME": str(self.folder / "home"), "SIM": str(self.folder), "SIM_UID": str(uid),
                    "SIM_SUDO": "", "SIM_OFFLINE": "1" if offline else "", "SIM_ABSENT": absent, "SIM_UPDATE": str(update),
                    "ILLAVA_SETUP_ROOT": str(self.root)}

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def demo(self, *arguments, **variables):
        """./demo called from the folder `elsewhere`, which has a photo.jpg; as `set_up`."""
        shutil.copy(TOOLS.parent / "demo", self.checkout / "demo")
        self.write("elsewhere/photo.jpg", "")
        run = subprocess.run([str(self.bin / "sh"), str(self.checkout / "demo"), *arguments], cwd=self.folder / "elsewhere",
                             env={**self.env, **variables}, capture_output=True, text=True)
        log = self.folder / "log"
        return run.returncode, log.read_text().splitlines() if log.exists() else [], run.stdout + run.stderr

    def set_up(self, tests=False, **variables):
        """The exit status, the commands of managers and rustup in order, and what was said."""
        env = {k: v for k, v in {**self.env, **variables}.items() if v is not None}
        script = f"set -eu; {'setup_tests=1;' if tests else ''} . tools/setup.sh; echo \"$target\" >&2"
        run = subprocess.run([str(self.bin / "sh"), "-c", script], cwd=self.checkout, env=env, capture_output=True, text=True)
        log = self.folder / "log"
        return run.returncode, log.read_text().splitlines() if log.exists() else [], run.stderr


CLANG_CPP = ["usr/lib/x86_64-linux-gnu/libclang-cpp.so.14", "usr/lib/llvm-14/lib/libclang-cpp.so.14"]
UPDATE = "apt-get update -qq"
# name, the machine, for the tests?, variables, status, commands, what is said
CASES = [
    ("nothing is missing", {}, False, {}, 0, [], []),
    ("a bare Debian", dict(programs=[], files=[], rust=""), False, {}, 0,
     [UPDATE, APT + "g++ cmake ninja-build libclang-dev curl ca-certificates", RUST], ["illava needs 1.89"]),
    ("a bare Debian, for the tests", dict(programs=[], files=[], rust="", lints=False), True, {}, 0,
     [UPDATE, APT + "g++ cmake ninja-build libclang-dev curl ca-certificates python3 python3-venv git ffmpeg", RUST,
      "rustup component add rustfmt clippy", APT + "chromium chromium-driver"], []),
    ("libclang-cpp is another library", dict(files=CLANG_CPP + LIBCLANG[1:]), False, {}, 0, [UPDATE, APT + "libclang-dev"], []),
    ("libclang1 comes without headers", dict(files=LIBCLANG[:1]), False, {}, 0, [UPDATE, APT + "libclang-dev"], []),
    ("a clang knows its headers", dict(files=LIBCLANG[:1], programs=[*BUILD, "clang"]), False, {}, 0, [], []),
    ("LIBCLANG_PATH holds none", {}, False, {"LIBCLANG_PATH": "/nowhere"}, 1, [UPDATE, APT + "libclang-dev"],
     ["LIBCLANG_PATH=/nowhere holds no libclang", "unset it"]),
    ("cargo 1.63, Debian 12's", dict(rust="1.63.0", programs=[*BUILD, "curl"]), False, {}, 0, [RUST], ["here is 1.63.0"]),
    ("cargo 1.85, Debian 13's, no curl", dict(rust="1.85.0"), False, {}, 0, [UPDATE, APT + "curl ca-certificates", RUST],
     ["here is 1.85.0"]),
    ("a stale rustup", dict(rust="1.80.0", rustup=True), False, {}, 0, ["rustup toolchain install stable --profile minimal"],
     ["here is 1.80.0"]),
    ("a stale rustup without network", dict(rust="1.80.0", rustup=True, offline=True), False, {}, 1,
     ["rustup toolchain install stable --profile minimal"], ["rustup could not fetch Rust 1.89"]),
    ("rustup out of reach", dict(rust="", programs=[*BUILD, "curl"], offline=True), False, {}, 1, [],
     ["https://sh.rustup.rs and https://static.rust-lang.org/rustup cannot be reached", "install Rust 1.89"]),
    ("no HOME", {}, False, {"HOME": None}, 0, [], []),
    ("CARGO_HOME elsewhere", dict(rust="", programs=[*BUILD, "curl"]), False, {"CARGO_HOME": "{folder}/else"}, 0, [RUST], []),
    ("cmake without make or ninja", dict(programs=["c++", "cmake"]), False, {}, 0, [UPDATE, APT + "ninja-build"], []),
    ("no git", dict(programs=BUILD + [p for p in TESTS if p != "git"]), True, {}, 0, [UPDATE, APT + "git"], []),
    ("no sudo", dict(programs=[], files=[], uid=1000), False, {}, 1, [],
     ["as root", "apt-get update && " + APT + "g++ cmake ninja-build libclang-dev"]),
    ("sudo", dict(programs=["c++", "make"], uid=1000, sudo=True), False, {}, 0,
     ["sudo", UPDATE, "sudo", APT + "cmake"], []),
    ("Ubuntu, where chromium is no package", dict(programs=BUILD + [p for p in TESTS if p not in ("chromedriver", "ffmpeg")],
     absent="chromium"), True, {}, 0, [UPDATE, APT + "ffmpeg", APT + "chromium chromium-driver"],
     ["the tests of the server's page will not run"]),
    ("no sudo, only the browser is missing", dict(programs=BUILD + [p for p in TESTS if p != "chromedriver"], uid=1000), True, {},
     0, [], ["the tests of the server's page will not run"]),
    ("a package that cannot be had", dict(programs=["c++", "make"], absent="cmake"), False, {}, 1, [UPDATE, APT + "cmake"],
     ["failed"]),
    ("a broken third-party source", dict(programs=["c++", "make"], update=100), False, {}, 0, [UPDATE, APT + "cmake"],
     ["going on with the lists"]),
    ("macOS without brew", dict(system="Darwin", programs=["c++", "make"], files=[], manager=""), False, {}, 1, [],
     ["missing: cmake", "https://brew.sh"]),
    ("macOS with brew", dict(system="Darwin", programs=["c++", "make"], files=[], manager="brew", uid=501), False, {}, 0,
     ["brew install cmake"], []),
    ("macOS without a compiler", dict(system="Darwin", programs=[], files=[], manager="brew", uid=501), False, {}, 1, [],
     ["xcode-select --install"]),
    ("dnf", dict(programs=[], files=[], manager="dnf"), False, {}, 0, ["dnf install -y gcc-c++ cmake ninja-build clang-devel"], []),
    ("pacman", dict(programs=[], files=[], manager="pacman"), False, {}, 0,
     ["pacman -Sy --noconfirm --needed gcc cmake ninja clang"], []),
    ("apk", dict(programs=[], files=["lib/ld-musl-x86_64.so.1"], manager="apk"), False, {}, 0,
     ["apk add g++ cmake ninja clang-dev clang-libclang"], []),
    ("zypper", dict(programs=[], files=[], manager="zypper"), False, {}, 0,
     ["zypper --non-interactive install --no-recommends gcc-c++ cmake ninja clang-devel"], []),
    ("no manager that is known", dict(programs=["c++", "make"], manager=""), False, {}, 1, [], ["missing: cmake;"]),
    ("a distribution's Rust without lints", dict(programs=BUILD + TESTS, lints=False), True, {}, 0,
     [UPDATE, APT + "rustfmt rust-clippy"], []),
    ("lints that nothing can install", dict(programs=BUILD + TESTS, lints=False, manager=""), True, {}, 1, [],
     ["rustfmt and clippy are missing"]),
    ("a folder that cannot be written", {}, False, {"CARGO_TARGET_DIR": "/proc/illava"}, 1, [],
     ["/proc/illava cannot be written", "CARGO_TARGET_DIR"]),
    ("a path with blanks and accents", dict(checkout="un dépôt à moi", programs=["c++", "make"]), False, {}, 0,
     [UPDATE, APT + "cmake"], ["un dépôt à moi/target"]),
    ("all fetched, no network", dict(offline=True), False, {"CARGO_NET_OFFLINE": "true"}, 0, [], []),
]


class Setup(unittest.TestCase):
    def test_machines(self):
        for name, machine, tests, variables, status, commands, said in CASES:
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                given = {k: v and v.replace("{folder}", folder) for k, v in variables.items()}
                found = Machine(folder, **machine).set_up(tests, **given)
                self.assertEqual((found[0], found[1]), (status, commands), found[2])
                for part in said:
                    self.assertIn(part, found[2])
                if not status and not said and not commands:
                    self.assertEqual(found[2].count("\n"), 1, f"silent but for the folder: {found[2]}")

    def test_a_second_run_installs_nothing(self):
        for manager in ("apt-get", "dnf", "pacman", "apk", "zypper"):
            with self.subTest(manager), tempfile.TemporaryDirectory() as folder:
                machine = Machine(folder, programs=[], files=[], manager=manager)
                self.assertEqual(machine.set_up()[0], 0)
                first = (machine.folder / "log").read_text()
                self.assertEqual(machine.set_up()[:2], (0, first.splitlines()))

    def test_the_build_goes_where_cargo_goes(self):
        with tempfile.TemporaryDirectory() as folder:
            status, _, said = Machine(folder).set_up(CARGO_TARGET_DIR=f"{folder}/elsewhere")
            self.assertEqual((status, said), (0, f"{folder}/elsewhere\n"))


class Demo(unittest.TestCase):
    def test_a_picture_and_a_target_folder_of_the_caller(self):
        with tempfile.TemporaryDirectory() as folder:
            status, calls, said = Machine(folder, checkout="un dépôt à moi").demo(
                "photo.jpg", "What is it?", CARGO_TARGET_DIR="built here")
            self.assertEqual(status, 0, said)
            program = f"{folder}/elsewhere/built here/release"
            asked = f"run -m models/demo/text.gguf -mm models/demo/mmproj.gguf --image {folder}/elsewhere/photo.jpg -p What is it?"
            self.assertEqual([call.split(" --temp")[0] for call in calls[:2]], [f"{program} {asked}"] * 2)
            self.assertTrue(calls[2].startswith(f"{program} bench -m models/demo/text.gguf"))
            self.assertIn("fixed costs", said)

    def test_words_it_cannot_use(self):
        for arguments, status, part in [(["--help"], 0, "usage: ./demo"), (["-x"], 2, "-x is no option"),
                                        (["a", "b", "c"], 2, "put the question in quotes"), (["none.png"], 1, "no such file")]:
            with self.subTest(arguments), tempfile.TemporaryDirectory() as folder:
                found = Machine(folder).demo(*arguments)
                self.assertEqual(found[:2], (status, []))
                self.assertIn(part, found[2])


if __name__ == "__main__":
    unittest.main()
