//! Makes random valid configurations: an image, keys and types, networks, groups and instances;
//! [`super::beside`] adds what lies beside instances.
//!
//! To teach it a new resource: write a method that pushes it with `put`, and call it in `add`. To
//! teach it a new attribute: one more `sometimes` in the method of its resource.

use anyhow::Result;
use serde_json::{Map, Value, json};
use weft_acceptance::Lab;

use crate::dice::Dice;
use crate::module::{OTHER_PUBLIC_KEY, PUBLIC_KEY, disk};

pub(super) type Attributes = Map<String, Value>;

/// A root module in the making.
pub(super) struct Generator<'a> {
    lab: &'a Lab,
    pub(super) dice: &'a mut Dice,
    resources: Map<String, Value>,
    prefix: String,
    pub(super) count: usize,
    /// Of the configuration's image.
    min_disk_gib: u64,
}

/// Where instances and groups may be.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) vpc: Option<String>,
    /// Its guests' packets are routed by somebody else.
    pub(super) is_bridge: bool,
    pub(super) subnets: Vec<Range>,
}

/// A subnet and the first two numbers and the third of its /24.
#[derive(Clone)]
pub(super) struct Range {
    pub(super) subnet: String,
    network: String,
}

pub(super) fn reference(kind: &str, name: &str, attribute: &str) -> String {
    format!("${{{kind}.{name}.{attribute}}}")
}

impl<'a> Generator<'a> {
    pub(super) fn new(lab: &'a Lab, dice: &'a mut Dice) -> Self {
        Self { lab, dice, resources: Map::new(), prefix: String::new(), count: 0, min_disk_gib: 0 }
    }

    pub(super) fn finish(self) -> Value {
        json!({ "resource": self.resources })
    }

    /// Adds one configuration, whose names begin with `prefix`.
    pub(super) fn add(&mut self, prefix: &str) -> Result<()> {
        prefix.clone_into(&mut self.prefix);
        let image = self.image()?;
        let keys: Vec<String> = (0..self.dice.roll(3)).map(|_| self.key_pair()).collect();
        let types: Vec<String> = (0..self.dice.roll(2)).map(|_| self.instance_type()).collect();
        let places: Vec<Place> =
            std::iter::once(Place { vpc: None, is_bridge: false, subnets: Vec::new() })
                .chain((0..self.dice.roll(2)).map(|_| self.vpc()).collect::<Vec<_>>())
                .collect();
        if self.dice.one_in(3) {
            self.prefix_list();
        }
        for place in &places {
            let groups: Vec<String> =
                (0..self.dice.roll(3)).map(|_| self.security_group(place)).collect();
            for group in &groups {
                for _ in 0..self.dice.roll(3) {
                    self.rule(group, &groups);
                }
            }
            for number in 0..self.dice.roll(3) {
                let made = self.instance(&image, (&keys, &types), &groups, place, number);
                if let Some(instance) = made {
                    self.beside(&instance, place);
                }
            }
            if self.dice.one_in(3) {
                self.route_table(place);
            }
        }
        Ok(())
    }

    pub(super) fn put(&mut self, kind: &str, attributes: Attributes) -> String {
        self.count += 1;
        let name = format!("{}_{}", self.prefix, self.count);
        let of_kind = self.resources.entry(kind).or_insert_with(|| json!({}));
        of_kind[&name] = Value::Object(attributes);
        name
    }

    pub(super) fn name(&mut self) -> String {
        let odd = ["web", "Über-server", "with spaces", "a\"quote", "dots.and-dashes", "x"];
        format!("{} {}", self.prefix, self.dice.pick(&odd))
    }

    /// Sets an attribute in one of two cases.
    pub(super) fn sometimes(
        &mut self,
        attributes: &mut Attributes,
        name: &str,
        value: impl FnOnce(&mut Dice) -> Value,
    ) {
        if self.dice.one_in(2) {
            attributes.insert(name.to_owned(), value(self.dice));
        }
    }

    pub(super) fn tags(&mut self, attributes: &mut Attributes) {
        self.sometimes(attributes, "tags", |dice| {
            let count = dice.roll(4);
            let tag = |n| (format!("key {n}"), json!(["", "a", "ü ö", "\"x\""][n as usize % 4]));
            Value::Object((0..count).map(tag).collect())
        });
    }

    fn image(&mut self) -> Result<String> {
        let name = self.name();
        let file = format!("{}.raw", self.prefix);
        let fill = u8::try_from(self.dice.roll(4))?;
        let mut it = Attributes::new();
        it.insert("name".into(), json!(name));
        it.insert("source_path".into(), json!(disk(self.lab, &file, fill)?));
        it.insert("default_user".into(), json!("weft"));
        self.tags(&mut it);
        self.sometimes(&mut it, "boot_mode", |_| json!("bios"));
        self.sometimes(&mut it, "architecture", |_| json!("x86_64"));
        self.sometimes(&mut it, "min_memory_mib", |dice| json!(dice.roll(100)));
        self.min_disk_gib = self.dice.roll(2);
        it.insert("min_disk_gib".into(), json!(self.min_disk_gib));
        Ok(self.put("weft_image", it))
    }

    fn key_pair(&mut self) -> String {
        let mut it = Attributes::new();
        // Names of key pairs are unique.
        it.insert("key_name".into(), json!(format!("{} {}", self.name(), self.count)));
        let public_key = *self.dice.pick(&[PUBLIC_KEY, OTHER_PUBLIC_KEY]);
        it.insert("public_key".into(), json!(public_key));
        self.tags(&mut it);
        self.put("weft_key_pair", it)
    }

    fn instance_type(&mut self) -> String {
        let mut it = Attributes::new();
        // Unique, and of lowercase letters and digits.
        let family: String = self.prefix.chars().filter(char::is_ascii_alphanumeric).collect();
        let name = format!("{}.t{}", family.to_ascii_lowercase(), self.count);
        it.insert("name".into(), json!(name));
        it.insert("vcpus".into(), json!(1 + self.dice.roll(4)));
        it.insert("memory_mib".into(), json!(128 + self.dice.roll(1000)));
        self.tags(&mut it);
        self.put("weft_instance_type", it)
    }

    fn vpc(&mut self) -> Place {
        let (name, second) = (self.name(), self.dice.roll(200));
        let mut it = Attributes::new();
        it.insert("name".into(), json!(name));
        it.insert("cidr_block".into(), json!(format!("10.{second}.0.0/16")));
        self.sometimes(&mut it, "mode", |dice| json!(dice.pick(&["routed", "bridge"])));
        let is_bridge = it.get("mode") == Some(&json!("bridge"));
        self.tags(&mut it);
        let vpc = self.put("weft_vpc", it);
        let subnets = (0..self.dice.roll(3)).map(|third| self.subnet(&vpc, second, third));
        let subnets = subnets.collect::<Vec<_>>();
        Place { vpc: Some(vpc), is_bridge, subnets }
    }

    fn subnet(&mut self, vpc: &str, second: u64, third: u64) -> Range {
        let network = format!("10.{second}.{third}");
        let mut it = Attributes::new();
        it.insert("name".into(), json!(self.name()));
        it.insert("vpc_id".into(), json!(reference("weft_vpc", vpc, "id")));
        it.insert("cidr_block".into(), json!(format!("{network}.0/24")));
        self.sometimes(&mut it, "dns_servers", |dice| {
            json!(["9.9.9.9", "1.1.1.1"][..1 + dice.roll(2) as usize])
        });
        self.tags(&mut it);
        Range { subnet: self.put("weft_subnet", it), network }
    }

    fn security_group(&mut self, place: &Place) -> String {
        let mut it = Attributes::new();
        it.insert("name".into(), json!(self.name()));
        if let Some(vpc) = &place.vpc {
            it.insert("vpc_id".into(), json!(reference("weft_vpc", vpc, "id")));
        }
        self.sometimes(&mut it, "description", |dice| json!(dice.pick(&["", "what for"])));
        self.sometimes(&mut it, "allow_all_egress", |dice| json!(dice.one_in(2)));
        self.tags(&mut it);
        self.put("weft_security_group", it)
    }

    fn rule(&mut self, group: &str, groups: &[String]) {
        let id = |group: &str| json!(reference("weft_security_group", group, "id"));
        let mut it = Attributes::new();
        it.insert("security_group_id".into(), id(group));
        match self.dice.roll(4) {
            0 => drop(it.insert("ip_protocol".into(), json!("-1"))),
            1 => {
                it.insert("ip_protocol".into(), json!("icmp"));
                it.insert("from_port".into(), json!(-1));
                it.insert("to_port".into(), json!(-1));
            }
            _ => {
                let (from, more) = (self.dice.roll(60_000), self.dice.roll(5_000));
                it.insert("ip_protocol".into(), json!(self.dice.pick(&["tcp", "udp"])));
                it.insert("from_port".into(), json!(from));
                it.insert("to_port".into(), json!(from + more));
            }
        }
        // An equal rule is one too many: the range is the rule's own.
        match self.dice.one_in(3) {
            true => {
                let other = self.dice.pick(groups).clone();
                it.insert("referenced_security_group_id".into(), id(&other));
            }
            false => {
                let range = format!("10.{}.{}.0/24", self.count % 256, self.dice.roll(256));
                it.insert("cidr_ipv4".into(), json!(range));
            }
        }
        self.sometimes(&mut it, "description", |_| json!("why"));
        self.tags(&mut it);
        let kind = *self.dice.pick(&["ingress", "egress"]);
        self.put(&format!("weft_security_group_{kind}_rule"), it);
    }

    fn instance(
        &mut self,
        image: &str,
        (keys, types): (&[String], &[String]),
        groups: &[String],
        place: &Place,
        number: u64,
    ) -> Option<String> {
        if place.vpc.is_some() && place.subnets.is_empty() {
            return None;
        }
        let mut it = Attributes::new();
        it.insert("image_id".into(), json!(reference("weft_image", image, "id")));
        let name = self.name();
        self.sometimes(&mut it, "name", |_| json!(name));
        match self.dice.one_in(2) {
            true => {
                let own = |name: &String| reference("weft_instance_type", name, "name");
                let built_in = ["w1.nano", "w1.micro"].map(str::to_owned);
                let types: Vec<_> = built_in.into_iter().chain(types.iter().map(own)).collect();
                it.insert("instance_type".into(), json!(self.dice.pick(&types)));
            }
            false => {
                it.insert("vcpus".into(), json!(1 + self.dice.roll(4)));
                it.insert("memory_mib".into(), json!(128 + self.dice.roll(1000)));
            }
        }
        if !place.subnets.is_empty() {
            let range = self.dice.pick(&place.subnets).clone();
            it.insert("subnet_id".into(), json!(reference("weft_subnet", &range.subnet, "id")));
            // From the far end: the lowest are given out to those that name none.
            let address = format!("{}.{}", range.network, 200 + number);
            self.sometimes(&mut it, "private_ip", |_| json!(address));
        }
        let all = |kind: &str, names: &[String], attribute: &str| -> Value {
            names.iter().map(|name| reference(kind, name, attribute)).collect()
        };
        if !groups.is_empty() {
            let ids = all("weft_security_group", groups, "id");
            self.sometimes(&mut it, "security_group_ids", |_| ids);
        }
        let names = all("weft_key_pair", keys, "key_name");
        self.sometimes(&mut it, "key_names", |_| names);
        match self.dice.roll(4) {
            0 => drop(it.insert("user_data".into(), json!("#!/bin/sh\necho ${\"$\"}{x} ü\n"))),
            1 => drop(it.insert("user_data_base64".into(), json!("IyEvYmluL3NoCg=="))),
            _ => {}
        }
        self.sometimes(&mut it, "user_data_replace_on_change", |dice| json!(dice.one_in(2)));
        if self.min_disk_gib > 0 || self.dice.one_in(2) {
            it.insert("root_volume".into(), json!({ "size_gib": 1 + self.dice.roll(3) }));
        }
        self.sometimes(&mut it, "power_state", |dice| {
            json!(dice.pick(&["running", "stopped", "unmanaged"]))
        });
        self.sometimes(&mut it, "wait_for", |dice| json!(dice.pick(&["none", "running", "ssh"])));
        self.sometimes(&mut it, "timeouts", |_| json!({ "create": "3m" }));
        self.sometimes(&mut it, "metadata_options", |dice| {
            let tokens = dice.pick(&["required", "optional"]);
            json!({ "http_tokens": tokens, "http_put_response_hop_limit": 1 + dice.roll(64) })
        });
        self.tags(&mut it);
        Some(self.put("weft_instance", it))
    }
}
