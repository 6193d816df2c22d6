#!/bin/sh
# Runs `terraform test` of the module in this folder against an agent with a simulated host, which it
# starts and ends: no root, no guests, nothing is left. For people and for CI.
#
#   ./test.sh [ARGUMENTS OF terraform test]
#
# Environment: TERRAFORM and FABRIC_AGENT, the programs; unset: terraform and fabric-agent.
# Exit status: that of terraform test.
set -eu

cd "$(dirname "$0")"
TERRAFORM=${TERRAFORM:-terraform}
FABRIC_AGENT=${FABRIC_AGENT:-fabric-agent}

home=$(mktemp -d)
agent=

end() {
    status=$?
    trap - EXIT INT TERM
    if [ -n "$agent" ]; then
        kill "$agent" 2>/dev/null || true
        wait "$agent" 2>/dev/null || true
    fi
    rm -rf "$home"
    exit "$status"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$FABRIC_AGENT" serve --host sim --state-dir "$home/state" --runtime-dir "$home/run" \
    --metrics-listen off >"$home/agent.log" 2>&1 &
agent=$!

tries=0
until [ -S "$home/run/agent.sock" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 600 ] || ! kill -0 "$agent" 2>/dev/null; then
        cat "$home/agent.log" >&2
        echo "test.sh: the agent did not start; what it said is above" >&2
        exit 1
    fi
    sleep 0.1
done

WEFT_ENDPOINT=unix://$home/run/agent.sock
export WEFT_ENDPOINT TF_INPUT=0
"$TERRAFORM" init -input=false -no-color >"$home/init.log" 2>&1 || {
    cat "$home/init.log" >&2
    echo "test.sh: terraform init failed, see above" >&2
    exit 1
}
"$TERRAFORM" test "$@"
