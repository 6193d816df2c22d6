//! Objects for tests.

use weft_model::{
    Assigned, GroupId, HostId, ImageId, InstanceId, InstanceOrder, InstanceState, InstanceStatus,
    InstanceView, InterfaceId, MacAddr, Object, Phase, PhaseRecord, PowerState, Size, SubnetId,
    Tags, Timestamp, UserData, VpcId,
};

/// A running instance with everything set.
pub(crate) fn instance_view() -> InstanceView {
    let at = |ms: i64| Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap();
    let phase = |phase, ms| PhaseRecord { phase, at: at(ms) };
    InstanceView {
        object: Object {
            id: InstanceId::from_random([0xaa; 9]),
            generation: 3,
            spec: InstanceOrder {
                source_dest_check: true,
                name: Some("web".parse().unwrap()),
                image_id: ImageId::from_random([1; 9]),
                size: Size::Type("w1.small".to_owned()),
                maxima: Default::default(),
                subnet_id: Some(SubnetId::from_random([2; 9])),
                private_ip: Some("10.0.0.4".parse().unwrap()),
                associate_public_ip: Some(false),
                security_group_ids: Some([GroupId::from_random([3; 9])].into()),
                key_names: vec!["me".parse().unwrap()],
                user_data: Some(UserData(b"a secret".to_vec())),
                root_size_gib: None,
                root_limits: Default::default(),
                display: false,
                metadata_options: None,
                lifecycle: Default::default(),
                power: Some(PowerState::Running),
            },
            tags: Tags::parse([("role".to_owned(), "front".to_owned())]).unwrap(),
            client_data: String::new(),
            created_at: at(0),
            deleting_since: None,
            claimed: true,
        },
        assigned: Assigned {
            vcpus: 1,
            memory_mib: 512,
            vpc_id: VpcId::from_random([4; 9]),
            interface_id: InterfaceId::from_random([5; 9]),
            mac: MacAddr::from_random([6; 5]),
            ipv6_addresses: Vec::new(),
            host_id: HostId::from_random([7; 9]),
            default_user: "weft".to_owned(),
            ssh_host_public_keys: vec!["ssh-ed25519 AAAAC3Nz".to_owned()],
            run_epoch: 1,
            root_size_bytes: 3 << 29,
            public_ip: None,
        },
        status: InstanceStatus {
            state: InstanceState::Running,
            reason: Some("the guest runs".to_owned()),
            epoch: 1,
            ended_epoch: 0,
            phases: vec![phase(Phase::Accepted, 0), phase(Phase::Placed, 12)],
            launched_at: Some(at(40)),
            cloud_init: None,
            live_keys: true,
            signal: None,
            restarts: Default::default(),
        },
    }
}
