#!/bin/sh
# Prints the tests that did not run, from the list that they append to. Fails if
# EXPRESSD_REQUIRE_MATERIAL is set and a test lacked something that set-up or the material has.
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
