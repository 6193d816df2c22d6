//! Which instances a command is for.

use weft_model::{InstanceState, InstanceView, Problem, Reason, Tags};
use weft_proto::convert::instance_from_wire;
use weft_proto::v1;

use crate::agent::Agent;
use crate::failure::Failure;
use crate::{tags, target};

/// The instances of `names`, then those that have all of `tags`; each once.
///
/// # Errors
/// A name is nobody's, a tag cannot be read, or nobody has the tags.
pub(super) async fn find(
    agent: &Agent,
    names: &[String],
    tags: &[String],
) -> Result<Vec<InstanceView>, Failure> {
    let mut views = Vec::new();
    for name in names {
        views.push(target::instance(agent, name).await?);
    }
    if !tags.is_empty() {
        views.extend(with_tags(agent, tags).await?);
    }
    let mut seen = std::collections::BTreeSet::new();
    views.retain(|view| seen.insert(view.object.id.clone()));
    Ok(views)
}

async fn with_tags(agent: &Agent, tags: &[String]) -> Result<Vec<InstanceView>, Failure> {
    let wanted = Tags::parse(tags::parse(tags).map_err(Failure::Usage)?).map_err(Failure::Usage)?;
    let request =
        v1::ListRequest { name: String::new(), tags: wanted.into_map().into_iter().collect() };
    let items = agent.instances().list(request).await?.into_inner().items;
    let mut views = items.into_iter().map(instance_from_wire).collect::<Result<Vec<_>, _>>()?;
    // They are as good as gone, and nobody means them.
    views.retain(|view| view.status.state != InstanceState::Terminating);
    if views.is_empty() {
        let message = format!("no instance has the tag {}", tags.join(" and "));
        return Err(Problem::new(Reason::NotFound, message)
            .remedy("weft ls --json shows each instance's tags")
            .into());
    }
    views.sort_by(|one, other| {
        (&one.object.spec.name, &one.object.id).cmp(&(&other.object.spec.name, &other.object.id))
    });
    Ok(views)
}

/// What each is called where their words are told apart: the name, unless two have it.
pub(super) fn labels(views: &[InstanceView]) -> Vec<String> {
    let name = |view: &InstanceView| view.object.spec.name.as_ref().map(ToString::to_string);
    let label = |view: &InstanceView| {
        let id = view.object.id.to_string();
        let Some(own) = name(view) else { return id };
        let shared = views.iter().filter(|other| name(other).as_ref() == Some(&own)).count() > 1;
        if shared { format!("{own} ({id})") } else { own }
    };
    views.iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use weft_model::InstanceId;

    use super::*;
    use crate::nouns::samples::instance_view;

    #[test]
    fn who_shares_a_name_is_told_apart_by_id() {
        let view = |digit: u8, name: Option<&str>| {
            let mut view = instance_view();
            view.object.id = InstanceId::from_random([digit; 9]);
            view.object.spec.name = name.map(|name| name.parse().unwrap());
            view
        };
        let views =
            [view(1, Some("web")), view(2, Some("db")), view(3, Some("web")), view(4, None)];
        let want =
            ["web (i-01010101010101010)", "db", "web (i-03030303030303030)", "i-04040404040404040"];
        assert_eq!(labels(&views), want);
    }
}
