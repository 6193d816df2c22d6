//! What a `moved` block across types brings along.

/// The state of another resource, which a `moved` block hands over to this one.
#[derive(Debug, Clone)]
pub struct MoveSource {
    /// Whose it is, such as `registry.terraform.io/acme/shop`.
    pub provider: String,
    /// What it is there, such as `shop_crate`.
    pub type_name: String,
    /// The version of the schema that `state` fits.
    pub schema_version: i64,
    /// Its state, as that provider stored it.
    pub state: serde_json::Value,
    /// Its identity, if it has one.
    pub identity: Option<serde_json::Value>,
    /// What that provider kept with it, unseen by the user.
    pub private: Vec<u8>,
}
