//! Ephemeral resources, as Terraform opens, renews and closes them.

use std::time::{Duration, SystemTime};

use super::*;
use crate::{EphemeralContext, EphemeralResource, Opened};

/// A ticket of the shop; what has become of it is noted.
struct Ticket {
    seen: Arc<Mutex<Vec<String>>>,
}

impl Ticket {
    fn note(&self, what: &str, ctx: &EphemeralContext) {
        let private = String::from_utf8_lossy(&ctx.private).into_owned();
        self.seen.lock().unwrap().push(format!("{what} {private}"));
    }
}

fn moment(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[async_trait]
impl EphemeralResource for Ticket {
    fn type_name(&self) -> &str {
        "shop_ticket"
    }

    fn schema(&self) -> Schema {
        Schema::new("A ticket.")
            .attribute(Attribute::string("for", "What for.").required())
            .attribute(Attribute::number("seconds", "How long.").default(60))
            .attribute(Attribute::string("code", "The code.").computed().sensitive())
    }

    async fn open(&self, ctx: &mut EphemeralContext) -> Result<Opened, Diagnostics> {
        match ctx.config.get("for").as_str() {
            Some("closed") => return Err(Diagnostic::error("Closed").at("for").into()),
            Some("fire") => panic!("the shop burns"),
            _ => ctx.warn(Diagnostic::warning("One per person")),
        }
        ctx.private = b"t1".to_vec();
        self.note("open", ctx);
        let mut result = ctx.config.clone();
        if result.get("for").as_str() != Some("lost") {
            result.set("code", "c0de");
        } else {
            result.set("code", Value::Unknown);
        }
        Ok(Opened { result, renew_at: Some(moment(50)) })
    }

    async fn renew(&self, ctx: &mut EphemeralContext) -> Result<Option<SystemTime>, Diagnostics> {
        self.note("renew", ctx);
        ctx.private = b"t2".to_vec();
        Ok(Some(moment(100)))
    }

    async fn close(&self, ctx: &mut EphemeralContext) -> Result<(), Diagnostics> {
        self.note("close", ctx);
        Ok(())
    }
}

#[derive(Default)]
struct Tickets {
    seen: Arc<Mutex<Vec<String>>>,
}

impl Provider for Tickets {
    fn schema(&self) -> Schema {
        Schema::new("Tickets.")
    }
    fn ephemeral_resources(&self) -> Vec<Box<dyn EphemeralResource>> {
        vec![Box::new(Ticket { seen: self.seen.clone() })]
    }
}

fn of(what: &str) -> Value {
    Value::object([("for", what)])
}

#[tokio::test]
async fn one_is_opened_renewed_and_closed_with_what_was_kept() {
    let tickets = Tickets::default();
    let seen = tickets.seen.clone();
    let terraform = Terraform::new(tickets);
    let mut ticket = terraform.open("shop_ticket", of("a film")).await.unwrap();
    assert_eq!(ticket.value.get("code").as_str(), Some("c0de"));
    assert_eq!(ticket.value.get("seconds").as_i64(), Some(60));
    assert_eq!(ticket.renew_at, Some(moment(50)));
    terraform.renew(&mut ticket).await.unwrap();
    assert_eq!(ticket.renew_at, Some(moment(100)));
    terraform.close(ticket).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["open t1", "renew t1", "close t2"]);
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let terraform = Terraform::new(Tickets::default());
    let error =
        async |what: &str| terraform.open("shop_ticket", of(what)).await.unwrap_err().to_string();
    assert_eq!(error("closed").await, "error: Closed (at for)");
    assert!(error("fire").await.contains("the shop burns"));
    assert!(error("lost").await.contains("not all of it is known"));
}
