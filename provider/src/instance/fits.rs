//! Whether what exists already lets the planned instance be made: an instance that is replaced has
//! lost its disk by the time that Create says no.
//!
//! Without the agent's answer a plan is as good as it can be; Create says what is wrong.

use std::sync::Arc;

use tfplugin::{Diagnostics, PlanContext};
use weft_model::Problem;
use weft_proto::convert::{host_from_wire, image_from_wire};
use weft_proto::v1::{self, hosts_client::HostsClient};

use crate::agent::Connection;
use crate::agent::reads::{self, Claim};
use crate::image::Image;
use crate::{interface, problem};

pub(super) async fn check(
    connection: &Arc<Connection>,
    ctx: &PlanContext,
) -> Result<(), Diagnostics> {
    check_root_size(connection, ctx).await.map_err(|problem| {
        let schema = super::schema::schema();
        problem::diagnostic("The root volume is too small", &problem, &schema, &ctx.config)
    })?;
    check_architecture(connection, ctx).await.map_err(|problem| {
        let schema = super::schema::schema();
        problem::diagnostic("The image does not fit the host", &problem, &schema, &ctx.config)
    })?;
    interface::check(connection, ctx).await.map_err(|problem| {
        let schema = super::schema::schema();
        problem::diagnostic("The interface cannot be made", &problem, &schema, &ctx.config)
    })?;
    Ok(())
}

/// An image for another processor than every host's.
async fn check_architecture(
    connection: &Arc<Connection>,
    ctx: &PlanContext,
) -> Result<(), Problem> {
    let Some(image_id) = ctx.plan.get("image_id").as_str() else { return Ok(()) };
    if !ctx.is_create() && !ctx.changes("image_id") {
        return Ok(());
    }
    let Ok(Some(image)) = reads::read::<Image>(connection, image_id, Claim::No).await else {
        return Ok(());
    };
    let image = image_from_wire(image)?.spec;
    let hosts =
        connection
            .call(|channel| async move {
                HostsClient::new(channel).list(v1::ListRequest::default()).await
            })
            .await;
    let hosts = hosts.map(|list| list.items).unwrap_or_default();
    let mut refused = None;
    for host in hosts {
        match image.check_architecture(host_from_wire(host)?.facts.architecture) {
            Ok(()) => return Ok(()),
            Err(problem) => refused = Some(problem),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// A root volume that the image does not fit in.
async fn check_root_size(connection: &Arc<Connection>, ctx: &PlanContext) -> Result<(), Problem> {
    let image_id = ctx.plan.get("image_id").as_str();
    let asked = ctx.plan.get("root_volume.size_gib").as_i64();
    let asked = asked.and_then(|gib| u32::try_from(gib).ok());
    let (Some(image_id), Some(asked)) = (image_id, asked) else { return Ok(()) };
    if !ctx.is_create() && !ctx.changes("root_volume") && !ctx.changes("image_id") {
        return Ok(());
    }
    match reads::read::<Image>(connection, image_id, Claim::No).await {
        Ok(Some(wire)) => image_from_wire(wire)?.spec.check_root_size(asked),
        _ => Ok(()),
    }
}
