#!/usr/bin/env bash
# Measures what the design has budgets for, each beside its floor in the same run, and writes
# the table docs/benchmarks.md. Needs root for guests; takes about 20 minutes on two cores.
#
# Usage: scripts/bench.sh [ARGUMENT...]      arguments go to weft-bench, see weft-bench --help
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin

case ${1:-} in
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d'
        exit 0
        ;;
esac

TARGET=$(cargo_target_dir)
step "looking for what is needed (scripts/setup.sh)"
"$WEFT_ROOT/scripts/setup.sh"
use_rust
step "building the guest image weft-tiny"
as_caller env CARGO_TARGET_DIR="$TARGET" "$WEFT_ROOT/scripts/build-weft-tiny.sh"
step "building everything, optimised"
cargo_build --release --bins -p fabric-agent -p weft -p terraform-provider-weft -p weft-bench
cargo_build --release -p tfplugin --example noop_schema
[ "$(id -u)" = 0 ] || warn "not root: nothing with guests is measured"

arguments=("$@")
[ $# != 0 ] || arguments=(--out "$WEFT_ROOT/docs/benchmarks.md")
step "measuring"
unset RUST_BACKTRACE "${!TF_@}"
"$TARGET/release/weft-bench" "${arguments[@]}"
step "done"
