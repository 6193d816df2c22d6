//! Terraform killed with -9 while it makes one of everything, and its state lost: the next apply takes
//! over all that was made, of every kind, and nothing is doubled.
//!
//! The state from before the run is put back each time, which was none: see `random_kills.rs` for why a
//! kill can leave no better one.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weft_acceptance::{Background, Lab, State, Terraform, eventually, within};

use crate::each_resource::objects;
use crate::module::{ONE_OF_EACH, one_of_each, snapshot};
use crate::random_kills::kill_terraform;

/// What shows a disk as it was at one moment: nobody who asks for it means the moment at which another
/// client died, so what that one has made is removed, and another one is made.
const MADE_ANEW: [&str; 2] = ["weft_snapshot.it", "weft_image.captured"];

const CAPTURED: &str = r#"
resource "weft_image" "captured" {
  name               = "captured"
  source_instance_id = weft_instance.it.id
}
"#;

/// By the module's own directory: the gate is reached, and the gate is open.
const REACHED: &str = "reached";
const OPEN: &str = "open";

fn addresses() -> impl Iterator<Item = &'static str> {
    ONE_OF_EACH.into_iter().chain(MADE_ANEW)
}

fn module(lab: &Lab) -> Result<String> {
    Ok(one_of_each(lab)? + snapshot() + CAPTURED)
}

/// Holds the apply when all else is made, until it is opened or terraform is gone. Something is left to be
/// made after it: terraform ends a provider, and with it the session in good order, as soon as it
/// needs it no more.
fn gate() -> String {
    let all: Vec<&str> = addresses().collect();
    format!(
        r#"
resource "terraform_data" "gate" {{
  depends_on = [{}]
  provisioner "local-exec" {{
    command = "touch {REACHED}; while [ ! -e {OPEN} ] && kill -0 $PPID; do sleep 0.1; done"
  }}
}}

resource "weft_elastic_ip" "last" {{
  depends_on = [terraform_data.gate]
}}
"#,
        all.join(", ")
    )
}

/// A fabric, what it had before the story, and a module with one of everything.
struct Story {
    lab: Lab,
    terraform: Terraform,
    before: BTreeSet<String>,
}

impl Story {
    fn new() -> Result<Self> {
        let lab = Lab::simulated()?;
        let terraform = lab.terraform()?;
        let before = objects(&lab)?.into_keys().collect();
        Ok(Self { lab, terraform, before })
    }

    fn reached(&self) -> bool {
        self.terraform.directory().join(REACHED).exists()
    }

    fn lose_the_state(&self) -> Result<()> {
        for file in ["terraform.tfstate", "terraform.tfstate.backup"] {
            match std::fs::remove_file(self.terraform.directory().join(file)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The kind of each object that no client's state is known to hold, by its id.
    fn unclaimed(&self) -> Result<BTreeMap<String, String>> {
        let list = self.lab.weft_json(&["ls", "--unclaimed"])?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
        list.as_array()
            .context("no list")?
            .iter()
            .map(|object| Ok((text(&object["id"])?, text(&object["kind"])?)))
            .collect()
    }

    /// Lets terraform run until there is something unclaimed of a kind that is not among `killed_at`, or
    /// until all is made. What is unclaimed when it is dead.
    fn kill_at_another_kind(
        &self,
        killed_at: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, String>> {
        let mut run = self.terraform.start_apply()?;
        eventually("an object of another kind", within(), || {
            let is_new = self.unclaimed()?.values().any(|kind| !killed_at.contains(kind));
            ensure!(run.is_running()?, "terraform has ended:\n{}", run.output()?);
            Ok((is_new || self.reached()).then_some(()))
        })?;
        self.kill(run)
    }

    fn kill(&self, run: Background) -> Result<BTreeMap<String, String>> {
        kill_terraform(&self.lab, run)?;
        let unclaimed = self.unclaimed()?;
        self.lose_the_state()?;
        Ok(unclaimed)
    }

    /// Fails unless the state holds all that was made since the story began, but for the VPC's own group.
    fn assert_nothing_else_is_there(&self, state: &State) -> Result<()> {
        let of_vpc = state.text("weft_vpc.it", "default_security_group_id")?;
        let ids = addresses().map(|address| state.text(address, "id"));
        let ids = ids.collect::<Result<BTreeSet<_>>>()?;
        let is_of_vpc = |id: &String, object: &Value| {
            *id == of_vpc || object["security_group_id"] == of_vpc.as_str()
        };
        let mut others = objects(&self.lab)?;
        others.retain(|id, object| {
            !self.before.contains(id) && !ids.contains(id) && !is_of_vpc(id, object)
        });
        ensure!(others.is_empty(), "not in the state: {others:?}");
        Ok(())
    }
}

/// Fails unless the module has each type of resource that the provider knows.
fn assert_each_type_is_there(terraform: &Terraform) -> Result<()> {
    let known = terraform.schema()?;
    let known = known["resource_schemas"].as_object().context("no resources in the schema")?;
    let known: BTreeSet<&str> = known.keys().map(String::as_str).collect();
    let made: BTreeSet<&str> =
        addresses().filter_map(|address| address.split('.').next()).collect();
    ensure!(made == known, "the story makes {made:?}, the provider knows {known:?}");
    Ok(())
}

#[test]
fn what_a_killed_terraform_has_made_is_adopted_of_every_kind() -> Result<()> {
    let story = Story::new()?;
    let (lab, terraform) = (&story.lab, &story.terraform);
    terraform.main(&(module(lab)? + &gate()))?;
    assert_each_type_is_there(terraform)?;

    // Killed when the first of a kind is just made, some kinds at a time, and at last when all is.
    let (mut killed_at, mut kills) = (BTreeSet::new(), 0);
    let mut left = BTreeMap::new();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    while !story.reached() {
        left = story.kill_at_another_kind(&killed_at)?;
        killed_at.extend(left.values().cloned());
        seen.extend(left.clone());
        kills += 1;
    }

    terraform.main(&module(lab)?)?;
    terraform.apply()?;
    let state = terraform.state()?;
    for address in addresses() {
        let id = state.text(address, "id")?;
        let adopts = !MADE_ANEW.contains(&address);
        ensure!(
            left.contains_key(&id) == adopts,
            "{address} is {id}, and terraform was killed with {left:?} made"
        );
    }
    // Of both kinds that are made anew there was something to remove.
    for (kind, adopted) in [("snapshot", 0), ("image", 1)] {
        let made = left.values().filter(|of| *of == kind).count();
        ensure!(made == adopted + 1, "{made} of {kind} were left: {left:?}");
    }
    story.assert_nothing_else_is_there(&state)?;
    terraform.assert_plan_is_empty()?;
    ensure!(story.unclaimed()?.is_empty(), "still unclaimed: {:?}", story.unclaimed()?);

    terraform.destroy()?;
    let after: BTreeSet<String> = objects(lab)?.into_keys().collect();
    ensure!(after == story.before, "there were {:?}, there are {after:?}", story.before);
    println!("{kills} kills, {} objects of {} kinds were left", seen.len(), killed_at.len());
    drop(story.terraform);
    story.lab.close()
}

/// The same loss of the state with nobody killed, which shows that the story above sees what adoption does.
#[test]
fn what_a_terraform_that_ended_well_has_made_is_not_adopted() -> Result<()> {
    let story = Story::new()?;
    let (lab, terraform) = (&story.lab, &story.terraform);
    terraform.main(&(module(lab)? + &gate()))?;
    let run = terraform.start_apply()?;
    eventually("all is made", within(), || Ok(story.reached().then_some(())))?;
    let made = story.unclaimed()?;
    ensure!(made.len() == addresses().count(), "{made:?}");
    terraform.write(OPEN, "")?;
    run.finish(within())?.success()?;
    ensure!(story.unclaimed()?.is_empty(), "still unclaimed: {:?}", story.unclaimed()?);
    let kept = std::fs::read(terraform.directory().join("terraform.tfstate"))?;
    story.lose_the_state()?;

    // What has a name of its own is in the way now, and others come a second time.
    let refused = terraform.try_apply()?.failure()?.text();
    for taken in ["weft_key_pair.it", "weft_instance_type.it"] {
        ensure!(refused.contains(&format!("with {taken},")), "{taken} was taken over:\n{refused}");
    }
    let doubled = terraform.state()?;
    for address in doubled.addresses() {
        let id = doubled.text(&address, "id")?;
        ensure!(!made.contains_key(&id), "{address} took {id} over");
    }
    ensure!(doubled.has("weft_vpc.it") && doubled.has("weft_volume.it"), "{refused}");

    terraform.destroy()?;
    std::fs::write(terraform.directory().join("terraform.tfstate"), kept)?;
    terraform.destroy()?;
    let after: BTreeSet<String> = objects(lab)?.into_keys().collect();
    ensure!(after == story.before, "there were {:?}, there are {after:?}", story.before);
    drop(story.terraform);
    story.lab.close()
}
