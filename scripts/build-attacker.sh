#!/usr/bin/env bash
# Builds the program that the hostile guest suite runs in its guests (acceptance-tests/attacker),
# static, because a guest has no libraries, and puts it beside the usual programs, in attacker/.
# scripts/test.sh calls this.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_rust
TARGET=$(cargo_target_dir)
# In a directory of its own: flags of the compiler would have everything else built anew.
CARGO_TARGET_DIR=$TARGET/attacker cargo_build -p weft-attacker \
    --config 'build.rustflags = ["-C", "target-feature=+crt-static", "-C", "strip=symbols"]' \
    --config 'profile.dev.opt-level = "s"' --config 'profile.dev.panic = "abort"'
as_caller mkdir -p "$TARGET/debug/attacker"
as_caller cp --remove-destination "$TARGET/attacker/debug/weft-attacker" "$TARGET/debug/attacker/"
