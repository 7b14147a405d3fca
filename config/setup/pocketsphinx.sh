#!/bin/sh
# Fetches the source of PocketSphinx with its American English model and builds the library for
# `[speech] transcriber = "pocketsphinx"`. Needs a C compiler (as Rust does) and half a minute.
# Nothing else of the daemon is built from C.
#
#   pocketsphinx.sh DEPS     (the folder for .deps/pocketsphinx)
#
# Safe to run again. CC names a compiler other than cc.
set -eu

deps=$1
here=$(cd "$(dirname "$0")" && pwd)
name=pocketsphinx
version=5.1.1
sha256=675778b309a22dfc9b7d37f7621976bba491d2a5f8c59696bd77fd6d07271355
flags='-O3 -fPIC -w'
stamp="$name $version $sha256 $flags"

. "$here/steps.sh"

if [ "$(cat "$deps/$name/.stamp" 2>/dev/null || true)" = "$stamp" ]; then
    say "$name $version: in $deps/$name"
    exit 0
fi
cc=${CC:-cc}
command -v "$cc" >/dev/null 2>&1 ||
    fail "no C compiler ($cc) was found; as root, type:" "  apt-get install gcc libc6-dev"

work=$deps/$name.tmp
rm -rf "$work"
mkdir -p "$work" "$deps/wheels"
trap 'rm -rf "$work"' EXIT
source=$deps/wheels/$name-$version.tar.gz
if [ ! -f "$source" ]; then
    printf '%s==%s --hash=sha256:%s\n' "$name" "$version" "$sha256" >"$work/requirements.txt"
    step "$name $version: fetching (34 MB)" env \
        PYTHONPATH="$here/source_only" SOURCE_NAME=$name SOURCE_VERSION=$version \
        PYTHONDONTWRITEBYTECODE=1 \
        python3 -m pip download --disable-pip-version-check --quiet --no-deps \
        --no-binary :all: --no-build-isolation --require-hashes \
        -d "$work/fetched" -r "$work/requirements.txt" ||
        fail "$name $version could not be fetched; is the network up? (where the hash differs: the index serves another file; do not use it)"
    mv "$work/fetched/$name-$version.tar.gz" "$source"
fi
found=$(sha256sum "$source" | cut -d' ' -f1)
if [ "$found" != "$sha256" ]; then
    rm -f "$source"
    fail "$name $version: the fetched file is not the pinned one, and was removed" \
        "  expected sha256 $sha256" \
        "  found    sha256 $found" \
        "try again"
fi
tar -xzf "$source" -C "$work"
tree=$work/$name-$version

# The results that CMake's checks have on 64-bit Linux, the only supported platform.
mkdir -p "$work/include/pocketsphinx" "$work/out"
cat >"$work/include/config.h" <<'CONFIG'
#define DEFAULT_RADIX 12
#define HAVE_LONG_LONG
#define HAVE_POPEN
#define HAVE_SNPRINTF
#define HAVE_SYS_STAT_H
#define HAVE_SYS_TYPES_H
#define HAVE_UNISTD_H
#define HAVE_INTTYPES_H
#define HAVE_STDINT_H
#define SIZEOF_LONG 8
#define SIZEOF_LONG_LONG 8
#define PS_USE_THREAD_LOCAL_RNG
CONFIG
sed -e '/^#cmakedefine SIZEOF_LONG /c #define SIZEOF_LONG 8' \
    -e '/^#cmakedefine SIZEOF_LONG_LONG /c #define SIZEOF_LONG_LONG 8' \
    -e '/^#cmakedefine HAVE_/s/^#cmakedefine/#define/' \
    -e 's|^#cmakedefine \(.*\)$|/* #undef \1 */|' \
    "$tree/sphinx_config.h.in" >"$work/include/pocketsphinx/sphinx_config.h"

# The source files that PocketSphinx's CMakeLists.txt names, one a line.
sources=$(sed -n -e '/^add_library(pocketsphinx/,/^ *)/s|^ *\([a-z0-9_/]*\.c\)$|\1|p' \
    "$tree/src/CMakeLists.txt")
[ "$(printf '%s\n' "$sources" | wc -l)" -gt 60 ] ||
    fail "$name $version: its list of sources is not as expected"
compile() (
    cd "$tree/src"
    # shellcheck disable=SC2086 # several flags, many files
    printf '%s\n' $sources | xargs -P "$(nproc)" -I{} sh -c '
        cc=$1 object=$2/$(printf %s "$3" | tr / _).o file=$3
        shift 3
        exec "$cc" "$@" -c "$file" -o "$object"' sh \
        "$cc" "$work/out" {} $flags \
        -DHAVE_CONFIG_H -DPOCKETSPHINX_EXPORTS -DSPHINXBASE_EXPORTS \
        -I"$work/include" -I. -I"$tree/include"
)
step "$name $version: compiling" compile || fail "$name $version: the compiler failed"
mkdir "$work/ready"
"$cc" -shared -Wl,-soname,libpocketsphinx.so.5 -Wl,--no-undefined \
    -o "$work/ready/libpocketsphinx.so" "$work"/out/*.o -lm ||
    fail "$name $version: the library could not be linked"
cp -R "$tree/model/en-us" "$tree/LICENSE" "$work/ready/"
rm -f "$work/ready/en-us/en-us-phone.lm.bin"
printf '%s\n' "$stamp" >"$work/ready/.stamp"
rm -rf "${deps:?}/$name"
mv "$work/ready" "$deps/$name"
say "$name $version: built into $deps/$name"
