//! What all nouns answer in the same way: one object, several, those that fit.

use tonic::{Request, Response, Status};
use weft_proto::v1;

use super::{Api, listed, parse_id, refuse};
use crate::repo::{Kind, RecordOf};

impl Api {
    pub(super) async fn get_one<K: Kind, W>(
        &self,
        request: Request<v1::GetRequest>,
        show: impl Fn(RecordOf<K>) -> W,
    ) -> Result<Response<W>, Status> {
        let v1::GetRequest { id, claim } = request.into_inner();
        let record = self.context.fetch::<K>(&parse_id(&id)?, claim).await.map_err(refuse)?;
        Ok(Response::new(show(record)))
    }

    /// Ids that do not exist are missing from the answer.
    pub(super) async fn get_many<K: Kind, W>(
        &self,
        request: Request<v1::BatchGetRequest>,
        show: impl Fn(RecordOf<K>) -> W,
    ) -> Result<Vec<W>, Status> {
        let v1::BatchGetRequest { ids, claim } = request.into_inner();
        let records = self.context.fetch_all::<K>(&ids, claim).await.map_err(refuse)?;
        Ok(records.into_iter().map(show).collect())
    }

    pub(super) async fn get_listed<K: Kind, W>(
        &self,
        request: Request<v1::ListRequest>,
        name: impl Fn(&K::Spec) -> &str,
        show: impl Fn(RecordOf<K>) -> W,
    ) -> Result<Vec<W>, Status> {
        let request = request.into_inner();
        let mut items = Vec::new();
        for record in self.context.repo.list::<K>().await.map_err(refuse)? {
            if listed(&request, Some(name(&record.spec)), &record.tags).map_err(refuse)? {
                items.push(show(record));
            }
        }
        Ok(items)
    }
}
