#!/usr/bin/env bash
# Builds a full Debian guest with cloud-init and OpenSSH by mmdebstrap, out of the
# distribution's own packages and from this machine's own package sources: the image
# "debian" as those packages are, and "debian-ec2", the same with only cloud-init's Ec2 source
# enabled. Takes some minutes; see acceptance-tests/guest-images/README.md.
#
# Usage: scripts/build-debian.sh [OUTDIR]      (default: target/images; makes OUTDIR/debian
#                                              and OUTDIR/debian-ec2)
#
# Environment: WEFT_DEBIAN_RELEASE    the release (default: this machine's, else bookworm)
#              WEFT_DEBIAN_MIRROR     a mirror, where this machine has no Debian sources
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin # where mke2fs and debugfs live, also for users

readonly LIVE_KEYS=$WEFT_ROOT/acceptance-tests/guest-images/live-keys
readonly DISK_MIB=2048
readonly FS_UUID=77656674-6465-4269-8000-000000000001
# What Debian's own cloud images consist of, as far as a guest on virtio needs it.
readonly PACKAGES="apt-utils,bash-completion,ca-certificates,cloud-guest-utils,cloud-init,curl,
dbus,dbus-user-session,eatmydata,initramfs-tools,iproute2,iputils-ping,
less,libnss-myhostname,libnss-resolve,libpam-systemd,linux-image-cloud-amd64,locales,
netplan.io,openssh-client,openssh-server,polkitd,procps,python3,
socat,sudo,systemd-resolved,systemd-sysv,systemd-timesyncd,tcpdump,udev,unattended-upgrades,
vim-tiny,zstd"
readonly EC2_ONLY='datasource_list: [ Ec2 ]'
readonly DATASOURCE_FILE=/etc/cloud/cloud.cfg.d/99-datasource.cfg

case ${1:-} in
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d'
        exit 0
        ;;
esac

release() {
    local id codename
    # shellcheck disable=SC1091
    id=$(. /etc/os-release && printf '%s\n' "${ID:-}")
    # shellcheck disable=SC1091
    codename=$(. /etc/os-release && printf '%s\n' "${VERSION_CODENAME:-}")
    [ "$id" = debian ] || codename=
    printf '%s\n' "${WEFT_DEBIAN_RELEASE:-${codename:-bookworm}}"
}

# write_sources FILE_PREFIX: this machine's own sources of the release, its mirror and its keys.
# Prints the file's name; nothing where the machine has none.
write_sources() {
    local deb822=/etc/apt/sources.list.d/debian.sources list=/etc/apt/sources.list
    if [ -f "$deb822" ] && grep -Eq "^Suites:.*\b$RELEASE\b" "$deb822"; then
        # Comments between the fields of a stanza are not understood by every reader.
        grep -v '^[[:space:]]*#' "$deb822" >"$1.sources"
        printf '%s\n' "$1.sources"
    elif [ -f "$list" ] && grep -Eq "^deb .* $RELEASE(-[a-z]+)? main" "$list"; then
        grep -E "^deb .* $RELEASE(-updates|-security)? main" "$list" >"$1.list"
        printf '%s\n' "$1.list"
    fi
}

is_current() {
    local image file
    for image in debian debian-ec2; do
        [ -f "$OUT/$image/.inputs" ] && [ "$(cat "$OUT/$image/.inputs")" = "$INPUTS" ] || return 1
        for file in disk.qcow2 vmlinuz initrd.img manifest.json; do
            [ -s "$OUT/$image/$file" ] || return 1
        done
    done
}

inputs_hash() {
    { cat "$0" "$LIVE_KEYS"/*; printf '%s\n' "$RELEASE"; } | sha256sum | cut -d' ' -f1
}

# Where others' files can be made: as root, or in a user namespace with the user's own range of
# ids, where our own files are root's.
set_prefix() {
    PREFIX=()
    [ "$(id -u)" = 0 ] && return 0
    PREFIX=(unshare --user --map-root-user --map-auto)
    "${PREFIX[@]}" true 2>/dev/null ||
        die "as an ordinary user this needs user namespaces, a range in /etc/subuid and /etc/subgid (package uidmap) and util-linux 2.38; or run it as root"
}

clean_up() {
    # Files of mapped users can be removed only there.
    "${PREFIX[@]}" rm -rf "$WORK" 2>/dev/null || rm -rf "$WORK"
}

bootstrap() {
    local sources options=() proxy value
    sources=$(write_sources "$WORK/weft")
    if [ -z "$sources" ] && [ -n "${WEFT_DEBIAN_MIRROR:-}" ]; then
        sources="deb $WEFT_DEBIAN_MIRROR $RELEASE main"
    elif [ -z "$sources" ]; then
        say "this machine has no package sources of $RELEASE; using the default mirror of mmdebstrap"
    fi
    # mmdebstrap has its own configuration of apt; a proxy of this machine counts there too.
    for proxy in Acquire::http::Proxy Acquire::https::Proxy; do
        value=
        eval "$(apt-config shell value "$proxy")"
        [ -z "$value" ] || options+=(--aptopt="$proxy \"$value\"")
    done
    step "installing the packages of $RELEASE (mmdebstrap)"
    # The keys of the host belong to the instance, the machine's id is made at the first boot.
    # shellcheck disable=SC2016 # $1 is the hook's own
    mmdebstrap --quiet --variant=minbase --components=main \
        --include="$(tr -d '\n' <<<"$PACKAGES")" \
        --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        "${options[@]}" \
        --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d" && echo COMPRESS=lz4 >"$1/etc/initramfs-tools/conf.d/compress"' \
        --customize-hook='rm -f "$1"/etc/ssh/ssh_host_* && : >"$1/etc/machine-id"' \
        --customize-hook='echo debian >"$1/etc/hostname" && : >"$1/etc/fstab"' \
        --customize-hook='printf "127.0.0.1 localhost\n::1 localhost\n" >"$1/etc/hosts"' \
        --customize-hook='echo LANG=C.UTF-8 >"$1/etc/default/locale"' \
        --customize-hook='ln -sf ../run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"' \
        --customize-hook='chroot "$1" systemctl enable systemd-networkd systemd-resolved >/dev/null 2>&1' \
        --customize-hook='useradd --root "$1" --system --no-create-home --shell /usr/sbin/nologin weft-keys' \
        --customize-hook='chroot "$1" install -d -o weft-keys -g weft-keys /var/lib/weft-keys' \
        --customize-hook="install -D -m 755 '$LIVE_KEYS/weft-authorized-keys' \"\$1/usr/lib/weft/weft-authorized-keys\"" \
        --customize-hook="install -m 644 '$LIVE_KEYS/sshd.conf' \"\$1/etc/ssh/sshd_config.d/50-weft-keys.conf\"" \
        --customize-hook="install -m 644 '$LIVE_KEYS/cloud.cfg' \"\$1/etc/cloud/cloud.cfg.d/50-weft-keys.cfg\"" \
        --customize-hook="install -m 644 '$LIVE_KEYS/weft-keys.service' \"\$1/etc/systemd/system/weft-keys.service\"" \
        --customize-hook='chroot "$1" systemctl enable weft-keys.service >/dev/null 2>&1' \
        "$RELEASE" "$WORK/root.tar" ${sources:+"$sources"} ||
        die "mmdebstrap failed; its own message is above. Are the package sources reachable?"
}

build_disk() {
    step "building the disk (ext4, $DISK_MIB MiB)"
    mkdir "$WORK/root"
    "${PREFIX[@]}" tar -C "$WORK/root" --numeric-owner -xf "$WORK/root.tar" --exclude='./dev/*'
    rm -f "$WORK/root.tar"
    KERNEL=$(find "$WORK/root/usr/lib/modules" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | head -n 1)
    [ -n "$KERNEL" ] || die "the packages brought no kernel"
    "${PREFIX[@]}" cp "$WORK/root/boot/vmlinuz-$KERNEL" "$WORK/vmlinuz"
    "${PREFIX[@]}" cp "$WORK/root/boot/initrd.img-$KERNEL" "$WORK/initrd.img"
    "${PREFIX[@]}" chmod 644 "$WORK/vmlinuz" "$WORK/initrd.img"
    truncate -s "${DISK_MIB}M" "$WORK/disk.raw"
    "${PREFIX[@]}" mke2fs -q -F -t ext4 -L weft-debian -U "$FS_UUID" \
        -E root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0 -m 1 \
        -d "$WORK/root" "$WORK/disk.raw" ||
        die "mke2fs failed: the root filesystem has $("${PREFIX[@]}" du -sm "$WORK/root" | cut -f1) MiB for a disk of $DISK_MIB MiB"
}

# finish IMAGE: the raw disk of the working directory as an image.
finish() {
    local image=$1 made=$WORK/$1 file
    mkdir "$made"
    qemu-img convert -q -O qcow2 "$WORK/disk.raw" "$made/disk.qcow2"
    ln "$WORK/vmlinuz" "$WORK/initrd.img" "$made/"
    cat >"$made/manifest.json" <<MANIFEST
{
  "disk": "disk.qcow2",
  "kernel": "vmlinuz",
  "initrd": "initrd.img",
  "cmdline": "console=ttyS0 root=UUID=$FS_UUID rw mitigations=off random.trust_cpu=on",
  "user": "debian",
  "architecture": "x86_64",
  "format": "qcow2",
  "kernel_version": "$KERNEL",
  "release": "$RELEASE"
}
MANIFEST
    printf '%s\n' "$INPUTS" >"$made/.inputs"
    # Under sudo, what is in the caller's target directory is the caller's.
    [ "$(id -u)" != 0 ] || [ -z "${SUDO_UID:-}" ] || chown -R "$SUDO_UID:${SUDO_GID:-0}" "$made"
    rm -rf "${OUT:?}/$image"
    mv "$made" "$OUT/$image"
    say "$image ($RELEASE, Linux $KERNEL) is in $OUT/$image:"
    for file in disk.qcow2 vmlinuz initrd.img; do
        printf '      %-14s %10d bytes\n' "$file" "$(stat -c %s "$OUT/$image/$file")"
    done
}

TARGET=$(cargo_target_dir)
OUT=${1:-$TARGET/images}
RELEASE=$(release)
INPUTS=$(inputs_hash)
if is_current; then
    say "debian and debian-ec2 are up to date in $OUT"
    exit 0
fi
[ "$(uname -m)" = x86_64 ] || die "this image is for x86_64 and this machine is $(uname -m)"
need mmdebstrap mmdebstrap
need apt-config apt
need mke2fs e2fsprogs
need debugfs e2fsprogs
need qemu-img qemu-utils
set_prefix

mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
exec 9>"$OUT/.debian.lock"
flock 9
if is_current; then
    say "debian and debian-ec2 are up to date in $OUT"
    exit 0
fi
WORK=$OUT/work-debian.$$
mkdir -p "$WORK"
trap clean_up EXIT
umask 022

bootstrap
build_disk
"${PREFIX[@]}" rm -rf "$WORK/root"
step "writing the images"
finish debian
# The same file system with one file more.
printf '%s\n' "$EC2_ONLY" >"$WORK/datasource.cfg"
debugfs -w -R "write $WORK/datasource.cfg $DATASOURCE_FILE" "$WORK/disk.raw" 2>"$WORK/debugfs.log" >/dev/null
debugfs -R "cat $DATASOURCE_FILE" "$WORK/disk.raw" 2>/dev/null | cmp -s - "$WORK/datasource.cfg" ||
    die "debugfs could not write $DATASOURCE_FILE: $(tail -n 1 "$WORK/debugfs.log")"
finish debian-ec2
step "done"
