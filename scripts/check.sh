#!/usr/bin/env bash
# Everything that is checked without running it: formatting, lints, documentation.
#
# Usage: scripts/check.sh
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_rust
CARGO_TARGET_DIR=$(cargo_target_dir)
export CARGO_TARGET_DIR
cd "$WEFT_ROOT"

step "formatting"
cargo fmt --all --check
step "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings
step "documentation of the provider (docs/)"
cargo test --locked --quiet -p terraform-provider-weft --test provider documents
step "documentation of the code"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet
step "shell scripts"
for script in scripts/*.sh .ci/run examples/*/*.sh; do
    bash -n "$script"
done
if have shellcheck; then
    shellcheck -x scripts/*.sh .ci/run examples/*/*.sh
fi
step "all is well"
