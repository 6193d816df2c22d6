#!/usr/bin/env bash
# Runs each fuzzer of the repository for some time: every parser of bytes that come from strangers
# (disk images and kernels, compressed files, lists of digests, servers' headers, guests' packets,
# requests and archives, QEMU's answers, clients' messages, states). They are the tests in modules
# that are called fuzz; `make test` runs the same for 20 seconds each. What a fuzzer finds, it shrinks,
# prints, and writes to a file (proptest-regressions): keep that with the repair.
#
# Usage: scripts/fuzz.sh [FILTER]     only fuzzers whose name contains FILTER
#
# Environment: WEFT_FUZZ_SECONDS   for each fuzzer (default: 600); one runs on each processor
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-} in
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d'
        exit 0
        ;;
esac
export WEFT_FUZZ_SECONDS=${WEFT_FUZZ_SECONDS:-600}
cd "$WEFT_ROOT"
use_rust

step "building the fuzzers"
# Who has fuzzers says so in its dependencies.
selection=()
for package in $(grep -rl --include=Cargo.toml '^weft-fuzz.workspace' --exclude-dir=target . |
    xargs sed -n 's/^name = "\(.*\)"/\1/p'); do
    selection+=(-p "$package")
done
# One line for each test binary: the directory of its package, and its path.
binaries=$(cargo test --locked --no-run --lib --bins --tests "${selection[@]}" --message-format=json |
    python3 -c '
import json, os, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message.get("profile", {}).get("test"):
        print(os.path.dirname(message["manifest_path"]), message["executable"])' | sort -u)

LOGS=$(mktemp -d /tmp/weft-fuzz-XXXXXX)
trap 'rm -rf "$LOGS"' EXIT
export LOGS
fuzzers=$(while read -r directory binary; do
    "$binary" --list 2>/dev/null | sed -n 's/: test$//p' | grep -E '(^|::)fuzz::' |
        grep -F -- "${1:-}" | sed "s|^|$directory $binary |" || true
done <<<"$binaries")
[ -n "$fuzzers" ] || die "no fuzzer has ${1:-such a name} in its name"

step "fuzzing: $(wc -l <<<"$fuzzers") fuzzers, $WEFT_FUZZ_SECONDS s each, $(nproc) at a time"
one() {
    local directory=$1 binary=$2 name=$3 log
    log=$(mktemp "$LOGS/XXXXXX")
    cd "$directory"
    if "$binary" --exact "$name" --test-threads=1 --nocapture >"$log" 2>&1; then
        echo "$(basename "$directory") $name: $(grep -oE '[0-9]+ cases in [0-9]+ s' "$log" || echo 'good input is good')"
    else
        cat "$log"
        echo "FOUND $(basename "$directory") $name"
        touch "$LOGS/found.$(basename "$log")"
    fi
}
export -f one
xargs -P "$(nproc)" -L 1 bash -c 'one "$@"' one <<<"$fuzzers"
found=$(find "$LOGS" -name 'found.*' | wc -l)
say "$(wc -l <<<"$fuzzers") fuzzers, $found have found something"
[ "$found" = 0 ]
