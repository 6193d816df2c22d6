//! Whether what is asked for can be done with the keys that are there.

use weft_model::{InstanceId, Problem, VolumeSpec};

use crate::context::Context;

impl Context {
    /// # Errors
    /// The instance has an encrypted volume whose key is not there: no guest of it could be started.
    pub(crate) fn check_keys_of(&self, instance: &InstanceId) -> Result<(), Problem> {
        let world = self.cache.read();
        let volumes = world.volumes_of(instance).map(|attachment| attachment.id.second());
        for volume in volumes.filter_map(|id| world.volumes.get(id)) {
            self.check_key(&volume.spec, "id").map_err(|problem| {
                let text = format!("volume {}: {}", volume.id, problem.message);
                Problem { message: text, ..problem }
            })?;
        }
        Ok(())
    }

    /// # Errors
    /// The volume is encrypted, and its key is not there: a [`Problem`] at `field`.
    pub(crate) fn check_key(&self, volume: &VolumeSpec, field: &str) -> Result<(), Problem> {
        let Some(secret) = &volume.secret else { return Ok(()) };
        let opened = self.host.volume_keys().unwrap(secret).map(drop);
        opened.map_err(|error| Problem::from(error).at(field))
    }
}
