# Shared by Weft's scripts; sourced, not run.
# shellcheck shell=bash

# The repository's root directory, whatever directory the script was called from.
WEFT_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export WEFT_ROOT

say() { printf '==> %s\n' "$*"; }

# step TEXT: like say, with the time since the script began.
step() { printf '==> [%2d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"; }

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

# caller_home: the home directory of the user who typed "sudo …", else our own.
caller_home() {
    local home=''
    if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ]; then
        home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    fi
    printf '%s\n' "${home:-$HOME}"
}

# find_rust_tool NAME: prints the path of cargo, rustc … on PATH or in cargo's own directory.
# (sudo hides the caller's PATH.)
find_rust_tool() {
    command -v "$1" 2>/dev/null && return 0
    local directory
    for directory in "${CARGO_HOME:-$HOME/.cargo}" "$(caller_home)/.cargo"; do
        if [ -x "$directory/bin/$1" ]; then
            printf '%s\n' "$directory/bin/$1"
            return 0
        fi
    done
    return 1
}

# use_rust: puts cargo on PATH, and under sudo uses the caller's toolchain and crates.
use_rust() {
    local cargo home
    cargo=$(find_rust_tool cargo) || die "there is no cargo: run scripts/setup.sh"
    home=$(caller_home)
    PATH=$(dirname "$cargo"):$PATH
    export PATH
    if [ "$home" != "$HOME" ]; then
        [ ! -d "$home/.rustup" ] || export RUSTUP_HOME=${RUSTUP_HOME:-$home/.rustup}
        [ ! -d "$home/.cargo" ] || export CARGO_HOME=${CARGO_HOME:-$home/.cargo}
    fi
}

# cargo_build ARGUMENT...: as the caller, so that what is built is theirs.
cargo_build() {
    as_caller env PATH="$PATH" CARGO_TARGET_DIR="$(cargo_target_dir)" \
        cargo build --locked --manifest-path "$WEFT_ROOT/Cargo.toml" "$@"
}

# find_terraform TARGET: on PATH, else where scripts/setup.sh puts it.
find_terraform() {
    command -v terraform 2>/dev/null && return 0
    [ -x "$1/tools/bin/terraform" ] && printf '%s\n' "$1/tools/bin/terraform"
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
