#!/bin/sh
# Takes processors and memory into use that come while this machine runs. Written by Weft, not by the
# user data. Linux leaves both to whoever administers the machine; these rules go with the boot.
mkdir -p /run/udev/rules.d
cat >/run/udev/rules.d/80-weft-grow.rules <<'RULES'
SUBSYSTEM=="cpu", ACTION=="add", TEST=="online", ATTR{online}=="0", ATTR{online}="1"
SUBSYSTEM=="memory", ACTION=="add", TEST=="state", ATTR{state}=="offline", ATTR{state}="online"
RULES
# What has come before this.
udevadm control --reload && udevadm trigger --action=add --subsystem-match=cpu --subsystem-match=memory
