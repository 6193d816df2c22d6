//! `weft.v1.Monitoring`.

use tonic::{Request, Response, Status};
use weft_model::{GuestFigures, InstanceId, Timestamp};
use weft_proto::v1;

use super::{Api, parse_id, refuse};
use crate::monitoring::Sample;
use crate::repo::{Instances, no_such};

fn guest(figures: &GuestFigures) -> v1::GuestMetrics {
    let GuestFigures { cpu_ms, resident_bytes, memory, disks, interfaces } = figures;
    let disk = |(name, counters): (&String, &weft_model::DiskCounters)| v1::DiskMetrics {
        disk: name.clone(),
        read_bytes: counters.read_bytes,
        written_bytes: counters.written_bytes,
        reads: counters.reads,
        writes: counters.writes,
    };
    let interface = |(id, counters): (&weft_model::InterfaceId, &weft_model::LinkCounters)| {
        v1::InterfaceMetrics {
            network_interface_id: id.to_string(),
            sent_bytes: counters.sent_bytes,
            received_bytes: counters.received_bytes,
            sent_packets: counters.sent_packets,
            received_packets: counters.received_packets,
        }
    };
    v1::GuestMetrics {
        cpu_ms: *cpu_ms,
        resident_bytes: *resident_bytes,
        memory_total_bytes: memory.and_then(|said| said.total_bytes),
        memory_available_bytes: memory.and_then(|said| said.available_bytes),
        disks: disks.iter().map(disk).collect(),
        interfaces: interfaces.iter().map(interface).collect(),
    }
}

fn instance(sample: &Sample, at: Timestamp) -> v1::InstanceMetrics {
    let Sample { record, state, figures } = sample;
    v1::InstanceMetrics {
        id: record.id.to_string(),
        name: record.spec.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        state: state.as_str().to_owned(),
        vcpus: record.spec.vcpus,
        memory_mib: record.spec.memory_mib,
        at_unix_ms: at.as_millisecond(),
        guest: figures.as_ref().map(guest),
    }
}

#[tonic::async_trait]
impl v1::monitoring_server::Monitoring for Api {
    async fn get_instance(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::InstanceMetrics>, Status> {
        let id: InstanceId = parse_id(&request.into_inner().id)?;
        let context = &self.context;
        let sample = crate::monitoring::of_one(&context.reconciler, &id).await;
        let sample = sample.ok_or_else(|| refuse(no_such::<Instances>(&id)))?;
        Ok(Response::new(instance(&sample, context.clock.now())))
    }

    async fn list_instances(
        &self,
        _request: Request<v1::ListInstanceMetricsRequest>,
    ) -> Result<Response<v1::InstanceMetricsList>, Status> {
        let samples = self.context.monitor.samples(&self.context.reconciler).await;
        let items = samples.all.iter().map(|sample| instance(sample, samples.at)).collect();
        let at_unix_ms = samples.at.as_millisecond();
        Ok(Response::new(v1::InstanceMetricsList { at_unix_ms, items }))
    }
}
