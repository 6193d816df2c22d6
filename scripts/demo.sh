#!/usr/bin/env bash
# From a fresh checkout to a virtual machine one can log in to: installs what is missing,
# builds, starts an agent in a network namespace of its own, applies
# examples/01-one-instance as a user would, and runs "uname -a" in the guest by ssh.
#
# Usage: scripts/demo.sh        as root, or as a user who may use sudo
#
# May be run again at any time, also after it was interrupted. scripts/demo-down.sh removes
# everything. Variables: WEFT_DEMO_NAME (weft-demo), CARGO_TARGET_DIR.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=scripts/demo-lib.sh
. "$WEFT_ROOT/scripts/demo-lib.sh"

# Nothing but text where nobody looks.
COLOUR=
[ -t 1 ] || COLOUR=-no-color
readonly PROVIDER_ADDRESS=registry.terraform.io/weft-cloud/weft

case ${1:-} in
    '' | --run) ;;
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d'
        exit 0
        ;;
    *) die "unknown argument $1; usage: scripts/demo.sh" ;;
esac

# --- As the caller: everything that ends up in target/ for good ---------------

prepare() {
    step "looking for what is needed (scripts/setup.sh)"
    "$WEFT_ROOT/scripts/setup.sh"
    use_rust
    step "building the agent, the provider and weft (the first time takes minutes)"
    cargo_build -p fabric-agent -p weft -p terraform-provider-weft
    step "building the guest image weft-tiny"
    as_caller env CARGO_TARGET_DIR="$DEMO_TARGET" "$WEFT_ROOT/scripts/build-weft-tiny.sh"
}

# --- As root: what demo-down removes -----------------------------------------

make_namespace() {
    if [ ! -e "/run/netns/$DEMO_NAME" ]; then
        step "making the network namespace $DEMO_NAME"
        ip netns add "$DEMO_NAME"
    fi
    in_demo ip link set lo up
}

# The installed copies: a build in the middle of a demonstration changes nothing under it.
install_programs() {
    local name
    mkdir -p "$DEMO/bin"
    for name in fabric-agent weft; do
        if ! cmp -s "$DEMO_BIN/$name" "$DEMO/bin/$name"; then
            [ "$name" != fabric-agent ] || PROGRAM_CHANGED=true
            install -m 755 "$DEMO_BIN/$name" "$DEMO/bin/.$name.new"
            mv -f "$DEMO/bin/.$name.new" "$DEMO/bin/$name"
        fi
    done
}

start_agent() {
    local pid=''
    if pid=$(agent_pid) && ! $PROGRAM_CHANGED; then
        step "the agent runs (process $pid)"
    else
        if [ -n "$pid" ]; then
            step "a new agent was built: stopping the old one (guests live on)"
            stop_agent
        fi
        step "starting the agent"
        # In a session of its own: Ctrl-C in this terminal is not meant for it. nsenter
        # becomes the agent, so the process id is the agent's.
        setsid nsenter --net="/run/netns/$DEMO_NAME" -- "$DEMO/bin/fabric-agent" serve \
            --state-dir "$DEMO/state" --runtime-dir "$DEMO_RUN" \
            </dev/null >>"$DEMO/agent.log" 2>&1 &
        pid=$!
        echo "$pid" >"$DEMO_PID"
        disown "$pid"
    fi
    local tries=0
    until demo_weft ls hosts >/dev/null 2>&1; do
        tries=$((tries + 1))
        if ! kill -0 "$pid" 2>/dev/null || [ "$tries" = 150 ]; then
            tail -n 20 "$DEMO/agent.log" >&2
            die "the agent does not answer; the end of its log ($DEMO/agent.log) is above"
        fi
        sleep 0.2
    done
}

# A filesystem mirror: Terraform installs the provider as it would from a registry, lock
# file and all, and looks on no network.
make_module() {
    local version mirror binary
    version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$WEFT_ROOT/Cargo.toml")
    mirror=$DEMO/plugins/$PROVIDER_ADDRESS/$version/linux_amd64
    binary=$mirror/terraform-provider-weft_v$version
    mkdir -p "$mirror" "$DEMO_MODULE"
    if ! cmp -s "$DEMO_BIN/terraform-provider-weft" "$binary"; then
        rm -f "$binary"
        install -m 755 "$DEMO_BIN/terraform-provider-weft" "$binary"
        # The lock file has the checksum of the build before.
        rm -rf "$DEMO_MODULE/.terraform" "$DEMO_MODULE/.terraform.lock.hcl"
    fi
    cat >"$DEMO/terraform.rc" <<RC
provider_installation {
  filesystem_mirror {
    path = "$DEMO/plugins"
  }
}
RC
    cp "$WEFT_ROOT"/examples/01-one-instance/*.tf "$DEMO_MODULE/"
    cat >"$DEMO_MODULE/terraform.tfvars" <<VARIABLES
image_dir  = "$DEMO_TARGET/images/weft-tiny"
public_key = "$DEMO_KEY.pub"
VARIABLES
    [ -f "$DEMO_KEY" ] || ssh-keygen -q -t ed25519 -N '' -C "$DEMO_NAME" -f "$DEMO_KEY"
}

apply() {
    step "terraform init"
    demo_terraform init -input=false -no-color >"$DEMO/init.log" 2>&1 || {
        cat "$DEMO/init.log" >&2
        die "terraform init failed, see above"
    }
    grep -h 'Installed\|Using previously-installed' "$DEMO/init.log" || true
    step "terraform apply"
    # shellcheck disable=SC2086 # no or one word
    demo_terraform apply -input=false -auto-approve $COLOUR || die "terraform apply failed, see above"
}

# Plain ssh, from the agent's namespace, which has a route to the guest.
log_in() {
    local command
    demo_terraform output -raw known_hosts_line >"$DEMO/known_hosts"
    command=$(demo_terraform output -raw ssh_command)
    step "$command uname -a (host key verified, nothing trusted on first use)"
    # shellcheck disable=SC2086 # "ssh USER@ADDRESS", two words
    in_demo $command -F none -i "$DEMO_KEY" -o IdentitiesOnly=yes -o BatchMode=yes \
        -o StrictHostKeyChecking=yes -o UserKnownHostsFile="$DEMO/known_hosts" \
        -o GlobalKnownHostsFile=/dev/null -o ConnectTimeout=20 uname -a
}

run() {
    local id
    PROGRAM_CHANGED=false
    mkdir -p "$DEMO"
    exec 9>"$DEMO/.lock"
    flock -n 9 || die "another demo.sh or demo-down.sh is at work"
    make_namespace
    install_programs
    # The agent must not hold the lock.
    start_agent 9>&-
    make_module
    apply 9>&-
    log_in
    id=$(demo_terraform output -raw id)
    step "how it booted"
    demo_weft get "$id" | awk '/^timeline/ { found = 1 } found'
    step "done"
    cat <<NEXT

The instance $id runs. What to try next$([ "$(id -u)" != 0 ] || [ -z "${SUDO_USER:-}" ] || printf ' (as root)'):

  export WEFT_ENDPOINT=$DEMO_ENDPOINT PATH=\$PATH:$DEMO/bin
  weft ls
  weft ssh -i $DEMO_KEY $id
  weft console $id    # Ctrl-] detaches
  export TF_CLI_CONFIG_FILE=$DEMO/terraform.rc    # terraform against this agent, such as in
      # examples/: -var image_dir=$DEMO_TARGET/images/weft-tiny -var public_key=$DEMO_KEY.pub
  ip netns exec $DEMO_NAME ssh -i $DEMO_KEY USER@ADDRESS    # only in there is a route to guests
  kill -9 $(cat "$DEMO_PID") && make demo    # the agent dies, the guest does not notice
  make demo-down                       # removes everything
NEXT
}

on_exit() {
    local status=$?
    [ "$status" = 0 ] || warn "the demonstration did not finish: run it again, or remove it with scripts/demo-down.sh"
}
trap on_exit EXIT

if [ "${1:-}" != --run ]; then
    prepare
    [ "$(id -u)" = 0 ] || {
        trap - EXIT
        become_root "$0" --run
    }
fi
run
