//! What a user reads for each wrong input, compared with a golden file.
//!
//! `UPDATE_GOLDEN=1 cargo test -p terraform-provider-weft bad_input` writes it anew; then read it.

use std::fmt::Write as _;
use std::path::Path;

use tfplugin::testing::Terraform;
use tfplugin::{Diagnostics, Severity, Value};
use weft_proto::version::API_VERSION;

use crate::samples::{bz_image, full, metadata_options, strings};
use crate::support::{Fake, agent_of_api_versions, attributes, connected, with};

const GOLDEN: &str = "tests/golden/bad_input.txt";

/// Where the error came from: "plan" is validation or planning, so nothing was made.
async fn outcome(
    terraform: &Terraform,
    type_name: &str,
    config: Value,
) -> (&'static str, Diagnostics) {
    let plan = match terraform.plan(type_name, config, None).await {
        Ok(plan) => plan,
        Err(diagnostics) => return ("plan", diagnostics),
    };
    let mut all = plan.warnings.clone();
    let applied = terraform.apply(plan).await;
    assert!(applied.state.is_none(), "something was made");
    all.append(applied.diagnostics);
    ("apply", all)
}

fn render(diagnostics: &Diagnostics, hide: &Path, out: &mut String) {
    let hide = hide.display().to_string();
    for diagnostic in diagnostics {
        let severity = match diagnostic.severity {
            Severity::Error => "Error",
            Severity::Warning => "Warning",
        };
        let place = diagnostic.path.as_ref().map(|path| format!("   (at {path})"));
        writeln!(out, "{severity}: {}{}", diagnostic.summary, place.unwrap_or_default()).unwrap();
        for line in diagnostic.detail.replace(&hide, "DIR").lines() {
            writeln!(out, "    {line}").unwrap();
        }
    }
}

/// A header of version 3, in the order of QEMU's `docs/interop/qcow2.txt`.
fn qcow2_with_backing_file() -> Vec<u8> {
    let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
    let (cluster_bits, disk_bytes) = (16_u32, 1_u64 << 20);
    header.extend(104_u64.to_be_bytes()); // Where the backing file's name is,
    header.extend(8_u32.to_be_bytes()); // and its length.
    header.extend(cluster_bits.to_be_bytes());
    header.extend(disk_bytes.to_be_bytes());
    header.extend(0_u32.to_be_bytes()); // Not encrypted.
    header.extend(1_u32.to_be_bytes()); // L1: entries and place.
    header.extend((1_u64 << cluster_bits).to_be_bytes());
    header.extend((2_u64 << cluster_bits).to_be_bytes()); // Refcount table: place and clusters.
    header.extend(1_u32.to_be_bytes());
    header.extend([0; 12]); // No snapshots.
    header.extend([0; 24]); // No features.
    header.extend(4_u32.to_be_bytes()); // Refcounts of 16 bits.
    header.extend(104_u32.to_be_bytes()); // The header's length.
    header.extend(b"base.raw");
    header.resize(4 << cluster_bits, 0);
    header
}

type Case = (&'static str, &'static str, Vec<(&'static str, Value)>);

/// Name, resource, attributes that differ from a good configuration.
#[rustfmt::skip]
fn cases(fake: &Fake) -> Vec<Case> {
    let file = |name: &str, content: &[u8]| Value::from(fake.file(name, content));
    let backed = qcow2_with_backing_file();
    let rule = "weft_security_group_ingress_rule";
    let sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let by_url = |more: &[(&'static str, Value)]| {
        let mut changes = vec![
            ("source_path", Value::Null), ("kernel", Value::Null), ("initrd", Value::Null), ("kernel_cmdline", Value::Null),
            ("source_url", "https://me:s3cret@mirror.example/disk.raw".into()), ("sha256", sha256.into()),
        ];
        changes.extend_from_slice(more);
        changes
    };
    vec![
        ("unknown instance type",            "weft_instance", vec![("instance_type", "w9.huge".into())]),
        ("type and numbers",                 "weft_instance", vec![("vcpus", 2.into()), ("memory_mib", 256.into())]),
        ("neither type nor numbers",         "weft_instance", vec![("instance_type", Value::Null)]),
        ("half of the numbers",              "weft_instance", vec![("instance_type", Value::Null), ("vcpus", 2.into())]),
        ("no such number of vCPUs",          "weft_instance", vec![("instance_type", Value::Null), ("vcpus", 0.into()), ("memory_mib", 256.into())]),
        ("wrong id prefix",                  "weft_instance", vec![("image_id", "sg-0123456789abcdef0".into())]),
        ("id of something else in a set",    "weft_instance", vec![("security_group_ids", strings(&["i-0123456789abcdef0"]))]),
        ("no security group",                "weft_instance", vec![("security_group_ids", Value::List(vec![]))]),
        ("name with outer spaces",           "weft_instance", vec![("name", " web".into())]),
        ("address that is none",             "weft_instance", vec![("private_ip", "172.31.0.256".into())]),
        ("user data above 64 KiB",           "weft_instance", vec![("user_data", "x".repeat(65_537).into())]),
        ("user data twice",                  "weft_instance", vec![("user_data_base64", "aGk=".into())]),
        ("user data that is not base64",     "weft_instance", vec![("user_data", Value::Null), ("user_data_base64", "hi there".into())]),
        ("unknown power state",              "weft_instance", vec![("power_state", "off".into())]),
        ("unknown use of tokens",            "weft_instance", vec![("metadata_options", metadata_options("http_tokens", "never".into()))]),
        ("unknown state of the endpoint",    "weft_instance", vec![("metadata_options", metadata_options("http_endpoint", "off".into()))]),
        ("no hops",                          "weft_instance", vec![("metadata_options", metadata_options("http_put_response_hop_limit", 0.into()))]),
        ("too many hops",                    "weft_instance", vec![("metadata_options", metadata_options("http_put_response_hop_limit", 65.into()))]),
        ("reports to a disabled endpoint",   "weft_instance", vec![("metadata_options", metadata_options("http_endpoint", "disabled".into())), ("wait_for", "cloud_init".into())]),
        ("unknown wait",                     "weft_instance", vec![("wait_for", "coffee".into())]),
        ("timeout that is no duration",      "weft_instance", vec![("timeouts", Value::object([("create", "10")]))]),
        ("empty public key",                 "weft_key_pair", vec![("public_key", " \n".into())]),
        ("private key",                      "weft_key_pair", vec![("public_key", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n".into())]),
        ("malformed public key",             "weft_key_pair", vec![("public_key", "ssh-ed25519 AAAAC3Nza me@home".into())]),
        ("two public keys",                  "weft_key_pair", vec![("public_key", format!("{0}\n{0}\n", crate::support::PUBLIC_KEY).into())]),
        ("name without a family",            "weft_instance_type", vec![("name", "large".into())]),
        ("name of Weft's own family",        "weft_instance_type", vec![("name", "w1.small".into())]),
        ("no vCPUs",                         "weft_instance_type", vec![("vcpus", 0.into())]),
        ("too little memory",                "weft_instance_type", vec![("memory_mib", 32.into())]),
        ("CIDR without prefix length",       rule,            vec![("cidr_ipv4", "192.0.2.7".into())]),
        ("CIDR with host bits",              rule,            vec![("cidr_ipv4", "192.0.2.7/24".into())]),
        ("from_port above to_port",          rule,            vec![("from_port", 81.into())]),
        ("port above 65535",                 rule,            vec![("to_port", 65_536.into())]),
        ("ports with -1",                    rule,            vec![("ip_protocol", "-1".into())]),
        ("no ports with tcp",                rule,            vec![("from_port", Value::Null), ("to_port", Value::Null)]),
        ("protocol by number",               rule,            vec![("ip_protocol", "6".into())]),
        ("protocol by the wrong name",       rule,            vec![("ip_protocol", "TCP".into())]),
        ("no peer",                          rule,            vec![("cidr_ipv4", Value::Null)]),
        ("two peers",                        rule,            vec![("referenced_security_group_id", "sg-0123456789abcdef0".into())]),
        ("IPv6 CIDR with host bits",         rule,            vec![("cidr_ipv4", Value::Null), ("cidr_ipv6", "2001:db8::1/32".into())]),
        ("ICMP with an IPv6 CIDR",           rule,            vec![("ip_protocol", "icmp".into()), ("from_port", 8.into()), ("to_port", 0.into()), ("cidr_ipv4", Value::Null), ("cidr_ipv6", "::/0".into())]),
        ("group that does not exist",        rule,            vec![("security_group_id", "sg-0123456789abcdef0".into())]),
        ("range of another size",            "weft_vpc",      vec![("cidr_block", "10.0.0.0/8".into())]),
        ("range of loopback",                "weft_vpc",      vec![("cidr_block", "127.0.0.0/16".into())]),
        ("range that is none",               "weft_vpc",      vec![("cidr_block", "10.0.0.0".into())]),
        ("unknown mode",                     "weft_vpc",      vec![("mode", "switched".into())]),
        ("bridge of a routed VPC",           "weft_vpc",      vec![("mode", Value::Null)]),
        ("bridge that is none",              "weft_vpc",      vec![("bridge_name", "the office".into())]),
        ("uplink of a routed VPC",           "weft_vpc",      vec![("mode", Value::Null), ("bridge_name", Value::Null), ("uplink", "eth1".into())]),
        ("uplink beside a bridge",           "weft_vpc",      vec![("uplink", "eth1".into())]),
        ("VLAN above 4094",                  "weft_vpc",      vec![("vlan_id", 4095.into())]),
        ("VLAN of nothing",                  "weft_vpc",      vec![("bridge_name", Value::Null)]),
        ("range of another size",            "weft_subnet",   vec![("cidr_block", "10.0.0.0/29".into())]),
        ("range with host bits",             "weft_subnet",   vec![("cidr_block", "10.0.0.1/24".into())]),
        ("gateway that is none",             "weft_subnet",   vec![("gateway_ip", "router".into())]),
        ("name server that is none",         "weft_subnet",   vec![("dns_servers", strings(&["10.0.0.53", "dns.lan"]))]),
        ("id of something else",             "weft_subnet",   vec![("vpc_id", "subnet-0123456789abcdef0".into())]),
        ("long description",                 "weft_security_group", vec![("description", "x".repeat(256).into())]),
        ("long tag key",                     "weft_security_group", vec![("tags", Value::object([("k".repeat(129), "v")]))]),
        ("image missing",                    "weft_image",    vec![("source_path", fake.directory.path().join("no.raw").to_str().unwrap().into())]),
        ("image at an empty path",           "weft_image",    vec![("source_path", "".into())]),
        ("image that is a directory",        "weft_image",    vec![("source_path", fake.directory.path().to_str().unwrap().into())]),
        ("image empty",                      "weft_image",    vec![("source_path", file("empty.raw", b""))]),
        ("image truncated",                  "weft_image",    vec![("source_path", file("short.qcow2", b"QFI\xfb\0\0\0\x03"))]),
        ("image with a backing file",        "weft_image",    vec![("source_path", file("backed.qcow2", &backed))]),
        ("image that is a web page",         "weft_image",    vec![("source_path", file("page.raw", b"<!DOCTYPE html><html>"))]),
        ("image that is compressed",         "weft_image",    vec![("source_path", file("disk.raw.xz", b"\xfd7zXZ\0\0\0"))]),
        ("image that is a kernel",           "weft_image",    vec![("source_path", file("kernel.raw", &bz_image(0)))]),
        ("kernel that is a program",         "weft_image",    vec![("kernel", file("vmlinux", b"\x7fELF\x02\x01"))]),
        ("kernel with bios",                 "weft_image",    vec![("boot_mode", "bios".into())]),
        ("direct_kernel without kernel",     "weft_image",    vec![("boot_mode", "direct_kernel".into()), ("kernel", Value::Null), ("initrd", Value::Null), ("kernel_cmdline", Value::Null)]),
        ("initrd without kernel",            "weft_image",    vec![("kernel", Value::Null), ("kernel_cmdline", Value::Null)]),
        ("user that is none",                "weft_image",    vec![("default_user", "Root User".into())]),
        ("image without a source",           "weft_image",    vec![("source_path", Value::Null)]),
        ("image with two sources",           "weft_image",    by_url(&[("source_path", file("disk.raw", b"x"))])),
        ("digest of a path",                 "weft_image",    vec![("sha256", sha256.into())]),
        ("URL without a digest",             "weft_image",    by_url(&[("sha256", Value::Null)])),
        ("digest that is none",              "weft_image",    by_url(&[("sha256", "sha1:abc".into())])),
        ("URL of a file",                    "weft_image",    by_url(&[("source_url", "file:///srv/disk.raw".into())])),
        ("URL by ftp",                       "weft_image",    by_url(&[("source_url", "ftp://mirror.example/disk.raw".into())])),
        ("URL without a scheme",             "weft_image",    by_url(&[("source_url", "mirror.example/disk.raw".into())])),
        ("path of a kernel beside a URL",    "weft_image",    by_url(&[("kernel", "./vmlinuz".into()), ("kernel_sha256", sha256.into())])),
        ("kernel by URL without a digest",   "weft_image",    by_url(&[("kernel", "https://mirror.example/vmlinuz".into())])),
        ("digest without a kernel",          "weft_image",    by_url(&[("kernel_sha256", sha256.into())])),
        ("URL that the agent refuses",       "weft_image",    by_url(&[])),
    ]
}

#[tokio::test]
async fn each_bad_input_is_told_as_in_the_golden_file() {
    let (terraform, fake) = connected().await;
    let mut text = String::new();
    for (name, type_name, changes) in cases(&fake) {
        let mut config = full(type_name, &terraform, &fake).await;
        for (path, value) in changes {
            config = with(&config, path, value);
        }
        let (when, diagnostics) = outcome(&terraform, type_name, config).await;
        assert!(diagnostics.has_errors(), "{name} is accepted");
        writeln!(text, "== {type_name}: {name} [{when}]").unwrap();
        render(&diagnostics, fake.directory.path(), &mut text);
        text.push('\n');
    }
    provider_cases(&fake, &mut text).await;
    compare(&text);
}

async fn provider_cases(fake: &Fake, text: &mut String) {
    let nobody = format!("unix://{}", fake.directory.path().join("nobody.sock").display());
    let stale = fake.directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let stale = format!("unix://{}", stale.display());
    let agent_of = |file: &str, oldest, newest| {
        let socket = fake.directory.path().join(file);
        (format!("unix://{}", socket.display()), agent_of_api_versions(&socket, oldest, newest))
    };
    let (newer, _newer) = agent_of("newer.sock", API_VERSION + 1, API_VERSION + 2);
    let (older, _older) = agent_of("older.sock", 0, API_VERSION - 1);
    for (name, endpoint) in [
        ("endpoint without a scheme", "/run/weft/agent.sock"),
        ("endpoint by TCP", "https://weft.lan:7443"),
        ("agent not started", nobody.as_str()),
        ("agent that has ended", stale.as_str()),
        ("agent of a newer API", newer.as_str()),
        ("agent of an older API", older.as_str()),
    ] {
        let terraform = Terraform::new(terraform_provider_weft::Weft::new(None));
        let configured = terraform
            .configure(attributes([
                ("endpoint", endpoint.into()),
                ("request_timeout", "1s".into()),
            ]))
            .await;
        let (when, diagnostics) = match configured {
            Err(diagnostics) => ("plan", diagnostics),
            Ok(_) => {
                let config = attributes([
                    ("key_name", "me".into()),
                    ("public_key", crate::support::PUBLIC_KEY.into()),
                ]);
                outcome(&terraform, "weft_key_pair", config).await
            }
        };
        writeln!(text, "== provider: {name} [{when}]").unwrap();
        render(&diagnostics, fake.directory.path(), text);
        text.push('\n');
    }
}

fn compare(text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (got, want)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(got, want, "{GOLDEN}:{}; UPDATE_GOLDEN=1 writes it anew", number + 1);
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "{GOLDEN} has another length");
}
