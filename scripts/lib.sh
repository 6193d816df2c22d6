# Shared by Weft's scripts; sourced, not run.
# shellcheck shell=bash

# The repository's root directory, whatever directory the script was called from.
WEFT_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export WEFT_ROOT

say() { printf '==> %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# as_root COMMAND...: through sudo unless we are root already.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "this needs root: run it as root, or install sudo ($1)"
    fi
}

# as_caller COMMAND...: as the user who typed "sudo …", not as root.
as_caller() {
    if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
        sudo -H -u "$SUDO_USER" -- "$@"
    else
        "$@"
    fi
}

# need COMMAND PACKAGE: dies with a hint when the command is missing.
need() {
    have "$1" || die "$1 is missing (package $2): run scripts/setup.sh, or install that package"
}

# find_rust_tool NAME: prints the path of cargo, rustc … on PATH or in cargo's own directory.
find_rust_tool() {
    command -v "$1" 2>/dev/null && return 0
    local candidate=${CARGO_HOME:-$HOME/.cargo}/bin/$1
    [ -x "$candidate" ] && printf '%s\n' "$candidate"
}

# cargo_target_dir: where cargo puts what it builds; works without cargo too.
cargo_target_dir() {
    local cargo directory=''
    if [ -n "${CARGO_TARGET_DIR:-}" ]; then
        case $CARGO_TARGET_DIR in
            /*) printf '%s\n' "$CARGO_TARGET_DIR" ;;
            *) printf '%s\n' "$WEFT_ROOT/$CARGO_TARGET_DIR" ;;
        esac
        return 0
    fi
    if cargo=$(find_rust_tool cargo); then
        directory=$(cd "$WEFT_ROOT" && "$cargo" metadata --format-version 1 --no-deps --offline 2>/dev/null |
            sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p') || directory=''
    fi
    printf '%s\n' "${directory:-$WEFT_ROOT/target}"
}

# version_at_least HAVE WANT: compares dotted version numbers.
version_at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}
