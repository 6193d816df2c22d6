//! What the fake agent says was used: one row, which repeats the question.

use tonic::{Request, Response, Status};
use weft_proto::v1;

use super::Shared;
use super::world::missing;

#[tonic::async_trait]
impl v1::usage_server::Usage for Shared {
    async fn report(
        &self,
        request: Request<v1::UsageRequest>,
    ) -> Result<Response<v1::UsageReport>, Status> {
        let request = request.into_inner();
        let row = v1::UsageRow {
            group: format!("{} {:?}", request.group_by, request.tags),
            kind: "instance".to_owned(),
            r#type: "w1.nano".to_owned(),
            amount: "3600.5".to_owned(),
            unit: "seconds".to_owned(),
            cost: Some("0.01".to_owned()),
            ..v1::UsageRow::default()
        };
        let unless = |text: String, other: &str| match text.is_empty() {
            true => other.to_owned(),
            false => text,
        };
        Ok(Response::new(v1::UsageReport {
            rows: vec![row],
            cost: Some("0.01".to_owned()),
            currency: "EUR".to_owned(),
            unpriced: false,
            as_of_unix_ms: 1_700_000_000_000,
            from_day: unless(request.from_day, "2023-11-01"),
            to_day: unless(request.to_day, "2023-11-14"),
        }))
    }

    async fn estimate_instance(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::PriceEstimate>, Status> {
        let id = request.into_inner().id;
        if !self.lock().instances.contains_key(&id) {
            return Err(missing(&id));
        }
        Ok(Response::new(v1::PriceEstimate {
            currency: "EUR".to_owned(),
            per_hour: Some("0.0045".to_owned()),
            per_month: Some("3.285".to_owned()),
        }))
    }
}
