//! What a guest as small as weft-tiny has to ask its VPC's services with: a shell, busybox and nc.

use anyhow::{Context as _, Result};
use weft_acceptance::Guest;

/// Functions for the guest's shell: `imds METHOD PATH HEADER BODY` gives a whole answer, `token`
/// gives a token as a header.
pub(crate) const IMDS: &str = r#"
imds() {
  printf '%s %s HTTP/1.0\r\n%s\r\nContent-Length: %d\r\n\r\n%s' "$1" "$2" "$3" "${#4}" "$4" |
    nc 169.254.169.254 80
}
token() {
  echo "X-aws-ec2-metadata-token: $(
    imds PUT /latest/api/token 'X-aws-ec2-metadata-token-ttl-seconds: 60' '' | tail -n 1)"
}
"#;

/// What the metadata service answers to `GET path` with a token: the body.
pub(crate) fn metadata(guest: &Guest<'_>, path: &str) -> Result<String> {
    let answer = guest.ssh(&format!("{IMDS}\nimds GET {path} \"$(token)\" ''"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer of the metadata")?;
    anyhow::ensure!(head.contains(" 200 "), "{path}: {head}");
    Ok(body.to_owned())
}

/// The first line of the answer to `GET path` without a token.
pub(crate) fn metadata_without_token(guest: &Guest<'_>, path: &str) -> Result<String> {
    let answer = guest.ssh(&format!("{IMDS}\nimds GET {path} 'Accept: */*' ''"))?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// What a DHCP client is told, as `ip mask router dns server`; the guest's own address stays as
/// it is.
pub(crate) fn dhcp(guest: &Guest<'_>) -> Result<String> {
    let told = "[ \"$1\" != bound ] || echo $ip $mask $router $dns $serverid";
    let ask = "sudo udhcpc -i eth0 -f -n -q -t 5 -T 2 -s /tmp/told 2>/dev/null";
    let script =
        format!("printf '#!/bin/sh\\n%s\\n' '{told}' >/tmp/told; chmod +x /tmp/told; {ask}");
    Ok(guest.ssh(&script)?.trim().to_owned())
}
