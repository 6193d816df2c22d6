//! `weft.v1.Usage`.

use tonic::{Request, Response, Status};
use weft_metering::{Day, Filter, GroupBy, Item, Row};
use weft_model::{InstanceId, Problem, Tags};
use weft_proto::v1;

use super::{Api, parse_id, refuse};
use crate::repo::Instances;

fn day(field: &str, text: &str, unless: Day) -> Result<Day, Problem> {
    if text.is_empty() {
        return Ok(unless);
    }
    text.parse::<Day>().map_err(|error| Problem::invalid(field, error.to_string()))
}

fn parse(request: v1::UsageRequest, today: Day) -> Result<(Filter, GroupBy), Problem> {
    let v1::UsageRequest { from_day, to_day, resource_id, tags, group_by } = request;
    let to = day("to_day", &to_day, today)?;
    let from = day("from_day", &from_day, to.first_of_month())?;
    if from > to {
        return Err(Problem::invalid("from_day", format!("{from} is after the last day, {to}"))
            .remedy("name the earlier day first"));
    }
    let group_by = group_by.parse().map_err(|error: weft_metering::InvalidGroupBy| {
        Problem::invalid("group_by", error.to_string())
    })?;
    let subject = Some(resource_id).filter(|id| !id.is_empty());
    Ok((Filter { from, to, subject, tags: Tags::parse(tags)? }, group_by))
}

fn row_to_wire(row: Row) -> v1::UsageRow {
    let Row { group, name, item, amount, unit, cost } = row;
    let mut wire = v1::UsageRow {
        group,
        name: name.unwrap_or_default(),
        kind: item.kind().to_owned(),
        amount,
        unit: unit.to_owned(),
        cost: cost.map(|money| money.to_string()),
        ..v1::UsageRow::default()
    };
    match item {
        Item::Instance { instance_type, vcpus, memory_mib } => {
            wire.r#type = instance_type.unwrap_or_default();
            (wire.vcpus, wire.memory_mib) = (vcpus, memory_mib);
        }
        Item::Volume { volume_type, size_gib } => {
            (wire.r#type, wire.size_gib) = (volume_type, size_gib);
        }
        Item::PublicIp | Item::BytesOut => {}
    }
    wire
}

#[tonic::async_trait]
impl v1::usage_server::Usage for Api {
    async fn report(
        &self,
        request: Request<v1::UsageRequest>,
    ) -> Result<Response<v1::UsageReport>, Status> {
        let metering = &self.context.reconciler.metering;
        let (filter, group_by) = parse(request.into_inner(), metering.today()).map_err(refuse)?;
        let (usage, as_of) = metering.usage(&filter, &group_by).await.map_err(refuse)?;
        let currency = metering.currency();
        Ok(Response::new(v1::UsageReport {
            cost: currency.map(|_| usage.cost.to_string()),
            unpriced: usage.unpriced,
            rows: usage.rows.into_iter().map(row_to_wire).collect(),
            currency: currency.unwrap_or_default().to_owned(),
            as_of_unix_ms: as_of.at.as_millisecond(),
            from_day: filter.from.to_string(),
            to_day: filter.to.to_string(),
        }))
    }

    async fn estimate_instance(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::PriceEstimate>, Status> {
        let id: InstanceId = parse_id(&request.into_inner().id)?;
        let record = self.context.repo.get::<Instances>(&id).await.map_err(refuse)?.value;
        let metering = &self.context.reconciler.metering;
        let estimate = metering.estimate(&record);
        Ok(Response::new(v1::PriceEstimate {
            currency: metering.currency().unwrap_or_default().to_owned(),
            per_hour: estimate.as_ref().map(|estimate| estimate.hour.to_string()),
            per_month: estimate.map(|estimate| estimate.month.to_string()),
        }))
    }
}
