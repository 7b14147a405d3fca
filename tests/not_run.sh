#!/bin/sh
# Names the tests that did not run, out of the list that they wrote themselves into. Fails where EXPRESSD_REQUIRE_MATERIAL is set and one of
# them lacked what set-up or the material has.
set -eu
list=$(sort -u "$1")
printf '%s\n' "$list"
printf '%s tests did not run\n' "$(printf '%s\n' "$list" | sed 's/ DID NOT RUN.*//' | sort -u | wc -l)"
if [ -n "${EXPRESSD_REQUIRE_MATERIAL:-}" ] && printf '%s\n' "$list" | grep -v -e 'this machine has' -e 'make setup-import' | grep -q .; then
    echo 'they have to run here (EXPRESSD_REQUIRE_MATERIAL)' >&2
    exit 1
fi
