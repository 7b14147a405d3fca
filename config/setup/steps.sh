# Steps of set-up, one line each; for setup.sh and pocketsphinx.sh, which source it. Needs $deps.
# What a step's commands print goes into a log, which is named where one fails.

log=$deps/setup.log

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

# step LABEL COMMAND...: on a terminal the seconds are counted while it runs. Fails as the command does.
step() {
    label=$1
    shift
    mkdir -p "$deps"
    printf '\n== %s: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" >>"$log"
    # Bytes before what this step prints.
    logged=$(wc -c <"$log")
    begun=$(date +%s)
    ticking=
    if [ -t 1 ]; then
        (
            # Until the step, or all of set-up, ends.
            while kill -0 $$ 2>/dev/null; do
                printf '\rsetup: %s … %s s' "$label" "$(($(date +%s) - begun))"
                sleep 1
            done
        ) &
        ticking=$!
    else
        say "$label …"
    fi
    status=0
    "$@" >>"$log" 2>&1 || status=$?
    if [ -n "$ticking" ]; then
        kill "$ticking" 2>/dev/null || true
        wait "$ticking" 2>/dev/null || true
        printf '\r\033[K'
    fi
    if [ "$status" -ne 0 ]; then
        tail -c "+$((logged + 1))" "$log" | tail -n 12 | sed 's/^/    /' >&2
        printf 'setup: %s: failed; everything that it printed is in %s\n' "$label" "$log" >&2
        return "$status"
    fi
    say "$label: done in $(($(date +%s) - begun)) s"
}
