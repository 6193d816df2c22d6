//! What a provider offers of one family of things, by name.

use std::{collections::BTreeMap, sync::Arc};

use crate::{cty::Path, diag::Diagnostic, schema::InvalidSchema};

/// The things of one family; a name has one.
pub(super) struct Registry<E> {
    /// What one of them is called, such as "data source".
    noun: &'static str,
    entries: BTreeMap<String, Arc<E>>,
}

impl<E> Registry<E> {
    /// With what `entry` makes of each: its name, and what is kept of it.
    pub(super) fn new<T>(
        noun: &'static str,
        things: Vec<T>,
        entry: impl Fn(T) -> Result<(String, E), InvalidSchema>,
    ) -> Result<Self, InvalidSchema> {
        let mut entries = BTreeMap::new();
        for thing in things {
            let (name, entry) = entry(thing)?;
            if entries.insert(name.clone(), Arc::new(entry)).is_some() {
                let problem = "there are two of this name";
                return Err(InvalidSchema { schema: name, path: Path::root(), problem });
            }
        }
        Ok(Self { noun, entries })
    }

    pub(super) fn find(&self, name: &str) -> Option<&Arc<E>> {
        self.entries.get(name)
    }

    /// # Errors
    /// There is none of this name, told to the user.
    pub(super) fn get(&self, name: &str) -> Result<Arc<E>, Diagnostic> {
        self.find(name).cloned().ok_or_else(|| {
            Diagnostic::error(format!("There is no {} {name}", self.noun))
                .cause(format!("this version of the provider does not offer {name}"))
                .remedy("Use the provider version that the configuration was written for")
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.entries.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Arc<E>)> {
        self.entries.iter()
    }
}
