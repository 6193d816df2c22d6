//! `weft.v1.Vpcs` and `weft.v1.Subnets`.

use tonic::{Request, Response, Status};
use weft_model::Object;
use weft_proto::convert::{subnet_to_wire, vpc_to_wire};
use weft_proto::v1;

use super::{Api, listed, parse_id, refuse};
use crate::repo::{Subnets, Vpcs};

#[tonic::async_trait]
impl v1::vpcs_server::Vpcs for Api {
    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Vpc>, Status> {
        let v1::GetRequest { id, claim } = request.into_inner();
        let record = self.context.fetch::<Vpcs>(&parse_id(&id)?, claim).await.map_err(refuse)?;
        Ok(Response::new(vpc_to_wire(Object::from(record))))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::VpcList>, Status> {
        let request = request.into_inner();
        let mut items = Vec::new();
        for record in self.context.repo.list::<Vpcs>().await.map_err(refuse)? {
            if listed(&request, Some(&record.spec.name), &record.tags).map_err(refuse)? {
                items.push(vpc_to_wire(Object::from(record)));
            }
        }
        Ok(Response::new(v1::VpcList { items }))
    }
}

#[tonic::async_trait]
impl v1::subnets_server::Subnets for Api {
    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Subnet>, Status> {
        let v1::GetRequest { id, claim } = request.into_inner();
        let record = self.context.fetch::<Subnets>(&parse_id(&id)?, claim).await.map_err(refuse)?;
        Ok(Response::new(subnet_to_wire(Object::from(record))))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::SubnetList>, Status> {
        let request = request.into_inner();
        let mut items = Vec::new();
        for record in self.context.repo.list::<Subnets>().await.map_err(refuse)? {
            if listed(&request, Some(&record.spec.name), &record.tags).map_err(refuse)? {
                items.push(subnet_to_wire(Object::from(record)));
            }
        }
        Ok(Response::new(v1::SubnetList { items }))
    }
}
