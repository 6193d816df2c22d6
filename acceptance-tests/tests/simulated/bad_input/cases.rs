//! The mistakes.

use anyhow::Result;
use weft_acceptance::Lab;

use crate::module::{PUBLIC_KEY, image};

/// Where a mistake must be noticed at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fails {
    /// In the plan: the configuration alone shows it.
    InPlan,
    /// Before anything of that resource is made.
    InApply,
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Applied first, successfully.
    pub(crate) before: String,
    /// Added then.
    pub(crate) hcl: String,
    /// The part of it that is worth showing.
    pub(crate) shown: String,
    pub(crate) fails: Fails,
}

impl Case {
    pub(crate) fn new(name: &'static str, fails: Fails, hcl: impl Into<String>) -> Self {
        let hcl = hcl.into();
        let shown = hcl.clone();
        Self { name, before: String::new(), hcl, shown, fails }
    }

    /// With things that the mistake refers to and that are not shown.
    pub(super) fn with(mut self, more: &str) -> Self {
        self.hcl.push_str(more);
        self
    }

    pub(super) fn after(mut self, before: String) -> Self {
        self.before = before;
        self
    }
}

pub(crate) fn all() -> Vec<Case> {
    let of_networks = [prefix_lists(), networks(), routes()].concat();
    [keys(), instance_types(), references_and_rules(), of_networks, volumes()].concat()
}

/// The agent of these has no root key.
fn volumes() -> Vec<Case> {
    let bad = |name, fails, more: &str| {
        let body = format!("size_gib  = 1\n  encrypted = true{more}");
        Case::new(name, fails, format!("resource \"weft_volume\" \"bad\" {{\n  {body}\n}}\n"))
    };
    vec![
        bad("an encrypted volume where the agent has no root key", Fails::InPlan, ""),
        bad(
            "an encrypted volume of an image",
            Fails::InPlan,
            "\n  image_id  = \"img-0123456789abcdef0\"",
        ),
        Case::new(
            "a volume in a pool that there is not",
            Fails::InPlan,
            "resource \"weft_volume\" \"bad\" {\n  size_gib = 1\n  type     = \"gp3\"\n}\n",
        ),
    ]
}

fn instance(name: &str, body: &str) -> String {
    format!(
        "resource \"weft_instance\" \"{name}\" {{\n  image_id = weft_image.it.id\n  {}\n}}\n",
        body.trim().replace('\n', "\n  ")
    )
}

pub(crate) fn instances(lab: &Lab) -> Result<Vec<Case>> {
    let image = image(lab)?;
    let bad = |name, fails, body: &str| Case::new(name, fails, instance("bad", body)).with(&image);
    let typed = |rest: &str| format!("instance_type = \"w1.nano\"\n{rest}");
    let neighbour = instance("neighbour", &typed("private_ip = \"172.31.7.7\""));
    let mut taken = bad(
        "a static address that another instance has",
        Fails::InApply,
        &typed("private_ip = \"172.31.7.7\""),
    );
    taken.hcl = taken.shown.clone();
    let mut greedy =
        bad("more memory than the host has", Fails::InApply, "vcpus = 1\nmemory_mib = 4194304");
    greedy.hcl = greedy.shown.clone();
    Ok(vec![
        bad("an unknown instance type", Fails::InApply, "instance_type = \"t3.micro\""),
        bad("a misspelt instance type", Fails::InApply, "instance_type = \"build.lrage\"")
            .after(instance_type("build", "build.large")),
        bad(
            "both an instance type and vcpus",
            Fails::InPlan,
            &typed("vcpus = 2\nmemory_mib = 512"),
        ),
        bad("neither an instance type nor vcpus", Fails::InPlan, "name = \"bad\""),
        bad("vcpus without memory", Fails::InPlan, "vcpus = 2"),
        bad(
            "user data of more than 64 KiB",
            Fails::InPlan,
            &typed("user_data = format(\"%070000d\", 0)"),
        ),
        bad(
            "user data that is not base64",
            Fails::InPlan,
            &typed("user_data_base64 = \"not base64!\""),
        ),
        bad(
            "a static address outside the subnet",
            Fails::InApply,
            &typed("private_ip = \"10.99.0.5\""),
        ),
        bad("a reserved static address", Fails::InApply, &typed("private_ip = \"172.31.0.1\"")),
        bad(
            "a static address outside a subnet that is there",
            Fails::InPlan,
            &typed("subnet_id = weft_subnet.lab.id\nprivate_ip = \"10.20.2.9\""),
        )
        .after(LAB_SUBNET.to_owned()),
        bad(
            "a group of another VPC than the subnet's",
            Fails::InPlan,
            &typed(
                "subnet_id = weft_subnet.lab.id\nsecurity_group_ids = [weft_security_group.web.id]",
            ),
        )
        .after(format!("{LAB_SUBNET}{WEB_GROUP}")),
        taken.after(format!("{image}{neighbour}")),
        bad("no address at all", Fails::InPlan, &typed("private_ip = \"172.31.0.300\"")),
        greedy.after(format!("{image}{neighbour}")),
        bad("no security group at all", Fails::InPlan, &typed("security_group_ids = []")),
        bad("a key pair that does not exist", Fails::InApply, &typed("key_names = [\"nobody\"]")),
        bad(
            "a hop limit that is none",
            Fails::InPlan,
            &typed("metadata_options = { http_put_response_hop_limit = 65 }"),
        ),
        bad(
            "a wait for reports that are refused",
            Fails::InPlan,
            &typed("metadata_options = { http_endpoint = \"disabled\" }\nwait_for = \"signal\""),
        ),
        bad("a wait for nothing known", Fails::InPlan, &typed("wait_for = \"login\"")),
        bad("a duration that is none", Fails::InPlan, &typed("timeouts = { create = \"soon\" }")),
    ])
}

const LAB_SUBNET: &str = r#"
resource "weft_vpc" "lab" {
  name       = "lab"
  cidr_block = "10.20.0.0/16"
}

resource "weft_subnet" "lab" {
  name       = "lab"
  vpc_id     = weft_vpc.lab.id
  cidr_block = "10.20.1.0/24"
}
"#;

/// In the default VPC.
const WEB_GROUP: &str = r#"
resource "weft_security_group" "web" {
  name = "web"
}
"#;

fn keys() -> Vec<Case> {
    let case = |name, key: &str| {
        let hcl = format!(
            "resource \"weft_key_pair\" \"bad\" {{\n  key_name   = \"bad\"\n  public_key = {key}\n}}\n"
        );
        Case::new(name, Fails::InPlan, hcl)
    };
    let private = "<<-KEY\n    -----BEGIN OPENSSH PRIVATE KEY-----\n    b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n    -----END OPENSSH PRIVATE KEY-----\n  KEY";
    let cut = format!("\"{}\"", &PUBLIC_KEY[..40]);
    vec![
        case("a malformed public key", &cut),
        case("a private key", private),
        case("an empty public key", "\"\""),
    ]
}

fn instance_type(label: &str, name: &str) -> String {
    format!(
        "resource \"weft_instance_type\" \"{label}\" {{\n  name       = \"{name}\"\n  vcpus      = 2\n  \
         memory_mib = 512\n}}\n"
    )
}

fn instance_types() -> Vec<Case> {
    let case = |name, fails, kind| Case::new(name, fails, instance_type("bad", kind));
    vec![
        case("the name of a built-in instance type", Fails::InPlan, "w1.small"),
        case("an instance type without a family", Fails::InPlan, "large"),
        case("an instance type that exists already", Fails::InApply, "build.large")
            .after(instance_type("it", "build.large")),
    ]
}

fn rule(body: &str) -> String {
    format!(
        "resource \"weft_security_group_ingress_rule\" \"bad\" {{\n  \
         security_group_id = weft_security_group.it.id\n  {}\n}}\n",
        body.trim().replace('\n', "\n  ")
    )
}

const GROUP: &str = "resource \"weft_security_group\" \"it\" {\n  name = \"it\"\n}\n";

fn references_and_rules() -> Vec<Case> {
    let bad = |name, body: &str| Case::new(name, Fails::InPlan, rule(body)).with(GROUP);
    let open = "cidr_ipv4 = \"0.0.0.0/0\"";
    let wrong_prefix = "resource \"weft_security_group_ingress_rule\" \"bad\" {\n  \
        security_group_id = \"vpc-11111111111111111\"\n  ip_protocol = \"-1\"\n  \
        cidr_ipv4 = \"0.0.0.0/0\"\n}\n";
    let unknown_group = wrong_prefix.replace("vpc-", "sg-");
    let instance = "resource \"weft_instance\" \"bad\" {\n  image_id      = \
        \"ami-11111111111111111\"\n  instance_type = \"w1.nano\"\n}\n";
    vec![
        Case::new("an id of the wrong kind", Fails::InPlan, wrong_prefix),
        Case::new("an image's id from another cloud", Fails::InPlan, instance),
        Case::new("a group that does not exist", Fails::InApply, unknown_group),
        bad("a range that is none", "ip_protocol = \"-1\"\ncidr_ipv4 = \"10.0.0.0/33\""),
        bad("a range with host bits", "ip_protocol = \"-1\"\ncidr_ipv4 = \"10.0.0.1/8\""),
        bad(
            "from_port above to_port",
            &format!("ip_protocol = \"tcp\"\nfrom_port = 90\nto_port = 80\n{open}"),
        ),
        bad(
            "a port that is none",
            &format!("ip_protocol = \"tcp\"\nfrom_port = 80\nto_port = 70000\n{open}"),
        ),
        bad(
            "ports with all protocols",
            &format!("ip_protocol = \"-1\"\nfrom_port = 80\nto_port = 80\n{open}"),
        ),
        bad(
            "a protocol by its number",
            &format!("ip_protocol = \"6\"\nfrom_port = 80\nto_port = 80\n{open}"),
        ),
        bad("a protocol by a wrong name", &format!("ip_protocol = \"http\"\n{open}")),
        bad("no peer", "ip_protocol = \"-1\""),
        bad(
            "two peers",
            &format!(
                "ip_protocol = \"-1\"\n{open}\n\
                 referenced_security_group_id = \"sg-11111111111111111\""
            ),
        ),
    ]
}

fn prefix_lists() -> Vec<Case> {
    let list = |name, fails, family: &str, entries: &str| {
        let hcl = format!(
            "resource \"weft_prefix_list\" \"bad\" {{\n  name           = \"bad\"\n  \
             address_family = \"{family}\"\n  entries        = {entries}\n}}\n"
        );
        Case::new(name, fails, hcl)
    };
    let (plan, apply) = (Fails::InPlan, Fails::InApply);
    let no_list = rule("ip_protocol    = \"-1\"\nprefix_list_id = \"pl-11111111111111111\"");
    let twice = "[{ cidr = \"10.0.0.0/8\", description = \"a\" }, { cidr = \"10.0.0.0/8\" }]";
    vec![
        list("a prefix list of no family", plan, "IPv5", "[]"),
        list("a prefix list of another family", plan, "IPv6", "[{ cidr = \"10.0.0.0/8\" }]"),
        list("an entry with host bits", plan, "IPv4", "[{ cidr = \"10.0.0.1/8\" }]"),
        list("an entry twice", plan, "IPv4", twice),
        list(
            "a prefix list that is too long",
            plan,
            "IPv4",
            "[for n in range(1001) : { cidr = cidrsubnet(\"10.0.0.0/8\", 16, n) }]",
        ),
        Case::new("a prefix list that does not exist", apply, no_list).with(GROUP),
    ]
}

fn networks() -> Vec<Case> {
    let block = |kind: &str, name: &str, body: &str| {
        let body = body.trim().replace('\n', "\n  ");
        format!("resource \"{kind}\" \"{name}\" {{\n  {body}\n}}\n")
    };
    let vpc = |name, body: &str| Case::new(name, Fails::InPlan, block("weft_vpc", "bad", body));
    let lab = block("weft_vpc", "it", "name       = \"it\"\ncidr_block = \"10.0.0.0/16\"");
    let first = block(
        "weft_subnet",
        "first",
        "name       = \"first\"\nvpc_id     = weft_vpc.it.id\ncidr_block = \"10.0.1.0/24\"",
    );
    let subnet = |name, body: &str| {
        let body = format!("name       = \"bad\"\nvpc_id     = weft_vpc.it.id\n{body}");
        Case::new(name, Fails::InPlan, block("weft_subnet", "bad", &body))
            .after(format!("{lab}{first}"))
    };
    let second = block(
        "weft_subnet",
        "bad",
        "name       = \"bad\"\nvpc_id     = weft_vpc.it.id\ncidr_block = \"10.0.1.128/25\"\ndepends_on = [weft_subnet.first]",
    );
    let both = format!("{first}\n{second}");
    let mut at_once = Case::new("subnets over each other", Fails::InPlan, both.clone());
    at_once.before.clone_from(&lab);
    let all_new = format!("{lab}\n{both}");
    let lan = block(
        "weft_vpc",
        "lan",
        "name       = \"lan\"\ncidr_block = \"10.9.0.0/16\"\nmode       = \"bridge\"",
    );
    let desks = block(
        "weft_subnet",
        "desks",
        "name       = \"desks\"\nvpc_id     = weft_vpc.lan.id\ncidr_block = \"10.9.1.0/24\"",
    );
    let unchecked = block(
        "weft_network_interface",
        "bad",
        "name              = \"bad\"\nsubnet_id         = weft_subnet.desks.id\nsource_dest_check = false",
    );
    let unchecked = Case::new("an unchecked guest of a bridge", Fails::InPlan, unchecked)
        .after(format!("{lan}{desks}"));
    let outside = block(
        "weft_subnet",
        "bad",
        "name       = \"bad\"\nvpc_id     = weft_vpc.it.id\ncidr_block = \"10.1.0.0/24\"",
    );
    let outside = format!("{lab}\n{outside}");
    vec![
        vpc("a VPC that is too large", "name       = \"bad\"\ncidr_block = \"10.0.0.0/8\""),
        vpc("a VPC over the public pool", "name       = \"bad\"\ncidr_block = \"198.18.0.0/20\""),
        unchecked,
        vpc("a link-local VPC", "name       = \"bad\"\ncidr_block = \"169.254.0.0/16\""),
        vpc(
            "an unknown mode",
            "name       = \"bad\"\ncidr_block = \"10.0.0.0/16\"\nmode       = \"nat\"",
        ),
        vpc(
            "a routed VPC on a bridge",
            "name        = \"bad\"\ncidr_block  = \"10.0.0.0/16\"\nbridge_name = \"br0\"",
        ),
        vpc(
            "a bridge and an uplink at once",
            "name        = \"bad\"\ncidr_block  = \"10.0.0.0/16\"\nmode        = \"bridge\"\nbridge_name = \"br0\"\nuplink      = \"eth1\"",
        ),
        vpc(
            "a VLAN that there is not",
            "name       = \"bad\"\ncidr_block = \"10.0.0.0/16\"\nmode       = \"bridge\"\nuplink     = \"eth1\"\nvlan_id    = 4095",
        ),
        vpc(
            "a VLAN of nothing",
            "name       = \"bad\"\ncidr_block = \"10.0.0.0/16\"\nmode       = \"bridge\"\nvlan_id    = 20",
        ),
        subnet("a subnet outside of its VPC", "cidr_block = \"10.1.0.0/24\""),
        Case {
            fails: Fails::InApply,
            ..subnet("a subnet over another one", "cidr_block = \"10.0.1.128/25\"")
        },
        at_once,
        Case::new("a subnet outside of a new VPC", Fails::InApply, outside),
        Case::new("subnets over each other in a new VPC", Fails::InPlan, all_new),
        subnet(
            "a gateway that guests would get",
            "cidr_block = \"10.0.2.0/24\"\ngateway_ip = \"10.0.2.200\"",
        ),
    ]
}

fn routes() -> Vec<Case> {
    let table = |name, fails, routes: &str| {
        let hcl = format!(
            "resource \"weft_route_table\" \"bad\" {{\n  name   = \"bad\"\n  vpc_id = weft_vpc.lab.id\n  routes = [{routes}]\n}}\n"
        );
        Case::new(name, fails, hcl).after(LAB_SUBNET.to_owned())
    };
    let used = "
resource \"weft_route_table\" \"used\" {
  name   = \"used\"
  vpc_id = weft_vpc.lab.id
  routes = []
}

resource \"weft_route_table_association\" \"used\" {
  route_table_id = weft_route_table.used.id
  subnet_id      = weft_subnet.lab.id
}
";
    let second = "resource \"weft_route_table\" \"bad\" {
  name   = \"bad\"
  vpc_id = weft_vpc.lab.id
  routes = []
}

resource \"weft_route_table_association\" \"bad\" {
  route_table_id = weft_route_table.bad.id
  subnet_id      = weft_subnet.lab.id
}
";
    vec![
        table("a route to nowhere", Fails::InPlan, "{ cidr_block = \"0.0.0.0/0\" }"),
        table(
            "a route to two targets",
            Fails::InPlan,
            "{ cidr_block = \"0.0.0.0/0\", blackhole = true, instance_id = \"i-11111111111111111\" }",
        ),
        table(
            "a route inside of the VPC",
            Fails::InApply,
            "{ cidr_block = \"10.20.9.0/24\", blackhole = true }",
        ),
        table(
            "a route to an instance that does not exist",
            Fails::InApply,
            "{ cidr_block = \"0.0.0.0/0\", instance_id = \"i-11111111111111111\" }",
        ),
        Case::new("a second route table of a subnet", Fails::InApply, second)
            .after(format!("{LAB_SUBNET}{used}")),
    ]
}

/// Mistakes with an agent's endpoint.
pub(crate) fn agents() -> Vec<Case> {
    let with = |name, endpoint: &str| {
        let hcl = format!(
            "provider \"weft\" {{\n  endpoint = \"{endpoint}\"\n}}\n\ndata \"weft_host\" \"this\" \
             {{}}\n"
        );
        Case::new(name, Fails::InPlan, hcl)
    };
    vec![
        with("no agent at the endpoint", "unix:///nonexistent/agent.sock"),
        with("an endpoint that nobody listens on", "unix:///dev/null"),
        with("an endpoint in an unknown form", "ftp://agent"),
    ]
}
