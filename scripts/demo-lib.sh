# What the demonstration's two scripts share; sourced after lib.sh, not run.
# shellcheck shell=bash

# Another name makes another, independent demonstration: namespace, directories, socket.
DEMO_NAME=${WEFT_DEMO_NAME:-weft-demo}
DEMO_TARGET=${WEFT_DEMO_TARGET:-$(cargo_target_dir)}
case $DEMO_NAME in
    weft-demo) DEMO=$DEMO_TARGET/demo ;;
    weft-demo-*) DEMO=$DEMO_TARGET/demo-${DEMO_NAME#weft-demo-} ;;
    *) die "WEFT_DEMO_NAME is weft-demo or begins with weft-demo-, not \"$DEMO_NAME\"" ;;
esac
readonly DEMO_NAME DEMO_TARGET DEMO
# Short and of tmpfs: the path of a socket has at most 107 bytes.
readonly DEMO_RUN=/run/$DEMO_NAME
readonly DEMO_ENDPOINT=unix://$DEMO_RUN/agent.sock
readonly DEMO_PID=$DEMO/agent.pid
readonly DEMO_MODULE=$DEMO/terraform
readonly DEMO_KEY=$DEMO/id_ed25519
readonly DEMO_BIN=$DEMO_TARGET/debug

# in_demo COMMAND...: inside the demonstration's network namespace. (ip netns exec would
# hide /sys.)
in_demo() { nsenter --net="/run/netns/$DEMO_NAME" -- "$@"; }

# agent_pid: the demonstration's agent, if it lives. A process that merely has the same
# number now is not taken for it: /proc tells what it runs and with which directory.
agent_pid() {
    local pid
    pid=$(cat "$DEMO_PID" 2>/dev/null) && [ -n "$pid" ] || return 1
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | is_demo_agent || return 1
    printf '%s\n' "$pid"
}

# The words of a command line, one a line, are those of our agent.
is_demo_agent() {
    awk -v state="$DEMO/state" '
        NR == 1 { program = /(^|\/)fabric-agent$/ }
        NR == 2 { serves = $0 == "serve" }
        $0 == state { ours = 1 }
        END { exit !(program && serves && ours) }'
}

# stop_agent: ends the agent and waits for it; guests live on.
stop_agent() {
    local pid tries=0
    pid=$(agent_pid) || return 0
    kill "$pid" 2>/dev/null || true
    while agent_pid >/dev/null; do
        tries=$((tries + 1))
        [ "$tries" != 150 ] || kill -KILL "$pid" 2>/dev/null || true
        [ "$tries" -lt 200 ] || die "the agent (process $pid) does not end"
        sleep 0.1
    done
    rm -f "$DEMO_PID"
}

# demo_terraform ARGUMENT...: in the demonstration's module, deaf to the caller's settings.
demo_terraform() {
    (
        cd "$DEMO_MODULE"
        unset RUST_BACKTRACE "${!TF_@}"
        export TF_CLI_CONFIG_FILE=$DEMO/terraform.rc CHECKPOINT_DISABLE=1
        export WEFT_ENDPOINT=$DEMO_ENDPOINT
        exec "$(find_terraform "$DEMO_TARGET")" "$@"
    )
}

demo_weft() { WEFT_ENDPOINT=$DEMO_ENDPOINT "$DEMO_BIN/weft" "$@"; }

# become_root SCRIPT ARGUMENT...: goes on as root with what root cannot find out by itself.
become_root() {
    local terraform_dir
    terraform_dir=$(dirname "$(find_terraform "$DEMO_TARGET" || echo /nonexistent/terraform)")
    have sudo || die "this needs root: run it as root, or install sudo"
    exec sudo env PATH="$terraform_dir:$PATH" WEFT_DEMO_NAME="$DEMO_NAME" \
        WEFT_DEMO_TARGET="$DEMO_TARGET" "$@"
}

# demo_processes: ids of processes that belong to the demonstration: they name its
# directories in their command lines, or have a file of them open (as a hypervisor has).
demo_processes() {
    local file words
    {
        for file in /proc/[0-9]*/cmdline; do
            words=$(tr '\0' ' ' 2>/dev/null <"$file") || continue
            case $words in
                *"$DEMO/"* | *"$DEMO_RUN/"*) printf '%s\n' "$file" ;;
            esac
        done
        find /proc/[0-9]*/fd \( -lname "$DEMO/*" -o -lname "$DEMO_RUN/*" \) 2>/dev/null || true
    } | cut -d/ -f3 | sort -un | grep -vxF -e "$$" -e "$BASHPID" || true
}
