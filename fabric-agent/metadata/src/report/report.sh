#!/bin/sh
# Tells the host how cloud-init ended, once for each boot. Written by Weft, not by the user data.
# Waits in the background: cloud-init would wait for it.
if [ "$1" != wait ]; then
    setsid sh "$0" wait </dev/null >/dev/null 2>&1 &
    exit 0
fi
mkdir /run/weft-report 2>/dev/null || exit 0
failed=
seconds=0
while [ ! -e /run/cloud-init/result.json ]; do
    sleep 1
    seconds=$((seconds + 1))
    # A stage that breaks altogether writes no result.
    if [ $((seconds % 10)) = 0 ]; then
        failed=$(systemctl list-units --failed --plain --no-legend 'cloud-*' 2>/dev/null |
            cut -d' ' -f1 | tr '\n' ' ')
        [ -z "$failed" ] || break
    fi
done
# cloud-init's own Python, where there is none on PATH.
python=$(command -v python3 || sed -n '1s/^#! *//p' "$(command -v cloud-init)")
exec $python - $failed <<'PYTHON'
import json, subprocess, sys, time, urllib.request

HOST = "http://169.254.169.254"
LOG = "/var/log/cloud-init-output.log"


def put(path, headers, body=b""):
    request = urllib.request.Request(HOST + path, data=body, headers=headers, method="PUT")
    # Never through a proxy that user data may have set.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        return answer.read().decode()


def status(*more):
    command = ["cloud-init", "status", "--format", "json", *more]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=300)
    return json.loads(said.stdout)


def last_lines():
    try:
        with open(LOG, errors="replace") as log:
            return "".join(log.readlines()[-20:])[-2000:]
    except OSError as error:
        return str(error)


def report(failed_units):
    try:
        said = status() if failed_units else status("--wait")
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return {"status": "error", "errors": [f"cloud-init status: {error}"], "detail": last_lines()}
    errors = list(said.get("errors") or [])
    errors += [f"{unit} failed" for unit in failed_units]
    # cloud-init 23.4 and newer tell what they recovered from.
    for level, messages in (said.get("recoverable_errors") or {}).items():
        errors += [f"{level}: {message}" for message in messages]
    word = said.get("extended_status") or said.get("status") or "error"
    if failed_units and not word.startswith("error"):
        word = "error"
    detail = last_lines() if word != "done" else said.get("detail") or ""
    errors = [str(error)[:1000] for error in errors[:20]]
    return {"status": word, "errors": errors, "detail": detail}


body = json.dumps(report(sys.argv[1:])).encode()
for attempt in range(30):
    try:
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        token = put("/latest/api/token", ttl)
        headers = {"X-aws-ec2-metadata-token": token, "Content-Type": "application/json"}
        put("/weft/v1/cloud-init", headers, body)
        break
    except (OSError, ValueError):
        time.sleep(min(2**attempt, 15))
PYTHON
