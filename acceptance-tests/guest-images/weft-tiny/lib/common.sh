# Shared by the boot scripts of weft-tiny; sourced.
# shellcheck shell=sh

# The seed of this boot, copied off its disk: a later boot without a seed uses it again.
# shellcheck disable=SC2034 # used by those that source this
SEED=/var/lib/weft/seed
# shellcheck disable=SC2034
STATE=/var/lib/weft
WEFT_LIB=/usr/lib/weft

say() {
    echo "weft-tiny: $*" >/dev/console
}

# json FILE PATH: the scalars of a JSON file below a path such as "public-keys/*".
json() {
    [ -s "$1" ] && awk -v want="$2" -f "$WEFT_LIB/json.awk" "$1"
}

# json_keys FILE PATH: the member names below a path.
json_keys() {
    [ -s "$1" ] && awk -v keys="$2" -f "$WEFT_LIB/json.awk" "$1"
}
