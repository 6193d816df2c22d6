//! What the fake agent says its guests use.

use tonic::{Request, Response, Status};
use weft_proto::v1;

use super::Shared;
use super::world::missing;

#[tonic::async_trait]
impl v1::monitoring_server::Monitoring for Shared {
    /// Those that run use something, the others nothing.
    async fn get_instance(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::InstanceMetrics>, Status> {
        let id = request.into_inner().id;
        let world = self.lock();
        let instance = world.instances.get(&id).ok_or_else(|| missing(&id))?;
        let state = instance.status.clone().unwrap_or_default().state;
        let guest = v1::GuestMetrics {
            cpu_ms: 1500,
            resident_bytes: 1 << 20,
            memory_available_bytes: Some(77),
            disks: vec![v1::DiskMetrics {
                disk: "root".to_owned(),
                writes: 3,
                ..Default::default()
            }],
            interfaces: vec![v1::InterfaceMetrics { sent_bytes: 9, ..Default::default() }],
            ..v1::GuestMetrics::default()
        };
        Ok(Response::new(v1::InstanceMetrics {
            id,
            guest: (state == "running").then_some(guest),
            state,
            at_unix_ms: 1_700_000_000_000,
            ..v1::InstanceMetrics::default()
        }))
    }

    async fn list_instances(
        &self,
        _request: Request<v1::ListInstanceMetricsRequest>,
    ) -> Result<Response<v1::InstanceMetricsList>, Status> {
        Err(Status::unimplemented("the provider does not ask this"))
    }
}
