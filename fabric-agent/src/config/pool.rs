//! `--pool NAME=DIRECTORY[,shared]`: storage pools as an operator gives them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use weft_model::PoolName;

use super::Directories;

/// What may follow the directory.
const SHARED: &str = "shared";
/// What is made, and removed, to see what a directory can do.
const PROBE: [&str; 2] = [".weft-probe", ".weft-probe-link"];

/// A directory for volumes' disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenPool {
    pub(crate) name: PoolName,
    pub(crate) dir: PathBuf,
    /// Whether other hosts have the same file system.
    pub(crate) shared: bool,
}

impl FromStr for GivenPool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || "write NAME=DIRECTORY or NAME=DIRECTORY,shared".to_owned();
        let (name, place) = text.split_once('=').ok_or_else(usage)?;
        let name: PoolName =
            name.parse().map_err(|error: weft_model::InvalidPoolName| error.to_string())?;
        if name == PoolName::standard() {
            return Err(format!("\"{name}\" is the state directory's pool: choose another name"));
        }
        let (dir, shared) = match place.split_once(',') {
            None => (place, false),
            Some((dir, SHARED)) => (dir, true),
            Some((_, other)) => {
                return Err(format!(
                    "only ,{SHARED} can follow the directory, which itself has no comma: not {other:?}"
                ));
            }
        };
        let dir = PathBuf::from(dir);
        if !dir.is_absolute() {
            return Err(format!(
                "the directory {} is not absolute: begin it with /",
                dir.display()
            ));
        }
        Ok(Self { name, dir, shared })
    }
}

/// The pools with their directories as they are without symbolic links.
///
/// # Errors
/// One that is given twice, does not exist, cannot be written, or lies in another directory of the
/// agent's, or that one in it.
pub(crate) fn check(
    given: &[GivenPool],
    directories: &Directories,
) -> anyhow::Result<Vec<GivenPool>> {
    let mut checked: Vec<GivenPool> = Vec::new();
    for pool in given {
        let (name, dir) = (&pool.name, pool.dir.display());
        ensure!(
            checked.iter().all(|other| other.name != *name),
            "--pool {name} is given twice: give each pool once, with one directory"
        );
        let real = fs::canonicalize(&pool.dir).with_context(|| {
            format!(
                "--pool {name}: the directory {dir} cannot be used; make it, or mount it, first"
            )
        })?;
        ensure!(real.is_dir(), "--pool {name}: {dir} is no directory");
        let own =
            [("--state-dir", &directories.state_dir), ("--runtime-dir", &directories.runtime_dir)];
        for (flag, other) in own {
            check_apart(name, &real, flag, other)?;
        }
        for other in &checked {
            check_apart(name, &real, &format!("--pool {}", other.name), &other.dir)?;
        }
        probe(&real).with_context(|| {
            format!(
                "--pool {name}: {dir} cannot have volumes: their files are made there, and get \
                 second names (hard links) by snapshots"
            )
        })?;
        checked.push(GivenPool { dir: real, ..pool.clone() });
    }
    Ok(checked)
}

/// What the agent removes from the one must not be the other's.
fn check_apart(name: &PoolName, dir: &Path, flag: &str, other: &Path) -> anyhow::Result<()> {
    let other = fs::canonicalize(other).unwrap_or_else(|_| other.to_owned());
    if dir.starts_with(&other) || other.starts_with(dir) {
        bail!(
            "--pool {name}: {} and {} of {flag} lie in one another: give the pool a directory of \
             its own",
            dir.display(),
            other.display()
        );
    }
    Ok(())
}

fn probe(dir: &Path) -> std::io::Result<()> {
    let [file, link] = PROBE.map(|name| dir.join(name));
    let clear = || {
        // Also what an agent left that was killed here.
        let _ = fs::remove_file(&file);
        let _ = fs::remove_file(&link);
    };
    clear();
    let made = File::create(&file).and_then(|_| fs::hard_link(&file, &link));
    clear();
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_a_name_and_an_absolute_directory() {
        let parse = |text: &str| text.parse::<GivenPool>();
        let fast = parse("fast=/mnt/fast").unwrap();
        assert_eq!(
            (fast.name.as_str(), fast.dir.to_str(), fast.shared),
            ("fast", Some("/mnt/fast"), false)
        );
        assert!(parse("nfs=/mnt/nfs,shared").unwrap().shared);
        for (bad, word) in [
            ("fast", "NAME=DIRECTORY"),
            ("Fast=/a", "lowercase"),
            ("standard=/a", "another name"),
            ("fast=a/b", "not absolute"),
            ("fast=", "not absolute"),
            ("fast=/a,readonly", "only ,shared"),
            ("fast=/a,shared,shared", "only ,shared"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }

    #[test]
    fn directories_exist_and_lie_apart() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for name in ["state/in", "run", "a/in", "b"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("file"), "").unwrap();
        std::os::unix::fs::symlink(path("a"), path("link")).unwrap();
        let directories = Directories {
            state_dir: path("state"),
            runtime_dir: path("run"),
            prefix: "weft".to_owned(),
        };
        let pool = |name: &str, dir: &str| GivenPool {
            name: name.parse().unwrap(),
            dir: path(dir),
            shared: false,
        };
        let good = check(&[pool("a", "link"), pool("b", "b")], &directories).unwrap();
        assert_eq!(good[0].dir, path("a").canonicalize().unwrap());
        assert!(!path("a").join(PROBE[0]).exists() && !path("a").join(PROBE[1]).exists());
        let twice = [pool("a", "a"), pool("a", "b")];
        let nested = [pool("a", "a"), pool("b", "a/in")];
        let same = [pool("a", "a"), pool("b", "link")];
        for (given, word) in [
            (&twice[..], "given twice"),
            (&nested, "lie in one another"),
            (&same, "lie in one another"),
            (&[pool("a", "none")], "make it, or mount it"),
            (&[pool("a", "file")], "no directory"),
            (&[pool("a", "state/in")], "of --state-dir lie in one another"),
            (&[pool("a", "state")], "of --state-dir"),
            (&[pool("a", "run")], "of --runtime-dir"),
            (&[pool("a", "")], "of --state-dir"),
        ] {
            let error = format!("{:#}", check(given, &directories).unwrap_err());
            assert!(error.contains(word), "{given:?}: {error}");
        }
    }
}
