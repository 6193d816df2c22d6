//! What is written down of a guest that may be frozen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weft_model::LayerId;

const NOTE: &str = "freeze.json";

/// What is written down of a guest that may be frozen; in a directory that outlives the guest, for its
/// memory may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezeNote(PathBuf);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Noted {
    pub(super) now: Now,
    /// The layer that each disk left behind last, before its guest was thawed, by what QEMU calls the disk.
    kept: BTreeMap<String, LayerId>,
}

/// What is written down of a guest's freezes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freezes {
    /// Whether somebody was to thaw the guest and has not: an agent that died, or could not.
    pub left_frozen: bool,
    /// What disks left behind last while it was frozen; nothing where it may be still.
    pub layers: BTreeSet<LayerId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum Now {
    /// Nothing is frozen.
    #[default]
    Thawed,
    /// Its file systems may be frozen, so that a disk can be sealed into its layer. `accepted`: its agent was
    /// told to, and has not refused; else that is not known.
    Frozen { disk: Sealed, accepted: bool },
    /// The same, and the disk has gone over from it.
    WentOver { disk: Sealed },
    /// What is written there says nothing, after the machine lost power.
    #[serde(skip)]
    Unreadable,
}

/// A disk that is sealed while its guest is frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::guest) struct Sealed {
    /// What QEMU calls it.
    pub(in crate::guest) device: String,
    /// What it has so far becomes this.
    pub(in crate::guest) layer: LayerId,
}

impl FreezeNote {
    /// The note in the instance's directory.
    pub fn in_dir(dir: &Path) -> Self {
        Self(dir.join(NOTE))
    }

    pub(super) fn read(&self) -> io::Result<Noted> {
        let unreadable = |_| Noted { now: Now::Unreadable, ..Noted::default() };
        match fs::read(&self.0) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_else(unreadable)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Noted::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes down what is so now, in one step, also for a machine that loses power then.
    pub(super) fn write(&self, now: Now) -> io::Result<()> {
        self.replace(&Noted { now, ..self.read()? }, true)?;
        self.sync_dir()
    }

    /// The same while the guest stands still: it ends with the machine, and nothing is waited for.
    pub(super) fn write_for_this_boot(&self, now: Now) -> io::Result<()> {
        self.replace(&Noted { now, ..self.read()? }, false)
    }

    /// The same once the guest is thawed: what `kept` left behind, it left before that.
    pub(super) fn write_thawed(&self, kept: Option<&Sealed>) -> io::Result<()> {
        let mut noted = Noted { now: Now::Thawed, ..self.read()? };
        noted.kept.extend(kept.map(|disk| (disk.device.clone(), disk.layer.clone())));
        if noted.kept.is_empty() {
            return self.remove();
        }
        self.replace(&noted, true)?;
        self.sync_dir()
    }

    fn replace(&self, noted: &Noted, durable: bool) -> io::Result<()> {
        let temporary = self.0.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file =
            options.create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec(noted)?)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, &self.0)
    }

    /// Nothing is frozen: a guest that boots has nothing of the one before it.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Ok(()) => self.sync_dir(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(self.0.parent().unwrap_or_else(|| Path::new("/")))?.sync_all()
    }

    pub(super) fn freezes(&self) -> io::Result<Freezes> {
        let Noted { now, kept } = self.read()?;
        Ok(match now {
            Now::Thawed => Freezes { left_frozen: false, layers: kept.into_values().collect() },
            Now::Frozen { .. } | Now::WentOver { .. } | Now::Unreadable => {
                Freezes { left_frozen: true, layers: BTreeSet::new() }
            }
        })
    }

    /// Nobody asks about these layers any more.
    pub(super) fn forget(&self, layers: &BTreeSet<LayerId>) -> io::Result<()> {
        let mut noted = self.read()?;
        noted.kept.retain(|_, layer| !layers.contains(layer));
        if noted == Noted::default() {
            return self.remove();
        }
        self.replace(&noted, true)?;
        self.sync_dir()
    }

    /// Whether the layer was left behind while file systems were frozen.
    pub(super) fn keeps(&self, layer: &LayerId) -> io::Result<bool> {
        Ok(self.read()?.kept.values().any(|kept| kept == layer))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn a_note_says_which_layer_was_left_behind_while_frozen() {
        let dir = tempfile::tempdir().unwrap();
        let note = FreezeNote::in_dir(dir.path());
        let (one, other) = (sealed("root", 1), sealed("root", 2));
        let keeps = |disk: &Sealed| note.keeps(&disk.layer).unwrap();
        assert!(!keeps(&one));
        note.write(Now::Frozen { disk: one.clone(), accepted: false }).unwrap();
        assert!(!keeps(&one));
        note.write_for_this_boot(Now::WentOver { disk: one.clone() }).unwrap();
        assert!(!keeps(&one));
        note.write_thawed(Some(&one)).unwrap();
        assert!(keeps(&one) && !keeps(&other));
        fs::write(dir.path().join(NOTE), "").unwrap();
        assert_eq!(note.read().unwrap().now, Now::Unreadable);
        // What was not kept leaves nothing.
        note.write_thawed(None).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        note.remove().unwrap();
    }

    #[test]
    fn what_one_disk_was_sealed_into_is_kept_while_another_is_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let note = FreezeNote::in_dir(dir.path());
        let (root, data, later) = (sealed("root", 1), sealed("vol-1", 2), sealed("root", 3));
        let keeps = || [&root, &data, &later].map(|disk| note.keeps(&disk.layer).unwrap());
        note.write_thawed(Some(&root)).unwrap();
        // An agent died here, and the next one began with the other disk.
        note.write(Now::Frozen { disk: data.clone(), accepted: false }).unwrap();
        assert_eq!(keeps(), [true, false, false]);
        note.write_for_this_boot(Now::WentOver { disk: data.clone() }).unwrap();
        note.write_thawed(Some(&data)).unwrap();
        assert_eq!(keeps(), [true, true, false]);
        // One of which nothing is kept takes nothing from another.
        note.write(Now::Frozen { disk: data.clone(), accepted: false }).unwrap();
        note.write_thawed(None).unwrap();
        assert_eq!(keeps(), [true, true, false]);
        note.write_thawed(Some(&later)).unwrap();
        assert_eq!(keeps(), [false, true, true]);
        assert_eq!(note.read().unwrap().now, Now::Thawed);

        // What nobody asks about goes; the file with the last of it.
        let both = BTreeSet::from([data.layer.clone(), later.layer.clone()]);
        assert_eq!(note.freezes().unwrap().layers, both);
        note.forget(&BTreeSet::from([later.layer.clone()])).unwrap();
        assert_eq!(keeps(), [false, true, false]);
        note.write(Now::Frozen { disk: root.clone(), accepted: false }).unwrap();
        assert!(note.freezes().unwrap().layers.is_empty());
        note.forget(&both).unwrap();
        assert!(matches!(note.read().unwrap().now, Now::Frozen { .. }));
        note.write_thawed(Some(&root)).unwrap();
        note.forget(&BTreeSet::from([root.layer.clone()])).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    pub(in crate::guest::freeze) fn sealed(device: &str, n: u8) -> Sealed {
        Sealed { device: device.to_owned(), layer: LayerId::from_random([n; 9]) }
    }
}
