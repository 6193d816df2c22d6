//! The agent's API, called as the provider calls it, without Terraform around it.

use anyhow::{Context as _, Result, anyhow};
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use weft_proto::v1;
use weft_proto::v1::security_group_rule_spec::Peer;

/// A connection, and what its calls run on.
#[derive(Debug)]
pub(crate) struct Api {
    runtime: Runtime,
    channel: Channel,
    calls: u64,
}

/// What is asked of an instance besides its size, which is the smallest.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) image_id: String,
    pub(crate) group_id: String,
    pub(crate) power_state: &'static str,
}

impl Api {
    pub(crate) fn connect(endpoint: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = endpoint.parse().map_err(|problem| anyhow!("{problem}"))?;
        let channel = runtime
            .block_on(weft_proto::client::connect(&endpoint))
            .map_err(|problem| anyhow!("{problem}"))?;
        Ok(Self { runtime, channel, calls: 0 })
    }

    fn creation(&mut self) -> v1::CreateContext {
        self.calls += 1;
        v1::CreateContext {
            client_token: format!("bench-{}-{}", std::process::id(), self.calls),
            ..Default::default()
        }
    }

    /// Creates an instance and answers as soon as the agent does.
    pub(crate) fn create(&mut self, wish: &Wish) -> Result<v1::Instance> {
        let request = self.instance(wish);
        let mut client = v1::instances_client::InstancesClient::new(self.channel.clone());
        Ok(self.runtime.block_on(client.create(request))?.into_inner())
    }

    /// Creates `count` instances, several at a time.
    pub(crate) fn create_many(&mut self, wish: &Wish, count: usize) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let at_once = left.min(64);
            self.create_at_once(wish, at_once)?;
            left -= at_once;
        }
        Ok(())
    }

    /// Creates `count` instances, all at the same time.
    pub(crate) fn create_at_once(
        &mut self,
        wish: &Wish,
        count: usize,
    ) -> Result<Vec<v1::Instance>> {
        let requests: Vec<_> = (0..count).map(|_| self.instance(wish)).collect();
        let channel = &self.channel;
        let calls = requests.into_iter().map(|request| async move {
            let mut client = v1::instances_client::InstancesClient::new(channel.clone());
            Ok(client.create(request).await?.into_inner())
        });
        self.runtime.block_on(futures::future::join_all(calls)).into_iter().collect()
    }

    fn instance(&mut self, wish: &Wish) -> v1::CreateInstanceRequest {
        v1::CreateInstanceRequest {
            context: Some(self.creation()),
            spec: Some(v1::InstanceSpec {
                image_id: wish.image_id.clone(),
                instance_type: Some("w1.nano".to_owned()),
                security_group_ids: Some(v1::SecurityGroupIds { ids: vec![wish.group_id.clone()] }),
                power_state: Some(wish.power_state.to_owned()),
                ..Default::default()
            }),
        }
    }

    /// Returns when the guest runs.
    pub(crate) fn wait_running(&mut self, id: &str) -> Result<()> {
        self.wait(id, v1::wait_request::Until::WaitFor("running".to_owned()))
    }

    fn wait(&mut self, id: &str, until: v1::wait_request::Until) -> Result<()> {
        let request =
            v1::WaitRequest { id: id.to_owned(), until: Some(until), timeout_seconds: 120 };
        let mut client = v1::instances_client::InstancesClient::new(self.channel.clone());
        self.runtime.block_on(async {
            let mut events = client.wait(request).await?.into_inner();
            while let Some(event) = events.message().await? {
                if event.done {
                    return Ok(());
                }
            }
            Err(anyhow!("the wait ended without an answer"))
        })
    }

    /// Makes a group in the default VPC.
    pub(crate) fn create_group(&mut self, name: &str) -> Result<String> {
        let request = v1::CreateSecurityGroupRequest {
            context: Some(self.creation()),
            spec: Some(v1::SecurityGroupSpec { name: name.to_owned(), ..Default::default() }),
        };
        let mut client =
            v1::security_groups_client::SecurityGroupsClient::new(self.channel.clone());
        let made = self.runtime.block_on(client.create(request))?.into_inner();
        Ok(made.metadata.context("the group has no metadata")?.id)
    }

    /// Adds a rule for one TCP port from anywhere.
    pub(crate) fn create_rule(&mut self, group_id: &str, port: u16) -> Result<String> {
        self.add_rule(rule(group_id, port, Peer::CidrIpv4("0.0.0.0/0".to_owned())))
    }

    /// Adds a rule for one TCP port from the members of another group.
    pub(crate) fn let_in(&mut self, group_id: &str, port: u16, from: &str) -> Result<String> {
        self.add_rule(rule(group_id, port, Peer::ReferencedSecurityGroupId(from.to_owned())))
    }

    fn add_rule(&mut self, spec: v1::SecurityGroupRuleSpec) -> Result<String> {
        let request =
            v1::CreateSecurityGroupRuleRequest { context: Some(self.creation()), spec: Some(spec) };
        let mut client =
            v1::security_group_rules_client::SecurityGroupRulesClient::new(self.channel.clone());
        let made = self.runtime.block_on(client.create(request))?.into_inner();
        Ok(made.metadata.context("the rule has no metadata")?.id)
    }

    /// Makes the rule one for another port; the answer comes when that is enforced.
    pub(crate) fn change_rule(&mut self, id: &str, group_id: &str, port: u16) -> Result<()> {
        let request = v1::UpdateSecurityGroupRuleRequest {
            context: Some(v1::UpdateContext { id: id.to_owned(), ..Default::default() }),
            spec: Some(rule(group_id, port, Peer::CidrIpv4("0.0.0.0/0".to_owned()))),
        };
        let mut client =
            v1::security_group_rules_client::SecurityGroupRulesClient::new(self.channel.clone());
        self.runtime.block_on(client.update(request))?;
        Ok(())
    }
}

fn rule(group_id: &str, port: u16, peer: Peer) -> v1::SecurityGroupRuleSpec {
    v1::SecurityGroupRuleSpec {
        security_group_id: group_id.to_owned(),
        direction: v1::RuleDirection::Ingress.into(),
        ip_protocol: "tcp".to_owned(),
        from_port: Some(port.into()),
        to_port: Some(port.into()),
        peer: Some(peer),
        description: String::new(),
    }
}
