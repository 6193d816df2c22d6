#!/usr/bin/env bash
# Runs every test of the repository: unit tests, tests with namespaces and QEMU, and the
# acceptance stories with real Terraform, agents and guests. The last line counts them all.
#
# Usage: scripts/test.sh              everything
#        scripts/test.sh --stories    only the acceptance stories, the slow ones too
#
# As root all tests run; without it those that need it are counted as skipped. Ends all
# that it started, also when it is interrupted.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin

STORIES_ONLY=false
case ${1:-} in
    '') ;;
    --stories) STORIES_ONLY=true ;;
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d'
        exit 0
        ;;
    *) die "unknown argument $1; usage: scripts/test.sh [--stories]" ;;
esac

TARGET=$(cargo_target_dir)
export CARGO_TARGET_DIR=$TARGET
# Inherited by everything that the tests start: whoever its parent is in the end, it can be
# found again. The directory takes all temporary files.
SCRATCH=$(mktemp -d /tmp/weft-test-XXXXXX)
export WEFT_TEST_RUN=$SCRATCH TMPDIR=$SCRATCH
unset RUST_BACKTRACE "${!TF_@}"

PASSED=0
FAILED=0
SKIPPED=0

# --- Nothing may be left, whatever happened -----------------------------------

# Ids of living processes that have our mark in their environment, or one of our files open
# (a hypervisor has nothing else). This script's own subshells have neither.
marked_processes() {
    {
        grep -lsZzxF "WEFT_TEST_RUN=$SCRATCH" /proc/[0-9]*/environ | tr '\0' '\n' || true
        find /proc/[0-9]*/fd -lname "$SCRATCH/*" 2>/dev/null || true
    } | cut -d/ -f3 | sort -un
}

sweep() {
    local pid name owner
    for pid in $(marked_processes); do
        # Those that only looked for them have ended by now.
        [ -d "/proc/$pid" ] || continue
        warn "a test left process $pid: $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" || true)"
        kill -KILL "$pid" 2>/dev/null || true
        LEFT=$((LEFT + 1))
    done
    if [ "$(id -u)" = 0 ] && have ip; then
        # Namespaces of labs are named after the test's process.
        for name in $(ip netns list | awk '$1 ~ /^weft-at-/ { print $1 }'); do
            owner=${name#weft-at-}
            owner=${owner%%-*}
            [ ! -d "/proc/$owner" ] || continue
            warn "a test left the network namespace $name"
            ip netns delete "$name" || true
            LEFT=$((LEFT + 1))
        done
    fi
    rm -rf "$SCRATCH"
}

LEFT=0
on_exit() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    sweep
    if [ "$LEFT" != 0 ]; then
        FAILED=$((FAILED + 1))
        [ "$status" != 0 ] || status=1
    fi
    # The last line, always.
    printf '%d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
    exit "$status"
}
trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- Running and counting -------------------------------------------------------

# count_junit FILE: adds the results of a nextest run. A test that says "SKIPPED: reason"
# found that this machine lacks something; it has passed for nextest, not for us.
count_junit() {
    local counts
    counts=$(python3 - "$1" <<'PYTHON'
import re
import sys
import xml.etree.ElementTree as tree

passed = failed = skipped = 0
for case in tree.parse(sys.argv[1]).iter("testcase"):
    if case.find("failure") is not None or case.find("error") is not None:
        failed += 1
        print(f"FAILED {case.get('classname')} {case.get('name')}", file=sys.stderr)
        continue
    said = "".join(part.text or "" for part in case if part.tag in ("system-out", "system-err"))
    reason = re.search(r"^SKIPPED: (.*)", said, re.MULTILINE)
    if reason or case.find("skipped") is not None:
        skipped += 1
        why = reason.group(1) if reason else "left out"
        print(f"SKIPPED {case.get('classname')} {case.get('name')}: {why}", file=sys.stderr)
    else:
        passed += 1
print(passed, failed, skipped)
PYTHON
    ) || return 1
    add_counts "$counts"
}

# count_libtest FILE: adds the results that cargo test printed.
count_libtest() {
    local counts
    counts=$(awk '
        /^test result: / {
            for (i = 2; i <= NF; i++) {
                if ($i == "passed;") passed += $(i - 1)
                if ($i == "failed;") failed += $(i - 1)
                if ($i == "ignored;") skipped += $(i - 1)
            }
        }
        /^SKIPPED: / { said++ }
        END { print passed - said, failed + 0, skipped + said }' "$1")
    add_counts "$counts"
}

add_counts() {
    local passed failed skipped
    read -r passed failed skipped <<<"$1"
    PASSED=$((PASSED + passed))
    FAILED=$((FAILED + failed))
    SKIPPED=$((SKIPPED + skipped))
}

# One run of nextest; STATUS keeps the worst result.
STATUS=0
run_nextest() {
    local junit=$TARGET/nextest/default/junit.xml status=0
    rm -f "$junit"
    cargo nextest run --locked --no-tests=pass "$@" || status=$?
    # 100: tests failed, which the report tells; anything else left no whole report.
    case $status in
        0 | 100) count_junit "$junit" || status=1 ;;
        *) FAILED=$((FAILED + 1)) ;;
    esac
    [ "$status" = 0 ] || STATUS=1
}

run_libtest() {
    local log=$SCRATCH/libtest.log status=0
    cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$log" || status=1
    count_libtest "$log"
    if [ "$status" != 0 ]; then
        STATUS=1
        grep -q '^test result: FAILED' "$log" || FAILED=$((FAILED + 1))
    fi
}

step "looking for what is needed (scripts/setup.sh)"
if $STORIES_ONLY; then
    "$WEFT_ROOT/scripts/setup.sh" --tests --accept
else
    "$WEFT_ROOT/scripts/setup.sh" --tests
fi
use_rust
if [ -x "$TARGET/tools/bin/terraform" ] && ! have terraform; then
    PATH=$TARGET/tools/bin:$PATH
fi
step "building the guest image weft-tiny"
as_caller env CARGO_TARGET_DIR="$TARGET" "$WEFT_ROOT/scripts/build-weft-tiny.sh"
if $STORIES_ONLY; then
    step "building the guest images debian, debian-ec2 and debian-uefi"
    CARGO_TARGET_DIR=$TARGET "$WEFT_ROOT/scripts/build-debian.sh"
    step "building the guest image debian-desktop"
    CARGO_TARGET_DIR=$TARGET "$WEFT_ROOT/scripts/build-debian-desktop.sh"
fi
step "building the agent with crash points"
"$WEFT_ROOT/scripts/build-crash-points.sh"
step "building the attacker of the hostile guest suite"
"$WEFT_ROOT/scripts/build-attacker.sh"
step "building everything"
cargo_build --workspace --all-targets
cd "$WEFT_ROOT"
[ "$(id -u)" = 0 ] || warn "not root: tests with namespaces and guests are skipped"

if $STORIES_ONLY; then
    selection=(-p weft-acceptance)
    export WEFT_THOROUGH=1
else
    selection=(--workspace)
fi
# Each fuzzer goes on for so long (make fuzz: longer); by themselves tests try a few cases only.
export WEFT_FUZZ_SECONDS=${WEFT_FUZZ_SECONDS:-8}
# Most tests wait more than they compute: for agents, for terraform, for guests.
export NEXTEST_TEST_THREADS=${NEXTEST_TEST_THREADS:-$((2 * $(nproc)))}
step "running the tests"
if find_rust_tool cargo-nextest >/dev/null; then
    run_nextest "${selection[@]}"
else
    # Without nextest's groups: the guests' tests one at a time, by themselves.
    if ! $STORIES_ONLY; then
        run_libtest --workspace --exclude weft-acceptance --exclude weft-hypervisor \
            --lib --bins --tests -- --show-output
        run_libtest -p weft-hypervisor --lib --bins --tests -- --test-threads=1 --show-output
    fi
    run_libtest -p weft-acceptance --lib --tests -- --test-threads=1 --show-output
fi
if $STORIES_ONLY; then
    # More of what make test has too: later passes of each point.
    step "running the crash points of the agent"
    if find_rust_tool cargo-nextest >/dev/null; then
        run_nextest -p fabric-agent --test agent -E 'test(crash_points)'
    else
        run_libtest -p fabric-agent --test agent -- crash_points --test-threads=1 --show-output
    fi
    # What is thorough does not depend on Terraform's version.
    unset WEFT_THOROUGH
    for terraform in "$TARGET"/tools/terraform-[0-9]*/terraform; do
        [ -x "$terraform" ] || continue
        version=${terraform%/terraform}
        step "running the simulated stories under Terraform ${version##*/terraform-}"
        export WEFT_TERRAFORM=$terraform
        if find_rust_tool cargo-nextest >/dev/null; then
            run_nextest -p weft-acceptance --test simulated
        else
            run_libtest -p weft-acceptance --test simulated -- --test-threads=1 --show-output
        fi
    done
    unset WEFT_TERRAFORM
fi
if ! $STORIES_ONLY && [ $((PASSED + SKIPPED)) != 0 ]; then
    step "running the examples in the documentation"
    run_libtest --workspace --doc
fi
step "done"
exit "$STATUS"
