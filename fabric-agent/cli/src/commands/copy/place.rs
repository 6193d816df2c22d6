//! Where things are copied from and to. Paths are read as scp(1) reads them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use weft_model::{Problem, Reason};

/// One side of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Here(PathBuf),
    Guest { instance: String, path: PathBuf },
}

impl Place {
    /// What is before the first colon is an instance, unless it has a slash in it.
    fn parse(text: &OsStr) -> Result<Self, Problem> {
        let bytes = text.as_bytes();
        let colon = bytes.iter().position(|byte| *byte == b':');
        let Some(colon) = colon.filter(|at| !bytes[..*at].contains(&b'/')) else {
            return Ok(Self::Here(PathBuf::from(text)));
        };
        let instance = String::from_utf8_lossy(&bytes[..colon]).into_owned();
        if instance.is_empty() {
            let message = format!("\"{}\" names no instance", text.to_string_lossy());
            return Err(Problem::invalid("INSTANCE:PATH", message)
                .remedy("write INSTANCE:PATH, or ./ before a local path with a colon"));
        }
        // The home directory, where a login begins.
        let path = match &bytes[colon + 1..] {
            b"" => Path::new("."),
            path => Path::new(OsStr::from_bytes(path)),
        };
        Ok(Self::Guest { instance, path: path.to_owned() })
    }

    fn local(self) -> Option<PathBuf> {
        match self {
            Self::Here(path) => Some(path),
            Self::Guest { .. } => None,
        }
    }
}

/// Everything that one call copies.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Into { instance: String, sources: Vec<PathBuf>, path: PathBuf },
    OutOf { instance: String, paths: Vec<PathBuf>, target: PathBuf },
}

/// # Errors
/// Exactly one side has to be one guest.
pub(super) fn route(sources: &[OsString], target: &OsStr) -> Result<Route, Problem> {
    let sources =
        sources.iter().map(|source| Place::parse(source)).collect::<Result<Vec<_>, _>>()?;
    let refuse = |message: &str, remedy: &str| {
        Err(Problem::new(Reason::InvalidArgument, message).remedy(remedy))
    };
    match Place::parse(target)? {
        Place::Guest { instance, path } => {
            let count = sources.len();
            let sources: Vec<_> = sources.into_iter().filter_map(Place::local).collect();
            if sources.len() != count {
                return refuse(
                    "both sides are instances",
                    "copy to this machine first, and from here to the other instance",
                );
            }
            Ok(Route::Into { instance, sources, path })
        }
        Place::Here(target) => {
            let mut paths = Vec::new();
            let mut from: Option<String> = None;
            for source in sources {
                match source {
                    Place::Guest { instance, path }
                        if from.as_ref().is_none_or(|known| *known == instance) =>
                    {
                        from = Some(instance);
                        paths.push(path);
                    }
                    Place::Guest { .. } => {
                        return refuse("the sources are in several instances", "run one for each");
                    }
                    Place::Here(_) => {
                        return refuse(
                            "neither side is an instance",
                            "write INSTANCE:PATH for the one in the guest",
                        );
                    }
                }
            }
            match from {
                Some(instance) => Ok(Route::OutOf { instance, paths, target }),
                None => refuse("there is nothing to copy", "name a source"),
            }
        }
    }
}

/// A file or a directory of this machine.
#[derive(Debug)]
pub(super) struct Source {
    /// Where it is, behind symbolic links.
    pub(super) path: PathBuf,
    /// What it is called in a directory; empty for the likes of `..`: what is in it is meant.
    pub(super) name: OsString,
    pub(super) is_directory: bool,
}

impl Source {
    /// # Errors
    /// It is not there, or is something else.
    pub(super) fn of(path: &Path) -> Result<Self, Problem> {
        let metadata = std::fs::metadata(path)
            .map_err(|error| Problem::new(Reason::NotFound, error.to_string()))?;
        if !metadata.is_dir() && !metadata.is_file() {
            let message = "it is neither a file nor a directory";
            return Err(Problem::new(Reason::InvalidArgument, message));
        }
        let name = name_of(path).map(OsStr::to_owned).unwrap_or_default();
        Ok(Self { path: path.to_owned(), name, is_directory: metadata.is_dir() })
    }
}

/// The last part of a path, where that is a name.
fn name_of(path: &Path) -> Option<&OsStr> {
    match path.components().next_back() {
        Some(Component::Normal(name)) if !path.as_os_str().as_bytes().ends_with(b"/.") => {
            Some(name)
        }
        _ => None,
    }
}

/// Where the guest's `path` is put: into a directory that is there, else under the new name.
pub(super) fn local_target(path: &Path, target: &Path) -> PathBuf {
    match name_of(path) {
        Some(name) if target.is_dir() => target.join(name),
        _ => target.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(sources: &[&str], target: &str) -> Result<Route, String> {
        let sources: Vec<OsString> = sources.iter().map(OsString::from).collect();
        route(&sources, OsStr::new(target)).map_err(|problem| problem.message)
    }

    #[test]
    fn an_instance_is_what_is_before_a_colon_without_a_slash() {
        let guest = |instance: &str, path: &str| Place::Guest {
            instance: instance.to_owned(),
            path: PathBuf::from(path),
        };
        for (text, want) in [
            ("web:/etc/hosts", guest("web", "/etc/hosts")),
            ("web:", guest("web", ".")),
            ("web:a:b", guest("web", "a:b")),
            ("./a:b", Place::Here("./a:b".into())),
            ("/x/a:b", Place::Here("/x/a:b".into())),
            ("plain", Place::Here("plain".into())),
        ] {
            assert_eq!(Place::parse(OsStr::new(text)), Ok(want), "{text}");
        }
        assert!(Place::parse(OsStr::new(":x")).is_err());
    }

    #[test]
    fn exactly_one_side_is_one_guest() {
        assert!(matches!(routed(&["a", "b"], "web:/tmp"), Ok(Route::Into { .. })));
        assert!(matches!(routed(&["web:a", "web:b"], "."), Ok(Route::OutOf { .. })));
        for (sources, target, want) in [
            (vec!["a"], "b", "neither side is an instance"),
            (vec!["web:a", "b"], "c", "neither side is an instance"),
            (vec!["web:a"], "db:b", "both sides are instances"),
            (vec!["web:a", "db:b"], ".", "the sources are in several instances"),
        ] {
            assert_eq!(routed(&sources, target), Err(want.to_owned()), "{sources:?} {target}");
        }
    }

    #[test]
    fn what_has_no_name_of_its_own_is_put_where_the_target_is() {
        let directory = tempfile::tempdir().unwrap();
        let there = directory.path();
        assert_eq!(local_target(Path::new("/etc/hosts"), there), there.join("hosts"));
        assert_eq!(local_target(Path::new("/srv/site/"), there), there.join("site"));
        for path in [".", "/", "..", "/srv/.."] {
            assert_eq!(local_target(Path::new(path), there), there, "{path}");
        }
        assert_eq!(local_target(Path::new("/srv/site/."), there), there);
        let new = there.join("new");
        assert_eq!(local_target(Path::new("/etc/hosts"), &new), new);
    }
}
