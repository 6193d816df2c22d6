//! Route tables and their associations.

use serde_json::{Value, json};
use weft_model::{
    Object, RouteSpec, RouteTableAssociationId, RouteTableAssociationSpec, RouteTableId,
    RouteTableSpec, Timestamp,
};

use super::{Noun, common_details, common_json, lines};
use crate::output::age;

fn target(route: &RouteSpec) -> String {
    route.target.as_ref().map_or_else(|| "blackhole".to_owned(), ToString::to_string)
}

impl Noun for Object<RouteTableId, RouteTableSpec> {
    const HEADER: &'static [&'static str] = &["ID", "NAME", "VPC", "ROUTES", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.spec.name.clone(),
            self.spec.vpc_id.to_string(),
            self.spec.routes.len().to_string(),
            age(now, self.created_at),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let routes = self.spec.routes.iter();
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("name", self.spec.name.clone()),
            ("vpc", self.spec.vpc_id.to_string()),
            ("routes", lines(routes.map(|one| format!("{} to {}", one.cidr_block, target(one))))),
        ];
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let routes = self.spec.routes.iter();
        let specific = json!({
            "name": self.spec.name,
            "vpc_id": self.spec.vpc_id,
            "routes": routes
                .map(|one| json!({ "cidr_block": one.cidr_block, "target": target(one) }))
                .collect::<Vec<_>>(),
        });
        common_json(self, specific)
    }
}

impl Noun for Object<RouteTableAssociationId, RouteTableAssociationSpec> {
    const HEADER: &'static [&'static str] = &["ROUTE-TABLE", "SUBNET", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.spec.route_table_id.to_string(),
            self.spec.subnet_id.to_string(),
            age(now, self.created_at),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("route table", self.spec.route_table_id.to_string()),
            ("subnet", self.spec.subnet_id.to_string()),
        ];
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let specific = json!({
            "route_table_id": self.spec.route_table_id,
            "subnet_id": self.spec.subnet_id,
        });
        common_json(self, specific)
    }
}
