//! Images by short names such as `debian/13`: a catalogue that is built in, and one of the user's
//! own, which goes before it.
//!
//! An entry says where a file is and what its digest is, so that all who say `debian/13` with the
//! same catalogue get the same bytes, whatever a publisher calls "latest" by then.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use weft_model::{Architecture, BootMode, Checksum, ImageUrl, Problem, Reason};

/// The environment's name of a catalogue, where the configuration has none.
pub(crate) const VARIABLE: &str = "WEFT_IMAGE_CATALOG";
/// What is built in.
const BUILT_IN: &str = include_str!("catalog.toml");
/// How many names a refusal tells.
const SUGGESTIONS: usize = 3;

/// Where the user's own catalogue is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Own {
    /// There is none.
    #[default]
    None,
    /// In this file.
    File(PathBuf),
    /// It is not known before the apply.
    Unknown,
}

/// One image for one architecture.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) architecture: Architecture,
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) mirrors: Vec<String>,
    pub(crate) sha256: Option<String>,
    pub(crate) sha512: Option<String>,
    /// A publisher's list, which is no pin: who fetches the image first decides.
    pub(crate) sha256_url: Option<String>,
    pub(crate) default_user: String,
    boot_mode: Option<BootMode>,
    #[serde(default)]
    pub(crate) min_disk_gib: u32,
}

impl Entry {
    /// Unless it says so: BIOS where there is one.
    pub(crate) fn boot_mode(&self) -> BootMode {
        self.boot_mode.unwrap_or(match self.architecture {
            Architecture::X86_64 => BootMode::Bios,
            Architecture::Aarch64 => BootMode::Uefi,
        })
    }

    /// What is wrong with it, if anything.
    fn judge(&self) -> Result<(), String> {
        let urls = self.mirrors.iter().chain([&self.url]).chain(&self.sha256_url);
        for url in urls {
            url.parse::<ImageUrl>().map_err(|error| error.to_string())?;
        }
        match (&self.sha256, &self.sha512, &self.sha256_url) {
            (Some(sha256), None, None) => {
                Checksum::from_fields(sha256, "").map(drop).map_err(|error| error.to_string())
            }
            (None, Some(sha512), None) => {
                Checksum::from_fields("", sha512).map(drop).map_err(|error| error.to_string())
            }
            (None, None, Some(_)) => Ok(()),
            _ => Err("give exactly one of sha256, sha512 and sha256_url".to_owned()),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    image: Vec<Entry>,
}

/// All images that have names; the user's own come first.
#[derive(Debug)]
pub(crate) struct Catalog(Vec<Entry>);

impl Catalog {
    /// The built-in images, and those of the user's own catalogue before them.
    ///
    /// # Errors
    /// The file cannot be read, or an entry of it makes no sense.
    pub(crate) fn load(own: &Own) -> Result<Self, Problem> {
        let mut entries = match own {
            Own::None => Vec::new(),
            Own::File(path) => read(path)?,
            Own::Unknown => {
                let message = "the provider's image_catalog is not known yet";
                return Err(Problem::new(Reason::FailedPrecondition, message)
                    .remedy("use a path that is known while planning"));
            }
        };
        let built_in = parse(BUILT_IN);
        entries.extend(built_in.map_err(|what| Problem::new(Reason::Internal, what))?);
        Ok(Self(entries))
    }

    /// The image that is called `name`.
    ///
    /// # Errors
    /// There is none, at `name` or `architecture`: the remedy says which there are.
    pub(crate) fn find(&self, name: &str, architecture: Architecture) -> Result<&Entry, Problem> {
        let named = || self.0.iter().filter(|entry| entry.name == name);
        if let Some(entry) = named().find(|entry| entry.architecture == architecture) {
            return Ok(entry);
        }
        if let Some(other) = named().next() {
            let message = format!("there is no {architecture} image called \"{name}\"");
            return Err(Problem::not_found(message).at("architecture").remedy(format!(
                "use architecture = \"{}\", or add it to image_catalog of the provider",
                other.architecture
            )));
        }
        let mut names: Vec<&str> = self.0.iter().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let all = names.join(", ");
        // Stable: of names that are as near as each other, the first in the alphabet comes first.
        names.sort_by_key(|known| strsim::osa_distance(name, known));
        names.truncate(SUGGESTIONS);
        let nearest = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>();
        let message = format!("there is no image called \"{name}\"");
        Err(Problem::not_found(message).at("name").remedy(format!(
            "the nearest are {}, and all: {all}; others can be added by image_catalog of the provider",
            nearest.join(", ")
        )))
    }
}

fn read(path: &Path) -> Result<Vec<Entry>, Problem> {
    let refused = |what: String| {
        let message = format!("the image catalogue {}: {what}", path.display());
        Problem::invalid("image_catalog", message)
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        refused(error.to_string()).remedy(format!(
            "write the path of a TOML file into image_catalog of the provider, or into {VARIABLE}"
        ))
    })?;
    parse(&text).map_err(|what| {
        refused(what).remedy("the guide \"Images by name\" shows what such a file looks like")
    })
}

/// The entries of a catalogue, or what is wrong with it.
fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let File { image } = toml::from_str(text).map_err(|error| error.to_string())?;
    for (index, entry) in image.iter().enumerate() {
        let called = |what: String| format!("{} ({}): {what}", entry.name, entry.architecture);
        entry.judge().map_err(called)?;
        let same =
            |other: &Entry| (&other.name, other.architecture) == (&entry.name, entry.architecture);
        if image[..index].iter().any(same) {
            return Err(called("it is there twice".to_owned()));
        }
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(text: &str) -> Result<Catalog, Problem> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.toml");
        std::fs::write(&path, text).unwrap();
        Catalog::load(&Own::File(path))
    }

    #[test]
    fn the_built_in_images_are_pinned_for_both_architectures() {
        let catalog = Catalog::load(&Own::None).unwrap();
        for name in ["debian/12", "debian/13", "ubuntu/22.04", "ubuntu/24.04"] {
            for architecture in [Architecture::X86_64, Architecture::Aarch64] {
                catalog.find(name, architecture).unwrap();
            }
        }
        for entry in &catalog.0 {
            assert!(entry.sha256_url.is_none(), "{entry:?} is not pinned");
            assert!(entry.url.starts_with("https://"), "{entry:?}");
            // What such a URL leads to changes.
            for word in ["latest", "current", "/release/", "daily"] {
                assert!(!entry.url.contains(word), "{entry:?}");
            }
            let others = catalog.0.iter().filter(|other| other.name == entry.name);
            assert_eq!(others.count(), 2, "{entry:?}");
            let digest = entry.sha256.as_ref().or(entry.sha512.as_ref());
            let same = |other: &&Entry| other.sha256.as_ref().or(other.sha512.as_ref()) == digest;
            assert_eq!(catalog.0.iter().filter(same).count(), 1, "{entry:?}");
        }
    }

    #[test]
    fn an_own_entry_goes_before_the_built_in_one() {
        let sha256 = "ab".repeat(32);
        let catalog = own(&format!(
            "[[image]]\nname = \"debian/13\"\narchitecture = \"x86_64\"\nurl = \"http://x/d.img\"\n\
             sha256 = \"{sha256}\"\ndefault_user = \"me\"\nboot_mode = \"uefi\"\n"
        ));
        let catalog = catalog.unwrap();
        let entry = catalog.find("debian/13", Architecture::X86_64).unwrap();
        assert_eq!((entry.url.as_str(), entry.boot_mode()), ("http://x/d.img", BootMode::Uefi));
        let other = catalog.find("debian/13", Architecture::Aarch64).unwrap();
        assert!(other.url.contains("debian-13"), "the other architecture stays");
    }

    #[test]
    fn an_unknown_name_is_told_with_its_neighbours() {
        let catalog = Catalog::load(&Own::None).unwrap();
        let problem = catalog.find("debain/13", Architecture::X86_64).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("name"));
        let remedy = problem.remedy.unwrap();
        assert!(remedy.starts_with("the nearest are \"debian/13\", \"debian/12\""), "{remedy}");
        assert!(remedy.contains("ubuntu/24.04"), "{remedy}");
    }

    #[test]
    fn a_file_that_makes_no_sense_is_told_where() {
        let head = "[[image]]\nname = \"a/1\"\narchitecture = \"x86_64\"\ndefault_user = \"u\"\n";
        let (url, sha256) =
            ("url = \"http://x/a\"\n", format!("sha256 = \"{}\"\n", "ab".repeat(32)));
        #[rustfmt::skip]
        let cases = [
            (format!("{head}{url}"),                                 "a/1 (x86_64): give exactly one of"),
            (format!("{head}{url}{sha256}sha512 = \"\"\n"),          "a/1 (x86_64): give exactly one of"),
            (format!("{head}{url}sha256 = \"ab\"\n"),                "64 hexadecimal digits"),
            (format!("{head}url = \"/a\"\n{sha256}"),                "a/1 (x86_64)"),
            (format!("{head}{url}{sha256}size = 3\n"),               "unknown field `size`"),
            (format!("{head}{url}{sha256}{head}{url}{sha256}"),      "it is there twice"),
            ("[[image]]\nname = 3\n".to_owned(),                     "line 2"),
            ("images = []\n".to_owned(),                             "unknown field `images`"),
        ];
        for (text, want) in cases {
            let told = own(&text).unwrap_err();
            assert!(told.message.contains(want), "{text}: {told}");
        }
        let missing = Catalog::load(&Own::File("/nowhere/catalog.toml".into())).unwrap_err();
        assert!(missing.message.contains("/nowhere/catalog.toml: No such file"), "{missing}");
    }
}
