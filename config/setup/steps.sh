# Functions that run a step of set-up and print a line about it. setup.sh and pocketsphinx.sh source
# this file and set $deps before. The output of a step's commands goes to a log; a failed step
# prints the log's path and last lines.

log=$deps/setup.log

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

# step LABEL COMMAND...: runs the command and returns its exit status. A terminal shows the elapsed
# seconds.
step() {
    label=$1
    shift
    mkdir -p "$deps"
    printf '\n== %s: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" >>"$log"
    # Size of the log before this step, in bytes.
    logged=$(wc -c <"$log")
    begun=$(date +%s)
    ticking=
    if [ -t 1 ]; then
        (
            # The loop runs until the step ends or the whole set-up is gone.
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
