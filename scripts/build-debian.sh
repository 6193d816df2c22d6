#!/usr/bin/env bash
# Builds a full Debian guest with cloud-init and OpenSSH by mmdebstrap, out of the
# distribution's own packages and from this machine's own package sources: the image
# "debian" as those packages are; "debian-ec2", the same with only cloud-init's Ec2 source
# enabled; "debian-uefi", the first one on a disk that UEFI starts. Takes some minutes; see
# acceptance-tests/guest-images/README.md.
#
# Usage: scripts/build-debian.sh [OUTDIR]      (default: target/images; makes OUTDIR/debian,
#                                              OUTDIR/debian-ec2 and OUTDIR/debian-uefi)
#
# Environment: WEFT_DEBIAN_RELEASE    the release (default: this machine's, else bookworm)
#              WEFT_DEBIAN_MIRROR     a mirror, where this machine has no Debian sources
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/debian-lib.sh
. "$WEFT_ROOT/scripts/debian-lib.sh"

readonly DISK_MIB=2048
readonly EC2_ONLY='datasource_list: [ Ec2 ]'
readonly DATASOURCE_FILE=/etc/cloud/cloud.cfg.d/99-datasource.cfg

case ${1:-} in
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d'
        exit 0
        ;;
esac

OUT=${1:-$(cargo_target_dir)/images}
RELEASE=$(release)
INPUTS=$(inputs_hash "$0")
begin debian debian debian-ec2 debian-uefi

bootstrap ''
build_disk "$DISK_MIB"
step "writing the images"
finish debian "$WORK/disk.raw"
uefi_disk
finish debian-uefi "$WORK/uefi.raw"
# The same file system with one file more.
printf '%s\n' "$EC2_ONLY" >"$WORK/datasource.cfg"
debugfs -w -R "write $WORK/datasource.cfg $DATASOURCE_FILE" "$WORK/disk.raw" 2>"$WORK/debugfs.log" >/dev/null
debugfs -R "cat $DATASOURCE_FILE" "$WORK/disk.raw" 2>/dev/null | cmp -s - "$WORK/datasource.cfg" ||
    die "debugfs could not write $DATASOURCE_FILE: $(tail -n 1 "$WORK/debugfs.log")"
finish debian-ec2 "$WORK/disk.raw"
step "done"
