//! Daily sums in the store, a day at a time: nobody reads, or holds the store up for, more than is
//! asked for.

use weft_metering::{DailySum, Day, Filter};
use weft_model::Problem;
use weft_store::Txn;

use crate::repo::{Repo, USAGE_DAYS, decode, store_problem};

/// How long daily sums are kept.
pub(super) const KEPT_DAYS: u32 = 400;
/// The longest text that can be the id of a thing, in bytes.
const MAX_ID_BYTES: usize = 64;

/// The days of `filter` that there can be sums of: those that are kept, and as many to come, for a
/// clock that was ahead and has been set back.
pub(super) fn within(filter: &Filter, today: Day) -> impl Iterator<Item = Day> {
    let (from, to) = (today.back(KEPT_DAYS), today.ahead(KEPT_DAYS));
    filter.from.max(from).to(filter.to.min(to))
}

/// The sums of a day that `filter` may admit.
pub(super) async fn read(repo: &Repo, day: Day, filter: &Filter) -> Result<Vec<DailySum>, Problem> {
    let prefix = match filter.subject.as_deref() {
        // Other text is part of no key, and may not even be asked for.
        Some(id) if is_word(id) => format!("{USAGE_DAYS}{day}/{id}/"),
        Some(_) => return Ok(Vec::new()),
        None => format!("{USAGE_DAYS}{day}/"),
    };
    let listing = repo.store().list(&prefix).await.map_err(store_problem)?;
    listing.items.iter().map(|item| decode(&item.key, &item.value)).collect()
}

fn is_word(text: &str) -> bool {
    text.len() <= MAX_ID_BYTES && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
}

/// Removes the sums of days that are not kept any more.
pub(super) async fn forget_old(repo: &Repo, today: Day) -> Result<(), Problem> {
    for prefix in today.back(KEPT_DAYS).prefixes_before() {
        let prefix = format!("{USAGE_DAYS}{prefix}");
        let listing = repo.store().list(&prefix).await.map_err(store_problem)?;
        for some in listing.items.chunks(weft_store::MAX_TXN_OPS) {
            let txn = some.iter().fold(Txn::new(), |txn, item| txn.delete(&item.key));
            repo.commit(txn).await?;
        }
    }
    Ok(())
}
