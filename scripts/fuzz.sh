#!/usr/bin/env bash
# Runs each fuzzer of the repository for some time: every parser of bytes that come from strangers
# (disk images and kernels, compressed files, lists of digests, guests' packets and reports, QEMU's
# answers). The tests run the same with a bounded number of cases. What a fuzzer finds, it shrinks,
# prints, and writes to a file beside the tests (proptest-regressions): keep that with the repair.
#
# Usage: scripts/fuzz.sh [FILTER]     only fuzzers whose name contains FILTER
#
# Environment: WEFT_FUZZ_SECONDS   for each fuzzer (default: 600)
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly SECONDS_EACH=${WEFT_FUZZ_SECONDS:-600}
# Tried in one go: some seconds for each fuzzer.
readonly CASES=20000
readonly PACKAGES="weft-image-format weft-image-unpack weft-model weft-services weft-hypervisor"
# What the names of fuzzers have, and those of other tests have not.
readonly NAMES='fuzz::|spoiled|noise|hostile_bytes|no_bytes|no_damaged|makes_it_panic'

case ${1:-} in
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d'
        exit 0
        ;;
esac
cd "$WEFT_ROOT"
use_rust

step "building the fuzzers"
selection=()
for package in $PACKAGES; do selection+=(-p "$package"); done
# One line for each test binary: its package and its path.
binaries=$(cargo test --locked --no-run --lib "${selection[@]}" --message-format=json |
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message.get("profile", {}).get("test"):
        print(message["target"]["name"], message["executable"])')

found=0
failed=0
while read -r package binary; do
    for name in $("$binary" --list 2>/dev/null | sed -n 's/: test$//p' | grep -E "$NAMES" | grep -F -- "${1:-}"); do
        found=$((found + 1))
        begun=$SECONDS
        rounds=0
        while [ $((SECONDS - begun)) -lt "$SECONDS_EACH" ]; do
            if ! WEFT_FUZZ_CASES=$CASES "$binary" --exact "$name" --test-threads=1 >"/tmp/weft-fuzz.$$" 2>&1; then
                cat "/tmp/weft-fuzz.$$"
                warn "$package $name has found something"
                failed=$((failed + 1))
                break
            fi
            rounds=$((rounds + 1))
        done
        say "$package $name: $rounds x $CASES cases in $((SECONDS - begun)) s"
    done
done <<<"$binaries"
rm -f "/tmp/weft-fuzz.$$"
[ "$found" != 0 ] || die "no fuzzer has ${1:-such a name} in its name"
say "$found fuzzers, $failed have found something"
[ "$failed" = 0 ]
