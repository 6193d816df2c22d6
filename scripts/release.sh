#!/usr/bin/env bash
# Packs the Terraform provider as the registries want a release: a zip for this platform, the
# manifest, and SHA256SUMS over both. The same commit gives the same bytes.
#
# Usage: scripts/release.sh                 builds the provider, packs it into dist/
#        with --out DIRECTORY               packs it there
#        with --binary FILE                 packs this one, which was built elsewhere
#        with --sign KEY                    also signs SHA256SUMS with this GPG key (RSA or DSA; no
#                                           registry takes another)
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly NAME=terraform-provider-weft
OUT=$WEFT_ROOT/dist
BINARY=''
KEY=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d'
            exit 0
            ;;
        --out | --binary | --sign)
            [ $# -ge 2 ] || die "$1 needs a value"
            case $1 in
                --out) OUT=$2 ;;
                --binary) BINARY=$2 ;;
                --sign) KEY=$2 ;;
            esac
            shift 2
            ;;
        *) die "unknown argument $1; usage: scripts/release.sh [--out DIRECTORY] [--binary FILE] [--sign KEY]" ;;
    esac
done
need python3 python3
[ -z "$KEY" ] || need gpg gnupg

version=$(sed -n 's/^version = "\([^"]*\)"$/\1/p' "$WEFT_ROOT/Cargo.toml" | head -n 1)
[ -n "$version" ] || die "Cargo.toml names no version"
case $(uname -m) in
    x86_64) platform=linux_amd64 ;;
    aarch64) platform=linux_arm64 ;;
    *) die "no registry has a name for $(uname -m)" ;;
esac

if [ -z "$BINARY" ]; then
    use_rust
    step "building $NAME $version"
    # No path of this machine gets into the program, or each machine would make another one.
    export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$WEFT_ROOT=/weft --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
    as_caller env PATH="$PATH" RUSTFLAGS="$RUSTFLAGS" CARGO_TARGET_DIR="$(cargo_target_dir)/reproducible" \
        cargo build --locked --release --manifest-path "$WEFT_ROOT/Cargo.toml" -p "$NAME"
    BINARY=$(cargo_target_dir)/reproducible/release/$NAME
fi
[ -f "$BINARY" ] || die "there is no $BINARY"
said=$("$BINARY" --version)
[ "$said" = "$NAME $version" ] || die "$BINARY is \"$said\", not $NAME $version"

step "packing into $OUT"
mkdir -p "$OUT"
zip=${NAME}_${version}_$platform.zip
manifest=${NAME}_${version}_manifest.json
sums=${NAME}_${version}_SHA256SUMS
# Times and modes are fixed: what is packed counts, not when.
python3 - "$BINARY" "$OUT/$zip" "${NAME}_v$version" <<'PYTHON'
import sys
import zipfile

binary, archive, name = sys.argv[1:]
entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
entry.external_attr = 0o100755 << 16
entry.compress_type = zipfile.ZIP_DEFLATED
with open(binary, "rb") as file, zipfile.ZipFile(archive, "w") as packed:
    packed.writestr(entry, file.read(), compresslevel=9)
PYTHON
install -m 644 "$WEFT_ROOT/terraform-registry-manifest.json" "$OUT/$manifest"
(cd "$OUT" && sha256sum "$zip" "$manifest" >"$sums")
if [ -n "$KEY" ]; then
    step "signing $sums"
    gpg --batch --yes --local-user "$KEY" --output "$OUT/$sums.sig" --detach-sign "$OUT/$sums"
fi
step "done"
say "$(cat "$OUT/$sums")"
if [ -z "$KEY" ]; then
    say "to publish: gpg --local-user KEY --detach-sign $sums, then put all files into a release tagged v$version"
fi
