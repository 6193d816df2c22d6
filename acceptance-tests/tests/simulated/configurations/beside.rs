//! What lies beside instances: disks, interfaces, public addresses, routes.

use serde_json::{Value, json};

use super::generator::{Attributes, Generator, Place, reference};

/// The first port of the host that is forwarded; each forward has one of its own.
const FIRST_PORT: usize = 10_000;

impl Generator<'_> {
    /// Things that need `instance`, which is in `place`.
    pub(super) fn beside(&mut self, instance: &str, place: &Place) {
        for _ in 0..self.dice.roll(3) {
            let volume = self.volume();
            if self.dice.one_in(2) {
                self.attach_volume(instance, &volume);
            }
            if self.dice.one_in(3) {
                self.snapshot(&volume);
            }
        }
        if !place.subnets.is_empty() && self.dice.one_in(2) {
            let interface = self.network_interface(place);
            self.attach_interface(instance, &interface);
        }
        // The default VPC is a routed one.
        if place.vpc.is_none() {
            if self.dice.one_in(2) {
                let address = self.elastic_ip();
                self.associate(instance, &address);
            }
            if self.dice.one_in(2) {
                self.port_forward(instance);
            }
        }
    }

    fn named(&mut self) -> Attributes {
        let mut it = Attributes::new();
        it.insert("name".into(), json!(self.name()));
        it
    }

    fn volume(&mut self) -> String {
        let mut it = self.named();
        it.insert("size_gib".into(), json!(1 + self.dice.roll(20)));
        self.sometimes(&mut it, "iops", |dice| json!(100 + dice.roll(1000)));
        self.sometimes(&mut it, "throughput_mibps", |dice| json!(1 + dice.roll(100)));
        self.tags(&mut it);
        self.put("weft_volume", it)
    }

    fn attach_volume(&mut self, instance: &str, volume: &str) {
        let mut it = Attributes::new();
        it.insert("instance_id".into(), id("weft_instance", instance));
        it.insert("volume_id".into(), id("weft_volume", volume));
        self.put("weft_volume_attachment", it);
    }

    fn snapshot(&mut self, volume: &str) {
        let mut it = Attributes::new();
        it.insert("volume_id".into(), id("weft_volume", volume));
        self.sometimes(&mut it, "description", |dice| {
            json!(dice.pick(&["", "before the upgrade"]))
        });
        self.tags(&mut it);
        self.put("weft_snapshot", it);
    }

    fn network_interface(&mut self, place: &Place) -> String {
        let mut it = self.named();
        let range = self.dice.pick(&place.subnets).clone();
        it.insert("subnet_id".into(), id("weft_subnet", &range.subnet));
        self.tags(&mut it);
        self.put("weft_network_interface", it)
    }

    fn attach_interface(&mut self, instance: &str, interface: &str) {
        let mut it = Attributes::new();
        it.insert("instance_id".into(), id("weft_instance", instance));
        it.insert("network_interface_id".into(), id("weft_network_interface", interface));
        self.sometimes(&mut it, "device_index", |dice| json!(1 + dice.roll(3)));
        self.put("weft_network_interface_attachment", it);
    }

    fn elastic_ip(&mut self) -> String {
        let mut it = Attributes::new();
        let name = self.name();
        self.sometimes(&mut it, "name", |_| json!(name));
        self.tags(&mut it);
        self.put("weft_elastic_ip", it)
    }

    fn associate(&mut self, instance: &str, address: &str) {
        let mut it = Attributes::new();
        it.insert("elastic_ip_id".into(), id("weft_elastic_ip", address));
        it.insert("instance_id".into(), id("weft_instance", instance));
        self.put("weft_elastic_ip_association", it);
    }

    fn port_forward(&mut self, instance: &str) {
        let mut it = self.named();
        it.insert("protocol".into(), json!(self.dice.pick(&["tcp", "udp"])));
        it.insert("host_port".into(), json!(FIRST_PORT + self.count));
        it.insert("target_port".into(), json!(1 + self.dice.roll(60_000)));
        it.insert("instance_id".into(), id("weft_instance", instance));
        self.tags(&mut it);
        self.put("weft_port_forward", it);
    }

    pub(super) fn prefix_list(&mut self) {
        let mut it = self.named();
        let count = self.dice.roll(4);
        let entry = |n| json!({ "cidr": format!("198.51.{n}.0/24"), "description": "an office" });
        let plain = |n| json!({ "cidr": format!("203.0.113.{n}/32") });
        let entries: Value = (0..count).map(entry).chain((0..count).map(plain)).collect();
        it.insert("address_family".into(), json!("IPv4"));
        it.insert("entries".into(), entries);
        self.tags(&mut it);
        self.put("weft_prefix_list", it);
    }

    /// A table of the place's VPC, for one of its subnets at most.
    pub(super) fn route_table(&mut self, place: &Place) {
        let Some(vpc) = place.vpc.as_ref().filter(|_| !place.is_bridge) else { return };
        let mut it = self.named();
        it.insert("vpc_id".into(), id("weft_vpc", vpc));
        let route = |n| json!({ "cidr_block": format!("192.0.{n}.0/24"), "blackhole": true });
        let routes: Value = (0..self.dice.roll(4)).map(route).collect();
        it.insert("routes".into(), routes);
        self.tags(&mut it);
        let table = self.put("weft_route_table", it);
        if let Some(range) = place.subnets.first() {
            let mut it = Attributes::new();
            it.insert("route_table_id".into(), id("weft_route_table", &table));
            it.insert("subnet_id".into(), id("weft_subnet", &range.subnet));
            self.put("weft_route_table_association", it);
        }
    }
}

fn id(kind: &str, name: &str) -> Value {
    json!(reference(kind, name, "id"))
}
