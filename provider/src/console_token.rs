//! `weft_console_token`, an ephemeral resource: for minutes, the console of one instance without a
//! certificate.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tfplugin::{
    Attribute, Diagnostics, EphemeralContext, EphemeralResource, Opened, Schema, Validator, Value,
    async_trait, timeouts,
};
use weft_model::{InstanceId, Problem, Reason, Timestamp};
use weft_proto::v1;
use weft_proto::v1::console_tokens_client::ConsoleTokensClient;

use crate::agent::{Agent, Connection};
use crate::{checks, problem};

/// Unless `lifetime` says otherwise; and what it may say, in seconds, as the agent has it.
const LIFETIME: &str = "15m";
const SECONDS: std::ops::RangeInclusive<u64> = 60..=3600;

#[derive(Debug)]
pub(crate) struct ConsoleToken(pub(crate) Arc<Agent>);

/// What renewing and closing need; no secret.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    id: String,
    lifetime_seconds: u32,
}

impl ConsoleToken {
    fn fail(&self, doing: &str, problem: Problem, config: &Value) -> Diagnostics {
        let problem = match problem.field.as_deref() {
            Some("lifetime_seconds") => problem.at("lifetime"),
            _ => problem,
        };
        let summary = format!("Cannot {doing} the console token");
        problem::diagnostic(summary, &problem, &self.schema(), config).into()
    }

    fn kept(&self, ctx: &EphemeralContext) -> Result<(Kept, Arc<Connection>), Problem> {
        let kept = serde_json::from_slice(&ctx.private).map_err(|error| {
            Problem::new(Reason::Internal, "what was kept of the console token cannot be read")
                .evidence(error.to_string())
        })?;
        Ok((kept, self.0.connection()?))
    }
}

/// When two thirds of its life are over.
fn renew_at(lifetime_seconds: u32) -> SystemTime {
    SystemTime::now() + Duration::from_secs(u64::from(lifetime_seconds) * 2 / 3)
}

#[async_trait]
impl EphemeralResource for ConsoleToken {
    fn type_name(&self) -> &str {
        "weft_console_token"
    }

    fn schema(&self) -> Schema {
        Schema::new(
            "A token for the serial console of one instance, and for nothing else: whoever holds it \
             reads and types there without a certificate, with `weft console` and the environment \
             variable `WEFT_CONSOLE_TOKEN`. It ends with its lifetime, and Terraform has it end when the \
             run is over; what is attached with it ends too. The agent serves holders of tokens on a \
             port of its own (`fabric-agent serve --console-listen`); without that there are none.",
        )
        .subcategory("Compute")
        .attribute(
            Attribute::string("instance_id", "The instance.")
                .required()
                .validate(checks::id::<InstanceId>(InstanceId::PREFIX, "an instance")),
        )
        .attribute(
            Attribute::string(
                "lifetime",
                "How long it lives; it is renewed while the run goes on, and ends by itself where \
                 Terraform is killed.",
            )
            .default(LIFETIME)
            .validate(Validator::pattern("must be a duration from \"1m\" to \"1h\"", |text| {
                timeouts::parse(text).is_some_and(|it| SECONDS.contains(&it.as_secs()))
            })),
        )
        .attribute(Attribute::string("token", "The token.").computed().sensitive())
        .attribute(
            Attribute::number("port", "The TCP port where the agent serves holders of tokens.")
                .computed(),
        )
        .attribute(
            Attribute::string("expires_at", "When it ends unless it is renewed (RFC 3339).")
                .computed(),
        )
    }

    async fn open(&self, ctx: &mut EphemeralContext) -> Result<Opened, Diagnostics> {
        let instance_id: String = ctx.config.read("instance_id")?;
        let lifetime: String = ctx.config.read("lifetime")?;
        let seconds = timeouts::parse(&lifetime).unwrap_or_default().as_secs();
        let lifetime_seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        let failed = |problem| self.fail("make", problem, &ctx.config);
        let connection = self.0.connection().map_err(failed)?;
        let request = v1::CreateConsoleTokenRequest { instance_id, lifetime_seconds };
        // Where an answer was lost, the token of that try ends by itself.
        let made = connection
            .call(|channel| {
                let request = request.clone();
                async move { ConsoleTokensClient::new(channel).create(request).await }
            })
            .await
            .map_err(failed)?;
        let expires_at = Timestamp::from_millisecond(made.expires_at_unix_ms).map_err(|error| {
            let problem = Problem::new(Reason::Internal, "the agent says no time when it ends");
            failed(problem.evidence(error.to_string()))
        })?;
        let mut result = ctx.config.clone();
        result.set("token", made.token);
        result.set("port", made.port);
        result.set("expires_at", expires_at.to_string());
        let kept = serde_json::to_vec(&Kept { id: made.id, lifetime_seconds });
        let unkept =
            |error: serde_json::Error| failed(Problem::new(Reason::Internal, error.to_string()));
        ctx.private = kept.map_err(unkept)?;
        Ok(Opened { result, renew_at: Some(renew_at(lifetime_seconds)) })
    }

    async fn renew(&self, ctx: &mut EphemeralContext) -> Result<Option<SystemTime>, Diagnostics> {
        let failed = |problem| self.fail("renew", problem, &Value::Null);
        let (kept, connection) = self.kept(ctx).map_err(failed)?;
        let Kept { id, lifetime_seconds } = kept;
        let request = v1::RenewConsoleTokenRequest { id, lifetime_seconds };
        connection
            .call(|channel| {
                let request = request.clone();
                async move { ConsoleTokensClient::new(channel).renew(request).await }
            })
            .await
            .map_err(failed)?;
        Ok(Some(renew_at(lifetime_seconds)))
    }

    async fn close(&self, ctx: &mut EphemeralContext) -> Result<(), Diagnostics> {
        let failed = |problem| self.fail("revoke", problem, &Value::Null);
        let (kept, connection) = self.kept(ctx).map_err(failed)?;
        let request = v1::RevokeConsoleTokenRequest { id: kept.id };
        connection
            .call(|channel| {
                let request = request.clone();
                async move { ConsoleTokensClient::new(channel).revoke(request).await }
            })
            .await
            .map(drop)
            .map_err(failed)
    }
}
