//! `weft_key_pair`: an SSH public key that is injected into instances.

use serde::{Deserialize, Serialize};
use tfplugin::{Attribute, ConvertError, Diagnostics, PlanContext, Schema, Value, async_trait};
use weft_model::{Problem, PublicKey};
use weft_proto::convert::key_pair_from_wire;
use weft_proto::v1::{self};

use crate::agent::Agent;
use crate::kind::Kind;
use crate::kind::plain::Plain;
use crate::tags::TagMap;
use crate::{checks, kept, tags};

#[derive(Debug)]
pub(crate) enum KeyPair {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    tags: Option<TagMap>,
    /// As written: `file()` leaves a line's end, which the agent does not keep.
    public_key: String,
}

impl Kind for KeyPair {
    type Wire = v1::KeyPair;
    type Kept = Kept;
    const TYPE: &'static str = "weft_key_pair";
    const NOUN: &'static str = "key pair";

    fn schema() -> Schema {
        Schema::new(
            "An SSH public key that is injected into instances. Deleting it deregisters it: \
             instances keep the keys that they were made with.",
        )
        .subcategory("Compute")
        .attribute(
            Attribute::string("key_name", "What instances call it in `key_names`; unique.")
                .required()
                .replace_on_change()
                .validate(checks::name()),
        )
        .attribute(
            Attribute::string(
                "public_key",
                "One line in OpenSSH's form, such as `file(\"~/.ssh/id_ed25519.pub\")`. A change replaces the key pair.",
            )
            .required()
            .validate(checks::public_key()),
        )
        .attributes(tags::attributes())
        .attribute(Attribute::string("id", "`key-` and 17 hexadecimal digits.").computed())
        .attribute(Attribute::string("fingerprint_sha256", "As `ssh-keygen -l` prints it.").computed())
        .attribute(Attribute::string("key_type", "Such as `ssh-ed25519`.").computed())
    }

    fn kept(plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept { tags: tags::own(plan)?, public_key: plan.read("public_key")? })
    }

    fn state(wire: v1::KeyPair) -> Result<Value, Problem> {
        let object = key_pair_from_wire(wire)?;
        let kept: Kept = kept::decode(&object.client_data);
        let key = object.spec.public_key;
        let as_written = Some(kept.public_key).filter(|text| text.trim() == key.line());
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("key_name", object.spec.key_name.to_string().into()),
            ("public_key", as_written.unwrap_or_else(|| key.line().to_owned()).into()),
            ("tags", kept.tags.into()),
            ("tags_all", object.tags.into_map().into()),
            ("fingerprint_sha256", key.fingerprint_sha256().into()),
            ("key_type", key.key_type().into()),
        ]))
    }
}

#[async_trait]
impl Plain for KeyPair {
    fn spec(plan: &Value) -> Result<v1::KeyPairSpec, Diagnostics> {
        let public_key: String = plan.read("public_key")?;
        Ok(v1::KeyPairSpec {
            key_name: plan.read("key_name")?,
            public_key: public_key.trim().to_owned(),
        })
    }

    async fn plan(_agent: &Agent, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        let Some(planned) = ctx.plan.get("public_key").as_str() else {
            ctx.replace("public_key");
            return Ok(());
        };
        let Ok(key) = planned.parse::<PublicKey>() else { return Ok(()) };
        let before = ctx.prior.get("public_key").as_str().map(str::trim);
        if before.is_some_and(|before| before != key.line()) {
            ctx.replace("public_key");
        }
        ctx.set("fingerprint_sha256", key.fingerprint_sha256());
        ctx.set("key_type", key.key_type());
        Ok(())
    }
}
