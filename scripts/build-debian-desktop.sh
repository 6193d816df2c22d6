#!/usr/bin/env bash
# Builds a Debian guest with a small desktop by mmdebstrap, from this machine's own package sources: the
# image "debian-desktop", which is "debian-uefi" (scripts/build-debian.sh) and an X server, a window manager
# and a terminal that come up by themselves. Takes some minutes; see acceptance-tests/guest-images/README.md.
#
# Usage: scripts/build-debian-desktop.sh [OUTDIR]      (default: target/images; makes
#                                                      OUTDIR/debian-desktop)
#
# Environment: as scripts/build-debian.sh
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/debian-lib.sh
. "$WEFT_ROOT/scripts/debian-lib.sh"

readonly DISK_MIB=2560
readonly DESKTOP=$WEFT_ROOT/acceptance-tests/guest-images/desktop
# The X server draws into the frame buffer that the firmware has set up: Debian's kernel for clouds has no
# other driver. It needs root's rights for that, which the wrapper of xserver-xorg-legacy gives it.
readonly DESKTOP_PACKAGES=",xserver-xorg-core,xserver-xorg-legacy,xserver-xorg-video-fbdev,
xserver-xorg-input-libinput,xinit,icewm,xterm,x11-utils,xfonts-base,fonts-dejavu-core"

case ${1:-} in
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d'
        exit 0
        ;;
esac

OUT=${1:-$(cargo_target_dir)/images}
RELEASE=$(release)
INPUTS=$(inputs_hash "$0" "$DESKTOP"/*)
begin debian-desktop debian-desktop

# shellcheck disable=SC2016 # $1 is the hook's own
bootstrap "$DESKTOP_PACKAGES" \
    --customize-hook='useradd --root "$1" --create-home --shell /bin/bash --groups video,input,tty desktop' \
    --customize-hook="install -m 644 '$DESKTOP/Xwrapper.config' \"\$1/etc/X11/Xwrapper.config\"" \
    --customize-hook="install -D -m 755 '$DESKTOP/session' \"\$1/usr/local/lib/desktop/session\"" \
    --customize-hook="install -m 644 '$DESKTOP/desktop.service' \"\$1/etc/systemd/system/desktop.service\"" \
    --customize-hook='chroot "$1" systemctl enable desktop.service >/dev/null 2>&1'
build_disk "$DISK_MIB"
uefi_disk
step "writing the image"
finish debian-desktop "$WORK/uefi.raw"
step "done"
