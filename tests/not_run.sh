#!/bin/sh
# Prints the tests that did not run, from the file to which they append their names. Fails if
# EXPRESSD_REQUIRE_MATERIAL is set and a test lacked something that set-up or the material provides.
# The argument is the file.
set -eu
list=$(sort -u "$1")
printf '%s\n' "$list"
count=$(printf '%s\n' "$list" | sed 's/ DID NOT RUN.*//' | sort -u | wc -l)
printf '%s tests did not run\n' "$count"
if [ -n "${EXPRESSD_REQUIRE_MATERIAL:-}" ] &&
    printf '%s\n' "$list" |
    grep -v -e 'this machine has' -e 'make setup-import' | grep -q .; then
    echo 'they have to run here (EXPRESSD_REQUIRE_MATERIAL)' >&2
    exit 1
fi
