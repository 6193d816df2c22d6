#!/bin/bash
# What is done inside the lab's machine, whose /dev/kvm is real: doctor, apply, log in, kill the
# agent, destroy, purge, and a look at what is left. The last line says how it ended; the script
# that started the machine (scripts/lab-kvm.sh) looks for it.
set -uo pipefail
cd /root
export PATH=/lab/bin:$PATH

up() { cut -d' ' -f1 /proc/uptime; }
step() { printf '==> [%s s] %s\n' "$(up)" "$*"; }
fail() {
    printf 'FAILED: %s\n' "$*"
    echo "--- the agent's log, its end"
    agent_log | tail -n 40
    echo "LAB OUTCOME: failed"
    exit 1
}

# By systemd the agent is a service, with a control group that its stop empties.
SYSTEMD=false
[ ! -d /run/systemd/system ] || SYSTEMD=true
agent_log() { if $SYSTEMD; then journalctl -q -o cat -u 'weft-agent*'; else cat /run/agent.log; fi; }
AGENTS=0
start_agent() {
    local tries=0
    AGENTS=$((AGENTS + 1))
    if $SYSTEMD; then
        systemd-run --quiet --unit="weft-agent-$AGENTS" fabric-agent serve || fail "systemd-run"
    else
        setsid fabric-agent serve </dev/null >>/run/agent.log 2>&1 &
    fi
    until weft ls hosts >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 150 ] || fail "the agent does not answer"
        sleep 0.2
    done
}
agent_pid() { pgrep_one 'fabric-agent' serve; }
# pgrep_one PROGRAM ARGUMENT: the process with such a command line.
pgrep_one() {
    local dir
    for dir in /proc/[0-9]*; do
        if tr '\0' '\n' 2>/dev/null <"$dir/cmdline" | awk -v p="$1" -v a="$2" '
            NR == 1 { program = index($0, p) } NR == 2 { found = $0 == a }
            END { exit !(program && (a == "" || found)) }'; then
            printf '%s\n' "${dir#/proc/}"
        fi
    done
}
ssh_in() { weft ssh -i /root/id one -- "$@"; }

step "the machine: $(uname -sr), $(nproc) processors, $(sed -n 's/^MemTotal: *//p' /proc/meminfo)"
for module in kvm-amd tun bridge br_netfilter veth nf_tables nft_ct; do
    modprobe "$module" || fail "the kernel has no module $module"
done
[ -c /dev/kvm ] || fail "there is no /dev/kvm"
# As udev does; QEMU 7.2 takes no descriptor for the device.
getent group kvm >/dev/null || groupadd --system kvm
chgrp kvm /dev/kvm && chmod 0660 /dev/kvm
ip link set lo up
# The clock is the emulated one, which the real machine keeps: the kernel is told so, as a time
# daemon would (adjtimex(2): ADJ_MAXERROR and ADJ_STATUS, at their places in struct timex).
python3 - <<'PYTHON' || fail "the clock cannot be called synchronised"
import ctypes, struct
timex = bytearray(208)
struct.pack_into("I", timex, 0, 0x0004 | 0x0010)
struct.pack_into("q", timex, 24, 0)
struct.pack_into("i", timex, 40, 0)
state = ctypes.CDLL(None).adjtimex((ctypes.c_char * len(timex)).from_buffer(timex))
raise SystemExit(0 if state >= 0 else "adjtimex failed")
PYTHON

# As a distribution's own process 1 gives; the kernel's 4096 are warned about.
ulimit -n 65536

step "VLANs of a link and of a bridge"
/lab/tests/deps/bridge_uplink --test-threads=1 || fail "bridge_uplink"

step "the agent starts"
start_agent
step "weft doctor"
# The agent answers before it has brought the network in order.
for _ in $(seq 20); do
    ! weft doctor >/dev/null || break
    sleep 0.5
done
weft doctor | tee /run/doctor
[ "${PIPESTATUS[0]}" = 0 ] || fail "weft doctor found something that fails"
! grep -q '^warning' /run/doctor || fail "weft doctor warns"
weft ls hosts
weft --json ls hosts | grep -q '"kvm"' || fail "the agent did not choose KVM"

step "terraform apply"
ssh-keygen -q -t ed25519 -N '' -f /root/id
printf 'provider_installation {\n  filesystem_mirror {\n    path = "/lab/plugins"\n  }\n}\n' >terraform.rc
export TF_CLI_CONFIG_FILE=/root/terraform.rc CHECKPOINT_DISABLE=1
mkdir module && cd module && cp /lab/example/*.tf .
printf 'image_dir = "/lab/weft-tiny"\npublic_key = "/root/id.pub"\n' >terraform.tfvars
terraform init -input=false -no-color >/run/init.log 2>&1 || { cat /run/init.log; fail "terraform init"; }
terraform apply -input=false -auto-approve -no-color || fail "terraform apply"

step "weft ssh one -- uname -a"
ssh_in uname -a || fail "weft ssh"
ssh_in 'echo "the guest has been up for $(cut -d" " -f1 /proc/uptime) s"; grep -m1 "^model name" /proc/cpuinfo'
weft get one
qemu=$(pgrep_one qemu-system '')
[ "$(wc -w <<<"$qemu")" = 1 ] || fail "not one QEMU but: $qemu"
tr '\0' ' ' <"/proc/$qemu/cmdline" | grep -q -- '-accel kvm' || fail "QEMU does not use KVM"

step "its control group"
group=$(sed -n 's/^0:://p' "/proc/$qemu/cgroup")
case $group in /weft.slice/weft-i-*) ;; *) fail "QEMU is in the control group $group" ;; esac
(cd "/sys/fs/cgroup$group" && grep -H . memory.max memory.peak pids.max pids.current cpu.weight 2>/dev/null)
[ "$(cat "/sys/fs/cgroup$group/memory.max")" != max ] || fail "its memory has no limit"

step "the agent is killed and another adopts the guest"
kill -9 "$(agent_pid)"
while [ -n "$(agent_pid)" ]; do sleep 0.1; done
start_agent
ssh_in echo "the guest goes on" || fail "weft ssh after the agent was killed"
[ "$(pgrep_one qemu-system '')" = "$qemu" ] || fail "the guest is not the same process"
terraform plan -input=false -no-color -detailed-exitcode >/run/plan.log || { cat /run/plan.log; fail "the plan is not empty"; }

step "terraform destroy"
terraform destroy -input=false -auto-approve -no-color || fail "terraform destroy"
[ -z "$(pgrep_one qemu-system '')" ] || fail "a QEMU is left"
! compgen -G '/sys/fs/cgroup/weft.slice/weft-*' || fail "a control group is left"

step "purge"
kill "$(agent_pid)"
while [ -n "$(agent_pid)" ]; do sleep 0.1; done
fabric-agent purge || fail "fabric-agent purge"
left=$(
    pgrep_one fabric-agent ''
    ls -d /var/lib/weft /run/weft 2>/dev/null
    ip -o link show | grep -v ': lo:'
    nft list tables
    $SYSTEMD || ls -d /sys/fs/cgroup/weft.slice 2>/dev/null
)
[ -z "$left" ] || fail "left behind: $left"
# Switching forwarding on is announced as a warning on purpose; and systemd, unless a unit says
# KillMode=process, kills the namespace's holder with the agent: the next agent makes up for it.
EXPECTED='switched IP forwarding on'
! $SYSTEMD || EXPECTED+='|the holder of a network namespace was killed'
if agent_log | grep -E 'WARN|ERROR' | grep -vE "$EXPECTED"; then fail "the agent's log has warnings"; fi

step "done"
echo "LAB OUTCOME: ok"
