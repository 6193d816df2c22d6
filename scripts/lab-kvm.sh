#!/usr/bin/env bash
# Weft on real KVM, on any machine: boots a host under software emulation of an AMD processor with
# SVM, whose /dev/kvm is therefore real, and plays acceptance-tests/lab/story.sh in it. No packet
# leaves the host. See acceptance-tests/README.md.
#
# Usage: scripts/lab-kvm.sh [plain|systemd]...    what process 1 of the host is (default: both)
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin

readonly LAB=$WEFT_ROOT/acceptance-tests/lab
# What the host runs besides the agent; Python for a Terraform that comes as its library.
readonly PACKAGES=kmod,iproute2,nftables,ovmf,qemu-system-x86,qemu-utils,openssh-client,python3,systemd
readonly DISK_MIB=8192
readonly DEADLINE_SECONDS=900

case ${1:-} in
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d'
        exit 0
        ;;
esac
for arg in "$@"; do
    case $arg in plain | systemd) ;; *) die "unknown argument $arg; usage: scripts/lab-kvm.sh [plain|systemd]..." ;; esac
done
[ $# != 0 ] || set -- plain systemd

[ "$(uname -m)" = x86_64 ] || die "the lab is for x86_64 and this machine is $(uname -m)"
need qemu-system-x86_64 qemu-system-x86
need mmdebstrap mmdebstrap
need mke2fs e2fsprogs
use_rust

TARGET=$(cargo_target_dir)
OUT=$TARGET/images/lab-host
TINY=$TARGET/images/weft-tiny
TERRAFORM=$(find_terraform "$TARGET") || die "there is no terraform: run scripts/setup.sh"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
umask 022

release() {
    # shellcheck disable=SC1091
    (. /etc/os-release && printf '%s\n' "${VERSION_CODENAME:?}")
}

# This machine's own package sources: their mirror is known to work.
package_sources() {
    local file
    for file in /etc/apt/sources.list.d/{debian,ubuntu}.sources /etc/apt/sources.list; do
        [ ! -s "$file" ] || { printf '%s\n' "$file"; return 0; }
    done
}

# The host's root disk: the distribution without kernel, and the modules of weft-tiny's kernel.
build_host() {
    local inputs kernel root=$WORK/root sources
    kernel=$(sed -n 's/.*"kernel_version": "\(.*\)".*/\1/p' "$TINY/manifest.json")
    inputs=$({ declare -f build_host; echo "$PACKAGES $DISK_MIB $kernel"; cat /etc/os-release; } | sha256sum | cut -d' ' -f1)
    if [ -f "$OUT/.inputs" ] && [ "$(cat "$OUT/.inputs")" = "$inputs" ]; then
        step "the host's disk is up to date in $OUT"
        return 0
    fi
    step "building the host's disk (mmdebstrap $(release); takes about two minutes)"
    mkdir -p "$OUT" "$root"
    sources=$(package_sources)
    mmdebstrap --quiet --variant=minbase --include="$PACKAGES" \
        --dpkgopt=path-exclude=/usr/share/{doc,man,locale,info}/* \
        "$(release)" "$WORK/host.tar" ${sources:+"$sources"} || die "mmdebstrap failed"
    # In a user namespace where we are root, the files stay root's in the image.
    local prefix=()
    [ "$(id -u)" = 0 ] || prefix=(unshare --user --map-root-user)
    for package in "$TARGET"/images/cache/linux-{image,modules}-"$kernel"/*.deb; do
        [ ! -f "$package" ] || dpkg-deb -x "$package" "$WORK/kernel"
    done
    [ -d "$WORK/kernel/lib/modules/$kernel" ] || die "no modules of Linux $kernel in $TARGET/images/cache: remove $TINY and run this again"
    "${prefix[@]}" bash -euc '
        tar -C "$1" --no-same-owner --exclude="./dev/*" -xf "$2/host.tar"
        mkdir -p "$1/lib/modules" "$1/lab"
        cp -a "$2/kernel/lib/modules/." "$1/lib/modules/"
        chroot "$1" depmod "$3"
        printf "#!/bin/sh\nmount -o ro /dev/vdb /lab\nexec /lab/init\n" >"$1/sbin/init.lab"
        chmod 755 "$1/sbin/init.lab"
        ln -sf init.lab "$1/sbin/init"
        : >"$1/etc/machine-id"
        rm -f "$4"
        truncate -s "$5M" "$4"
        mke2fs -q -F -t ext4 -m 0 -E lazy_itable_init=0,lazy_journal_init=0 -d "$1" "$4"
    ' build "$root" "$WORK" "$kernel" "$OUT/disk.raw.new" "$DISK_MIB"
    rm -rf "$root"
    mv -f "$OUT/disk.raw.new" "$OUT/disk.raw"
    printf '%s\n' "$inputs" >"$OUT/.inputs"
}

# What changes with every build, on a disk of its own: our programs, Terraform, the image, the story.
build_data() {
    local data=$WORK/data version mirror name
    step "putting our programs on a disk"
    version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$WEFT_ROOT/Cargo.toml")
    mirror=$data/plugins/registry.terraform.io/weft-cloud/weft/$version/linux_amd64
    mkdir -p "$data/bin" "$mirror"
    for name in fabric-agent weft terraform-provider-weft; do
        strip --strip-debug -o "$data/bin/$name" "$TARGET/debug/$name"
    done
    mv "$data/bin/terraform-provider-weft" "$mirror/terraform-provider-weft_v$version"
    mkdir -p "$data"/tests/{deps,examples}
    # shellcheck disable=SC2012 # names that cargo made
    name=$(ls -t "$TARGET"/debug/deps/bridge_uplink-* | grep -v '\.d$' | head -n 1)
    strip --strip-debug -o "$data/tests/deps/bridge_uplink" "$name"
    strip --strip-debug -o "$data/tests/examples/hold_netns" "$TARGET/debug/examples/hold_netns"
    add_terraform "$data"
    cp -r "$TINY" "$data/weft-tiny"
    mkdir "$data/example"
    cp "$WEFT_ROOT"/examples/01-one-instance/*.tf "$data/example/"
    cp "$LAB"/* "$data/"
    chmod 755 "$data/init"
    truncate -s "$(($(du -sm "$data" | cut -f1) + 64))M" "$WORK/data.raw"
    mke2fs -q -F -t ext4 -m 0 -O ^has_journal -E root_owner=0:0 -d "$data" "$WORK/data.raw"
    rm -rf "$data"
}

# add_terraform DIRECTORY: the program itself, or the library with its launcher.
add_terraform() {
    local venv=$TARGET/tools/terraform-venv
    if [ "$(head -c 4 "$TERRAFORM" | tail -c 3)" = ELF ]; then
        cp -L "$TERRAFORM" "$1/bin/terraform"
        return 0
    fi
    [ -d "$venv" ] || die "$TERRAFORM is a script, and not the one of scripts/setup.sh: put Terraform's own program on PATH"
    cp -r "$venv" "$1/terraform-venv"
    cp "$WEFT_ROOT/scripts/terraform-launcher.py" "$1/"
    # shellcheck disable=SC2016 # for the lab's shell
    printf '#!/bin/sh\nPYTHONPATH=$(echo /lab/terraform-venv/lib/python3*/site-packages) exec python3 /lab/terraform-launcher.py "$@"\n' >"$1/bin/terraform"
    chmod 755 "$1/bin/terraform"
}

# play INIT: boots the host and shows its console; its last words are the outcome.
play() {
    local console=$OUT/console-$1.log began=$SECONDS
    step "the host boots, with process 1: $1 (console also in $console)"
    timeout --foreground "$DEADLINE_SECONDS" qemu-system-x86_64 -M q35 \
        -accel tcg,thread=multi -cpu EPYC-Milan,+svm,+npt -smp 2 -m 2048 \
        -nodefaults -no-user-config -display none -serial stdio -no-reboot \
        -kernel "$TINY/vmlinuz" -initrd "$TINY/initrd.img" \
        -append "console=ttyS0 panic=1 quiet root=/dev/vda rw mitigations=off random.trust_cpu=on lab.init=$1" \
        -drive "if=none,id=root,format=raw,snapshot=on,file=$OUT/disk.raw" \
        -device virtio-blk-pci,drive=root,addr=2 \
        -drive "if=none,id=data,format=raw,readonly=on,file=$WORK/data.raw" \
        -device virtio-blk-pci,drive=data,addr=3 \
        -object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng,addr=4 \
        </dev/null 2> >(grep -v "TCG doesn't support requested feature" >&2) |
        stdbuf -o0 tr -d '\r' | tee "$console" || die "the host ended early, or took longer than $DEADLINE_SECONDS s"
    grep -q '^LAB OUTCOME: ok$' "$console" || die "the story failed with process 1: $1, see above"
    step "passed with process 1: $1, in $((SECONDS - began)) s"
}

"$WEFT_ROOT/scripts/build-weft-tiny.sh"
build_host
step "building Weft"
cargo_build --quiet -p fabric-agent -p weft -p terraform-provider-weft
# What needs VLANs, which not every kernel has; and the holder of namespaces that it starts.
cargo_build --quiet -p weft-network --test bridge_uplink --example hold_netns
build_data
for init in "$@"; do
    play "$init"
done
step "what was measured"
for init in "$@"; do
    grep -hE 'KVM works|up for .* s$' "$OUT/console-$init.log" | sed "s/^/      $init: /"
done
