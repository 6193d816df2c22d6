#!/usr/bin/env bash
# Removes all that scripts/demo.sh made and looks whether anything is left. What was built
# stays: cargo's files and the guest image.
#
# Usage: scripts/demo-down.sh        as root, or as a user who may use sudo
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=scripts/demo-lib.sh
. "$WEFT_ROOT/scripts/demo-lib.sh"

case ${1:-} in
    '') ;;
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d'
        exit 0
        ;;
    *) die "unknown argument $1; usage: scripts/demo-down.sh" ;;
esac
[ "$(id -u)" = 0 ] || become_root "$0"

# The polite way first: as a user would remove it.
destroy() {
    [ -f "$DEMO_MODULE/terraform.tfstate" ] || return 0
    if ! agent_pid >/dev/null; then
        step "the agent does not run: leaving its guests to fabric-agent purge"
        return 0
    fi
    step "terraform destroy"
    demo_terraform destroy -input=false -auto-approve -no-color ||
        warn "terraform destroy failed; fabric-agent purge removes what is left"
}

purge() {
    local agent=$DEMO/bin/fabric-agent
    [ -d "$DEMO/state" ] || [ -d "$DEMO_RUN" ] || return 0
    [ -x "$agent" ] || agent=$DEMO_BIN/fabric-agent
    [ -x "$agent" ] || die "there is no fabric-agent to purge with: cargo build -p fabric-agent"
    step "fabric-agent purge"
    # In the namespace where its links are, if that still exists.
    if [ -e "/run/netns/$DEMO_NAME" ]; then
        in_demo "$agent" purge --state-dir "$DEMO/state" --runtime-dir "$DEMO_RUN"
    else
        "$agent" purge --state-dir "$DEMO/state" --runtime-dir "$DEMO_RUN"
    fi
}

# links_of_demo: links that are left in the namespace, besides the loopback.
links_of_demo() {
    [ ! -e "/run/netns/$DEMO_NAME" ] || in_demo ip -o link show | grep -v '^[0-9]*: lo:' || true
}
tables_of_demo() { [ ! -e "/run/netns/$DEMO_NAME" ] || in_demo nft list tables; }
mounts_of_demo() { grep -F -e "$DEMO/" -e "$DEMO_RUN" /proc/self/mountinfo || true; }

LEFT=0
# expect_none WHAT TEXT: counts what is left, and says it.
expect_none() {
    if [ -z "$2" ]; then
        printf '  %-28s none\n' "$1"
    else
        printf '  %-28s LEFT: %s\n' "$1" "$2"
        LEFT=$((LEFT + 1))
    fi
}

processes_of_demo() {
    local pid
    for pid in $(demo_processes); do
        printf '%s (%s) ' "$pid" "$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" || true)"
    done
}

mkdir -p "$DEMO"
exec 9>"$DEMO/.lock"
flock -n 9 || die "another demo.sh or demo-down.sh is at work"
destroy 9>&-
if agent_pid >/dev/null; then
    step "stopping the agent (process $(agent_pid))"
    stop_agent
fi
purge

# Before the namespace goes, which would take them along unseen.
links=$(links_of_demo)
tables=$(tables_of_demo)
if [ -e "/run/netns/$DEMO_NAME" ]; then
    step "removing the network namespace $DEMO_NAME"
    ip netns delete "$DEMO_NAME"
fi
step "removing $DEMO"
rm -rf "$DEMO" "$DEMO_RUN"
exec 9>&- # the lock was one of the files

step "what is left"
tries=0
while [ -n "$(demo_processes)" ] && [ "$tries" -lt 50 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
expect_none "processes" "$(processes_of_demo)"
expect_none "taps and other links" "$links"
expect_none "tables of the packet filter" "$tables"
expect_none "network namespaces" "$(ip netns list | awk -v name="$DEMO_NAME" '$1 == name')"
expect_none "mounts" "$(mounts_of_demo)"
expect_none "files" "$(ls -d "$DEMO" "$DEMO_RUN" 2>/dev/null || true)"
[ "$LEFT" = 0 ] || die "$LEFT kinds of things are left, see above"
step "nothing is left of the demonstration; kept: cargo's files and target/images"
