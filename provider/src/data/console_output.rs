//! `data.weft_console_output`: the end of an instance's serial console.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Schema, Validator, Value, async_trait,
};
use weft_model::InstanceId;
use weft_proto::v1;

use crate::agent::Agent;
use crate::checks;
use crate::kind::wire::Wire as _;

#[derive(Debug)]
pub(crate) struct ConsoleOutput(pub(crate) Arc<Agent>);

const NOUN: &str = "console's output";
/// As much as EC2 answers with; and the most that there can be, as the log is bounded.
const DEFAULT_BYTES: u32 = 64 * 1024;
const MOST_BYTES: u32 = 1024 * 1024;

#[async_trait]
impl DataSource for ConsoleOutput {
    fn type_name(&self) -> &str {
        "weft_console_output"
    }

    fn schema(&self) -> Schema {
        Schema::new(
            "The newest output of an instance's serial console, over all of its starts. The guest \
             decides what is in it. It changes by itself, so an output that shows it makes plans \
             non-empty.",
        )
        .subcategory("Compute")
        .attribute(Attribute::string("instance_id", "Whose.").required().validate(checks::id::<
            InstanceId,
        >(
            InstanceId::PREFIX,
            "an instance",
        )))
        .attribute(
            Attribute::number(
                "max_bytes",
                "How many bytes at most, from the end: up to 1048576; 65536 unless set.",
            )
            .optional()
            .validate(Validator::range(1..=i64::from(MOST_BYTES))),
        )
        .attribute(
            Attribute::string("output", "The text; bytes that are no UTF-8 are replaced.")
                .computed(),
        )
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let id: String = ctx.config.read("instance_id")?;
        let max_bytes = ctx.config.read::<Option<i64>>("max_bytes")?;
        let max_bytes = max_bytes.and_then(|it| u32::try_from(it).ok()).unwrap_or(DEFAULT_BYTES);
        let tail = connection
            .call(|channel| {
                let request = v1::ConsoleTailRequest { id: id.clone(), max_bytes };
                async move { v1::Instance::client(channel).console_tail(request).await }
            })
            .await
            .map_err(|problem| super::fail(NOUN, &problem))?;
        let mut answer = ctx.config.clone();
        answer.set("output", text(&tail.data));
        Ok(answer)
    }
}

/// What a tail says: a character that was cut in two at its beginning is left out.
fn text(tail: &[u8]) -> String {
    // A continuation byte of UTF-8 is 0b10xxxxxx; a character has three of them at most.
    let cut = tail.iter().take(3).take_while(|byte| **byte & 0b1100_0000 == 0b1000_0000).count();
    String::from_utf8_lossy(&tail[cut..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_was_cut_is_left_out_and_a_wrong_byte_replaced() {
        assert_eq!(text(&"ü login:".as_bytes()[1..]), " login:");
        assert_eq!(text(b"a\xffb\n"), "a\u{fffd}b\n");
        assert_eq!(text(b""), "");
    }
}
