//! A module with one instance that is created, updated and destroyed.

use anyhow::{Result, ensure};

use super::{Act, Scene};
use crate::lab::Lab;
use crate::terraform::Terraform;
use crate::wait::{eventually, within};

/// `weft_instance.it` in two modules, of which the second changes it in place.
#[derive(Debug)]
pub struct Machine {
    created: String,
    updated: String,
    id: String,
    address: String,
}

impl Machine {
    /// `updated` changes what `created` makes, in place.
    #[must_use]
    pub fn new(created: String, updated: String) -> Self {
        Self { created, updated, id: String::new(), address: String::new() }
    }

    fn assert_runs(&mut self, lab: &Lab, terraform: &Terraform) -> Result<()> {
        terraform.assert_plan_is_empty()?;
        let state = terraform.state()?;
        self.id = state.text("weft_instance.it", "id")?;
        self.address = state.text("weft_instance.it", "private_ip")?;
        lab.wait_for_state(&self.id, "running")?;
        ensure!(lab.count("instances")? == 1 && lab.count("images")? == 1, "doubled");
        if lab.outside().is_ok() {
            ensure!(lab.hypervisors().len() == 1, "{:?}", lab.hypervisors());
        }
        Ok(())
    }

    fn assert_gone(&self, lab: &Lab) -> Result<()> {
        for kind in ["instances", "images", "keys"] {
            ensure!(lab.count(kind)? == 0, "{kind} are left");
        }
        // Also for the next cycle's sake: what is still there is not uploaded again.
        let blobs = lab.directory().join("state/images/blobs/sha256");
        eventually("the image's blobs are removed", within(), || {
            Ok(std::fs::read_dir(&blobs)?.next().is_none().then_some(()))
        })?;
        match lab.outside() {
            Ok(_) => lab.assert_instance_is_gone(&self.id, &self.address),
            Err(_) => Ok(()),
        }
    }
}

impl Scene for Machine {
    fn steps(&self) -> &'static [&'static str] {
        &["create", "update", "destroy"]
    }

    fn act(&self, step: &str) -> Act {
        match step {
            "create" => Act::Apply(self.created.clone()),
            "update" => Act::Apply(self.updated.clone()),
            _ => Act::Destroy,
        }
    }

    fn check(&mut self, lab: &Lab, terraform: &Terraform, step: &str) -> Result<()> {
        match step {
            "destroy" => self.assert_gone(lab),
            _ => self.assert_runs(lab, terraform),
        }
    }
}
