#!/usr/bin/env bash
# Builds weft-tiny, the small guest image of the demonstrations and acceptance
# tests, out of the distribution's own packages: nothing is installed, nothing
# mounted, no root needed. See acceptance-tests/guest-images/README.md.
#
# Usage: scripts/build-weft-tiny.sh [OUTDIR]      (default: target/images/weft-tiny)
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly GUEST=$WEFT_ROOT/acceptance-tests/guest-images/weft-tiny
readonly LIVE_KEYS=$WEFT_ROOT/acceptance-tests/guest-images/live-keys
readonly DISK_MIB=20

# Drivers the guest loads; a name that is built into the kernel counts as found.
readonly NEEDED_MODULES="virtio_pci virtio_blk virtio_net ext4 vfat nls_cp437 nls_ascii
    nls_utf8 isofs button evdev virtio_console"
readonly OPTIONAL_MODULES="nls_iso8859_1 virtio_rng virtio_balloon pvpanic_pci"
# What a guest loads when it translates addresses with nft; on its disk, for few do.
readonly DISK_MODULES="nft_chain_nat nft_masq nft_ct"

case ${1:-} in
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
esac

# True when the output was made by these very files on this release.
is_current() {
    [ -f "$OUT/.inputs" ] && [ "$(cat "$OUT/.inputs")" = "$INPUTS" ] &&
        [ -s "$OUT/disk.raw" ] && [ -s "$OUT/vmlinuz" ] &&
        [ -s "$OUT/initrd.img" ] && [ -s "$OUT/manifest.json" ]
}

inputs_hash() {
    {
        cat "$0" /etc/os-release "$LIVE_KEYS/weft-authorized-keys"
        (cd "$GUEST" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
    } | sha256sum | cut -d' ' -f1
}

# depends_of PACKAGE: the direct dependencies of the candidate, one name a line.
depends_of() {
    apt-cache show --no-all-versions "$1" 2>/dev/null |
        sed -n 's/^\(Pre-\)\{0,1\}Depends: //p' | tr ',' '\n' |
        sed 's/|.*//; s/(.*//; s/:any//; s/ //g' | sed '/^$/d'
}

# The meta-package names the kernel of the day; Ubuntu keeps the modules apart.
kernel_packages() {
    local meta image
    for meta in linux-image-cloud-amd64 linux-image-virtual linux-image-kvm; do
        image=$(depends_of "$meta" | grep -E '^linux-image-[0-9]' | head -n 1) || continue
        printf '%s\n' "$image"
        depends_of "$image" | grep -E '^linux-modules-[0-9]' || true
        return 0
    done
    die "no small kernel package found (linux-image-cloud-amd64 or linux-image-virtual) in the package lists"
}

# Everything the programs need, by the package relations; which libraries of it go
# into the image is decided later by the loader itself.
program_packages() {
    apt-cache depends --recurse --important dropbear-bin nftables qemu-guest-agent | grep '^[a-z0-9]' |
        grep -Ev '^(debconf|gcc-.*-base|.*:)'
}

# fetch_all PACKAGE...: brings the .deb files into the cache, unless they are
# there in the version of today. The cache has one directory for each package.
fetch_all() {
    local package wanted directory
    while read -r package wanted; do
        [ "$wanted" != '(none)' ] || die "the package $package is in no configured package source"
        directory=$CACHE/$package
        [ ! -f "$directory/$wanted.done" ] || continue
        rm -rf "$directory"
        mkdir -p "$directory"
        say "downloading $package $wanted"
        # As root, apt would warn that its unprivileged user cannot write here.
        (cd "$directory" && apt-get -q=2 -o APT::Sandbox::User=root download "$package" >/dev/null) || return 1
        : >"$directory/$wanted.done"
    done < <(apt-cache policy "$@" | awk '/^[^ ]/ { name = $1; sub(/:.*/, "", name) }
        $1 == "Candidate:" { print name, $2 }')
    for package in "$@"; do
        [ -d "$CACHE/$package" ] || die "the package $package is in no configured package source"
    done
}

unpack() {
    local directory=$1 package
    shift
    mkdir -p "$directory"
    for package in "$@"; do
        dpkg-deb -x "$CACHE/$package/"*.deb "$directory"
    done
}

# module_file NAME: the module's file below $MODULES; file names mix - and _.
module_file() {
    local pattern=${1//_/[-_]}
    find "$MODULES" \( -name "$pattern.ko" -o -name "$pattern.ko.xz" \
        -o -name "$pattern.ko.zst" -o -name "$pattern.ko.gz" \) -print -quit
}

is_builtin() {
    grep -Eq "/${1//_/[-_]}\.ko\$" "$MODULES/modules.builtin"
}

# add_module NAME DIRECTORY: puts a module and, before it, those it depends on into
# a directory, with their order. Busybox's insmod knows no zstd, so all are stored
# unpacked. One that is in any directory already is not put into another.
ADDED=' '
add_module() {
    local name=${1//-/_} directory=$2 file stored dependency
    case $ADDED in *" $name "*) return 0 ;; esac
    is_builtin "$name" && return 0
    file=$(module_file "$name")
    [ -n "$file" ] || return 1
    ADDED+="$name "
    stored=$directory/$name.ko
    case $file in
        *.xz) xz -dc "$file" >"$stored" ;;
        *.zst) zstd -dqc "$file" >"$stored" ;;
        *.gz) gzip -dc "$file" >"$stored" ;;
        *) cp "$file" "$stored" ;;
    esac
    # .modinfo is a list of NUL-ended texts such as "depends=virtio,virtio_ring".
    for dependency in $(tr '\0' '\n' <"$stored" | sed -n 's/^depends=//p' | tr ',' ' '); do
        add_module "$dependency" "$directory" || die "the module $dependency, which $name needs, is not in the kernel package"
    done
    printf '%s.ko\n' "$name" >>"$directory/order"
}

build_initramfs() {
    local name
    say "building the initramfs"
    mkdir -p "$INITRAMFS"/{bin,dev,proc,sys,root,modules}
    cp "$BUSYBOX" "$INITRAMFS/bin/busybox"
    install -m 755 "$GUEST/initramfs-init" "$INITRAMFS/init"
    : >"$INITRAMFS/modules/order"
    for name in $NEEDED_MODULES; do
        add_module "$name" "$INITRAMFS/modules" || die "the kernel package has no module $name"
    done
    for name in $OPTIONAL_MODULES; do
        add_module "$name" "$INITRAMFS/modules" || true
    done
    find "$INITRAMFS" -exec touch -h -d @0 {} +
    (cd "$INITRAMFS" && find . -print0 | LC_ALL=C sort -z |
        cpio --quiet --null -o -H newc -R 0:0 --reproducible) | gzip -9n >"$WORK/initrd.img"
}

# Copies the program and the libraries that the image's own loader finds for it.
add_program() {
    local program=$1 library target
    install -D -m 755 "$PACKAGES$program" "$ROOTFS$program"
    while read -r library; do
        target=$ROOTFS/usr/lib/x86_64-linux-gnu/${library##*/}
        [ -e "$target" ] || install -D -m 644 "$(readlink -f "$library")" "$target"
    done < <("$LOADER" --library-path "$LIBRARY_PATH" --list "$PACKAGES$program" |
        sed -n 's/.* => \(\/[^ ]*\) .*/\1/p')
}

# Modules that the kernel asks modprobe for, by the names in modules.alias.
add_disk_modules() {
    local directory=$ROOTFS/usr/lib/modules/$KERNEL name
    mkdir -p "$directory"
    for name in $DISK_MODULES; do
        add_module "$name" "$directory" || die "the kernel package has no module $name"
    done
    rm -f "$directory/order"
    "$BUSYBOX" depmod -b "$ROOTFS" "$KERNEL"
}

build_rootfs() {
    local applet
    say "building the root filesystem"
    mkdir -p "$ROOTFS"/{dev,proc,sys,run,tmp,mnt,etc/dropbear,home/weft,var/{log,lib/weft}} \
        "$ROOTFS"/usr/{bin,sbin,lib/weft,lib/x86_64-linux-gnu,lib64}
    install -d -m 700 "$ROOTFS/root"
    ln -s usr/bin usr/sbin usr/lib usr/lib64 "$ROOTFS/"
    ln -s /run "$ROOTFS/var/run"

    # Set-user-id for su and ping; busybox gives the right up itself for every
    # other applet. (Copies of it for those two would not do: its shell runs
    # applets from its own file.)
    install -m 4755 "$BUSYBOX" "$ROOTFS/usr/bin/busybox"
    while read -r applet; do
        [ "$applet" = busybox ] || ln -s /bin/busybox "$ROOTFS/usr/bin/$applet"
    done < <("$BUSYBOX" --list)
    ln -s /bin/busybox "$ROOTFS/usr/sbin/init"
    for applet in getty acpid modprobe udhcpc poweroff reboot; do
        ln -s /bin/busybox "$ROOTFS/usr/sbin/$applet"
    done

    LIBRARY_PATH=$(find "$PACKAGES" -type d -name x86_64-linux-gnu | paste -sd:)
    LOADER=$(find "$PACKAGES" -name 'ld-linux-x86-64.so.2' -print -quit)
    LOADER=$(resolve_in_packages "$LOADER")
    install -m 755 "$LOADER" "$ROOTFS/usr/lib64/ld-linux-x86-64.so.2"
    for program in /usr/sbin/dropbear /usr/bin/dropbearkey /usr/bin/dbclient /usr/sbin/nft \
        /usr/sbin/qemu-ga; do
        add_program "$program"
    done
    add_disk_modules
    if [ -f "$PACKAGES/usr/bin/dropbearconvert" ]; then
        add_program /usr/bin/dropbearconvert
    else
        add_program /usr/lib/dropbear/dropbearconvert
        ln -s ../lib/dropbear/dropbearconvert "$ROOTFS/usr/bin/dropbearconvert"
    fi
    ln -s dbclient "$ROOTFS/usr/bin/ssh"

    cp -R "$GUEST/etc/." "$ROOTFS/etc/"
    cp "$GUEST"/lib/* "$LIVE_KEYS/weft-authorized-keys" "$ROOTFS/usr/lib/weft/"
    cp "$GUEST"/sbin/* "$ROOTFS/usr/sbin/"
    cp "$GUEST"/bin/* "$ROOTFS/usr/bin/"
    chmod 755 "$ROOTFS"/usr/lib/weft/* "$ROOTFS"/usr/sbin/weft-power \
        "$ROOTFS/usr/bin/sudo" "$ROOTFS"/etc/acpi/PWRF/*
    chmod 600 "$ROOTFS/etc/shadow"
    echo weft-tiny >"$ROOTFS/etc/hostname"
    printf 'ID=weft-tiny\nNAME=weft-tiny\nPRETTY_NAME="weft-tiny (%s)"\n' "$KERNEL" >"$ROOTFS/etc/os-release"
    : >"$ROOTFS/etc/resolv.conf"
    find "$ROOTFS" -exec touch -h -d @0 {} +
}

# A package's loader may be an absolute symbolic link, meant for its own root.
resolve_in_packages() {
    local target
    target=$(readlink "$1" || true)
    case $target in
        /*) printf '%s\n' "$PACKAGES$target" ;;
        *) readlink -f "$1" ;;
    esac
}

# Fixed identifiers keep two builds alike, but for their inodes' change times.
build_disk() {
    local uuid=77656674-7469-4e79-8000-000000000001 prefix=()
    say "building the disk (ext4, $DISK_MIB MiB)"
    # In a user namespace where we are root, our files are root's in the image.
    [ "$(id -u)" = 0 ] || prefix=(unshare --user --map-root-user)
    rm -f "$WORK/disk.raw"
    truncate -s "${DISK_MIB}M" "$WORK/disk.raw"
    E2FSPROGS_FAKE_TIME=1 "${prefix[@]}" mke2fs -q -F -t ext4 -L weft-root -U "$uuid" \
        -E hash_seed="$uuid",root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0 \
        -J size=1 -b 1024 -m 0 -N 2048 \
        -d "$ROOTFS" "$WORK/disk.raw" ||
        die "mke2fs failed: the root filesystem has $(du -sm "$ROOTFS" | cut -f1) MiB for a disk of $DISK_MIB MiB"
}

write_manifest() {
    cat >"$WORK/manifest.json" <<MANIFEST
{
  "disk": "disk.raw",
  "kernel": "vmlinuz",
  "initrd": "initrd.img",
  "cmdline": "console=ttyS0 root=/dev/vda rw loglevel=4 mitigations=off random.trust_cpu=on",
  "user": "weft",
  "architecture": "x86_64",
  "format": "raw",
  "kernel_version": "$KERNEL"
}
MANIFEST
}

TARGET=$(cargo_target_dir)
OUT=${1:-$TARGET/images/weft-tiny}
INPUTS=$(inputs_hash)
if is_current; then
    say "weft-tiny is up to date in $OUT"
    exit 0
fi
[ "$(uname -m)" = x86_64 ] || die "weft-tiny is for x86_64 and this machine is $(uname -m)"
need apt-get apt
need dpkg-deb dpkg
need mke2fs e2fsprogs
need cpio cpio
need xz xz-utils
need zstd zstd

CACHE=$TARGET/images/cache
WORK=$TARGET/images/work.$$
PACKAGES=$WORK/packages
INITRAMFS=$WORK/initramfs
ROOTFS=$WORK/rootfs
mkdir -p "$OUT" "$CACHE" "$WORK"
OUT=$(cd "$OUT" && pwd)
trap 'rm -rf "$WORK"' EXIT
umask 022

# Two builds at a time would share the cache; the second finds the first one's work.
exec 9>"$CACHE/.lock"
flock 9
if is_current; then
    say "weft-tiny is up to date in $OUT"
    exit 0
fi

# Leaves the names in files, for it runs in a subshell.
fetch_packages() {
    kernel_packages >"$WORK/kernel.list" || return 1
    program_packages >"$WORK/packages.list" || return 1
    echo busybox-static >>"$WORK/packages.list"
    # shellcheck disable=SC2046 # lists of package names
    fetch_all $(cat "$WORK"/*.list)
}

say "choosing packages"
# A package list that is missing or too old is no error yet: a subshell, where
# "die" only tells, is tried first.
if ! (
    die() {
        say "$*"
        exit 1
    }
    fetch_packages
); then
    say "refreshing the package lists"
    as_root apt-get -q=2 update || die "apt-get update failed: are the package sources reachable?"
    (fetch_packages) || die "the packages could not be downloaded"
fi

say "unpacking"
# shellcheck disable=SC2046
unpack "$WORK/kernel" $(cat "$WORK/kernel.list")
# shellcheck disable=SC2046
unpack "$PACKAGES" $(cat "$WORK/packages.list")
BUSYBOX=$(find "$PACKAGES" -path '*bin/busybox' -type f -print -quit)
MODULES=$(dirname "$(find "$WORK/kernel" -name modules.builtin -print -quit)")
KERNEL=${MODULES##*/}

build_initramfs
build_rootfs
build_disk
cp "$WORK/kernel/boot/vmlinuz-$KERNEL" "$WORK/vmlinuz"
chmod 644 "$WORK/vmlinuz"
write_manifest

rm -f "$OUT/.inputs"
for file in disk.raw vmlinuz initrd.img manifest.json; do
    mv -f "$WORK/$file" "$OUT/$file"
done
printf '%s\n' "$INPUTS" >"$OUT/.inputs"
say "weft-tiny with Linux $KERNEL is in $OUT:"
for file in disk.raw vmlinuz initrd.img manifest.json; do
    printf '      %-14s %9d bytes\n' "$file" "$(stat -c %s "$OUT/$file")"
done
