//! `sha256_url`: the digest comes from a list of the publisher's, which the agent reads.

use tfplugin::PlanContext;
use weft_model::{Checksum, ImageUrl, Problem, Reason};
use weft_proto::v1;
use weft_proto::v1::images_client::ImagesClient;

use super::source;
use crate::agent::Connection;
use crate::problem;

pub(super) const ATTRIBUTE: &str = "sha256_url";

/// What the list at `list` says of the file at `url`.
pub(super) async fn find(
    connection: &Connection,
    list: &str,
    url: &ImageUrl,
) -> Result<Checksum, Problem> {
    let Some(file_name) = url.file_name() else {
        return Err(Problem::invalid("source_url", format!("{url} names no file"))
            .remedy("set sha256 or sha512 instead of sha256_url"));
    };
    let request = v1::FindChecksumRequest { url: list.to_owned(), file_name };
    let answer = connection
        .call(|channel| {
            let request = request.clone();
            async move { ImagesClient::new(channel).find_checksum(request).await }
        })
        .await?;
    Checksum::from_fields(&answer.sha256, &answer.sha512)
        .map_err(|error| Problem::new(Reason::Internal, error.to_string()))
}

/// Plans the disk's digest: the one that the image has, as long as neither URL changes, else the
/// list's. A new image can wait for it until the apply.
pub(super) async fn plan(connection: Option<&Connection>, ctx: &mut PlanContext) {
    if !source::is_by_url(&ctx.plan) || ctx.plan.get(ATTRIBUTE).is_null() {
        return;
    }
    let same = !ctx.is_create() && !ctx.changes(ATTRIBUTE) && !ctx.changes("source_url");
    if same && ctx.prior.get("digest").is_set() {
        let digest = ctx.prior.get("digest").clone();
        ctx.set("digest", digest);
        return;
    }
    ctx.mark_unknown("digest");
    let url = ctx.plan.get("source_url").as_str().and_then(|text| text.parse::<ImageUrl>().ok());
    let list = ctx.plan.get(ATTRIBUTE).as_str().map(str::to_owned);
    let (Some(connection), Some(url), Some(list)) = (connection, url, list) else { return };
    match find(connection, &list, &url).await {
        Ok(Checksum::Sha256(digest)) => ctx.set("digest", digest.to_string()),
        // Blobs go by their SHA-256, which is seen when the file is there.
        Ok(Checksum::Sha512(_)) => {}
        Err(problem) if ctx.is_create() => {
            tracing::info!(error = %problem, "the digest is not known yet, the apply asks again");
        }
        // Unknown would replace the image, whatever the list says.
        Err(problem) => {
            let (problem, schema) = (problem.at(ATTRIBUTE), super::schema::schema());
            let summary = "Cannot read the image's digest";
            ctx.error(problem::diagnostic(summary, &problem, &schema, &ctx.config));
        }
    }
}
