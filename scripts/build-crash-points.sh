#!/usr/bin/env bash
# Builds the agent with crash points (see fabric-agent/crash-points) and puts it beside the usual
# one, in crash-points/: tests that have the agent die start that. scripts/test.sh calls this.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_rust
TARGET=$(cargo_target_dir)
# With a test target beside it cargo chooses the same features of all libraries as for the tests,
# so that only the agent is built once more.
cargo_build --workspace --bin fabric-agent --test agent --features fabric-agent/crash-points
as_caller mkdir -p "$TARGET/debug/crash-points"
# A new file: an agent that still runs keeps its own.
as_caller cp --remove-destination "$TARGET/debug/fabric-agent" "$TARGET/debug/crash-points/"
