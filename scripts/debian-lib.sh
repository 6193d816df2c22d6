# Debian images by mmdebstrap, out of the distribution's own packages and from this machine's own
# package sources. Sourced after scripts/lib.sh by the scripts that build them, not run.
# shellcheck shell=bash

PATH=$PATH:/usr/sbin:/sbin # where mke2fs, debugfs and sfdisk live, also for users

readonly LIVE_KEYS=$WEFT_ROOT/acceptance-tests/guest-images/live-keys
readonly FS_UUID=77656674-6465-4269-8000-000000000001
# What Debian's own cloud images consist of, as far as a guest on virtio needs it. The boot loader is for
# the disks that UEFI starts.
readonly PACKAGES="apt-utils,bash-completion,ca-certificates,cloud-guest-utils,cloud-init,curl,
dbus,dbus-user-session,eatmydata,grub-efi-amd64-bin,initramfs-tools,iproute2,iputils-ping,
less,libnss-myhostname,libnss-resolve,libpam-systemd,linux-image-cloud-amd64,locales,
netplan.io,openssh-client,openssh-server,polkitd,procps,python3,
socat,sudo,systemd-resolved,systemd-sysv,systemd-timesyncd,tcpdump,udev,unattended-upgrades,
vim-tiny,zstd"
readonly CMDLINE="root=UUID=$FS_UUID rw mitigations=off random.trust_cpu=on"
# The EFI system partition: from this sector of 512 bytes on, as large as a FAT32 has to be.
readonly ESP_SECTOR=2048 ESP_MIB=40

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

# is_current IMAGE...: whether these were made of what $INPUTS says.
is_current() {
    local image file
    for image in "$@"; do
        [ -f "$OUT/$image/.inputs" ] && [ "$(cat "$OUT/$image/.inputs")" = "$INPUTS" ] || return 1
        for file in disk.qcow2 manifest.json; do
            [ -s "$OUT/$image/$file" ] || return 1
        done
    done
}

# inputs_hash FILE...: of all that decides what is built.
inputs_hash() {
    { cat "${BASH_SOURCE[0]}" "$LIVE_KEYS"/* "$@"; printf '%s\n' "$RELEASE"; } | sha256sum | cut -d' ' -f1
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

# bootstrap MORE_PACKAGES OPTION...: the packages and what an image is besides, as $WORK/root.tar; OPTIONs are
# mmdebstrap's.
bootstrap() {
    local more=$1 sources options=() proxy value
    shift
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
        --include="$(tr -d '\n' <<<"$PACKAGES$more")" \
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
        "$@" \
        "$RELEASE" "$WORK/root.tar" ${sources:+"$sources"} ||
        die "mmdebstrap failed; its own message is above. Are the package sources reachable?"
}

# build_disk MIB: the file system as $WORK/disk.raw; beside it kernel, initrd and boot loader.
build_disk() {
    local mib=$1
    step "building the disk (ext4, $mib MiB)"
    mkdir "$WORK/root"
    "${PREFIX[@]}" tar -C "$WORK/root" --numeric-owner -xf "$WORK/root.tar" --exclude='./dev/*'
    rm -f "$WORK/root.tar"
    KERNEL=$(find "$WORK/root/usr/lib/modules" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | head -n 1)
    [ -n "$KERNEL" ] || die "the packages brought no kernel"
    "${PREFIX[@]}" cp "$WORK/root/boot/vmlinuz-$KERNEL" "$WORK/vmlinuz"
    "${PREFIX[@]}" cp "$WORK/root/boot/initrd.img-$KERNEL" "$WORK/initrd.img"
    "${PREFIX[@]}" cp "$WORK/root/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi" "$WORK/"
    "${PREFIX[@]}" chmod 644 "$WORK/vmlinuz" "$WORK/initrd.img" "$WORK/grubx64.efi"
    truncate -s "${mib}M" "$WORK/disk.raw"
    "${PREFIX[@]}" mke2fs -q -F -t ext4 -L weft-debian -U "$FS_UUID" \
        -E root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0 -m 1 \
        -d "$WORK/root" "$WORK/disk.raw" ||
        die "mke2fs failed: the root filesystem has $("${PREFIX[@]}" du -sm "$WORK/root" | cut -f1) MiB for a disk of $mib MiB"
    "${PREFIX[@]}" rm -rf "$WORK/root"
}

# uefi_disk: the same file system behind an EFI system partition, as $WORK/uefi.raw. Debian's own GRUB,
# under the name that firmware looks for on any disk, reads its configuration beside it and kernel and
# initrd by the names that Debian keeps current: /vmlinuz and /initrd.img.
uefi_disk() {
    local esp=$WORK/esp.fat bytes first
    step "putting it behind an EFI system partition"
    bytes=$(stat -c %s "$WORK/disk.raw")
    first=$((ESP_SECTOR + ESP_MIB * 2048))
    truncate -s "${ESP_MIB}M" "$esp"
    mkfs.vfat -F 32 -n EFI "$esp" >/dev/null
    cat >"$WORK/grub.cfg" <<GRUB
search --no-floppy --fs-uuid --set=root $FS_UUID
# A frame buffer of 32 bits a dot: the GRUB of Debian 12 would choose one of 24, which X does not draw on.
set gfxpayload=1280x800x32
linux /vmlinuz $CMDLINE console=tty0 console=ttyS0
initrd /initrd.img
boot
GRUB
    mmd -i "$esp" ::/EFI ::/EFI/BOOT ::/EFI/debian
    mcopy -i "$esp" "$WORK/grubx64.efi" ::/EFI/BOOT/BOOTX64.EFI
    mcopy -i "$esp" "$WORK/grub.cfg" ::/EFI/debian/grub.cfg
    # A mebibyte behind the last partition is for the second table.
    truncate -s $((first * 512 + bytes + 1048576)) "$WORK/uefi.raw"
    sfdisk --quiet "$WORK/uefi.raw" <<TABLE
label: gpt
start=$ESP_SECTOR, size=$((ESP_MIB * 2048)), type=uefi, name=EFI
start=$first, size=$((bytes / 512)), type=linux, name=root
TABLE
    dd if="$esp" of="$WORK/uefi.raw" bs=512 seek="$ESP_SECTOR" conv=notrunc,sparse status=none
    dd if="$WORK/disk.raw" of="$WORK/uefi.raw" bs=1M seek=$((first / 2048)) conv=notrunc,sparse status=none
}

# finish IMAGE RAW_DISK: an image whose manifest holds what there is to know.
finish() {
    local image=$1 raw=$2 made=$WORK/$1 boot file
    mkdir "$made"
    qemu-img convert -q -O qcow2 "$raw" "$made/disk.qcow2"
    if [ "$raw" = "$WORK/uefi.raw" ]; then
        boot='"boot_mode": "uefi",'
    else
        ln "$WORK/vmlinuz" "$WORK/initrd.img" "$made/"
        boot="\"kernel\": \"vmlinuz\", \"initrd\": \"initrd.img\",
  \"cmdline\": \"console=ttyS0 $CMDLINE\","
    fi
    cat >"$made/manifest.json" <<MANIFEST
{
  "disk": "disk.qcow2",
  $boot
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
    for file in "$OUT/$image"/*; do
        printf '      %-14s %10d bytes\n' "${file##*/}" "$(stat -c %s "$file")"
    done
}

# begin NAME IMAGE...: where to build these, one at a time; ends the script where they are up to date.
begin() {
    local name=$1
    shift
    if is_current "$@"; then
        say "$* up to date in $OUT"
        exit 0
    fi
    [ "$(uname -m)" = x86_64 ] || die "these images are for x86_64 and this machine is $(uname -m)"
    need mmdebstrap mmdebstrap
    need apt-config apt
    need mke2fs e2fsprogs
    need debugfs e2fsprogs
    need sfdisk fdisk
    need mkfs.vfat dosfstools
    need mcopy mtools
    need qemu-img qemu-utils
    set_prefix
    mkdir -p "$OUT"
    OUT=$(cd "$OUT" && pwd)
    exec 9>"$OUT/.$name.lock"
    flock 9
    if is_current "$@"; then
        say "$* up to date in $OUT"
        exit 0
    fi
    WORK=$OUT/work-$name.$$
    mkdir -p "$WORK"
    trap clean_up EXIT
    umask 022
}
