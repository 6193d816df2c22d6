//! Where the files of an image come from: paths of this machine, or URLs that the agent fetches.

use tfplugin::{Diagnostic, Diagnostics, PlanContext, Value};
use weft_model::{Digest, ImageUrl, InvalidImageUrl};

use super::capture;
use super::files::Role;

impl Role {
    /// The attribute that names the URL.
    pub(crate) fn url(self) -> &'static str {
        match self {
            Self::Disk => "source_url",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
        }
    }

    /// The attribute that says what has to come from there.
    pub(crate) fn sha256(self) -> &'static str {
        match self {
            Self::Disk => "sha256",
            Self::Kernel => "kernel_sha256",
            Self::Initrd => "initrd_sha256",
        }
    }
}

/// What can stand in place of the disk's `sha256`.
pub(super) const SHA512: &str = "sha512";

const ROLES: [Role; 3] = [Role::Disk, Role::Kernel, Role::Initrd];

/// Whether the agent fetches the files itself.
pub(super) fn is_by_url(values: &Value) -> bool {
    !values.get("source_url").is_null()
}

/// Where else the disk is; what does not parse was refused before.
pub(super) fn mirrors(values: &Value) -> Vec<ImageUrl> {
    let mirrors = values.get("mirrors").as_list().unwrap_or_default();
    mirrors.iter().filter_map(|mirror| mirror.as_str()?.parse().ok()).collect()
}

/// What configuration alone shows to be wrong.
pub(super) fn validate(config: &Value) -> Diagnostics {
    if capture::is_captured(config) {
        return capture::validate(config);
    }
    let mut found = Diagnostics::new();
    let (path, url) = (config.get("source_path"), config.get("source_url"));
    if path.is_null() && url.is_null() {
        found.push(
            Diagnostic::error("The image has no source")
                .cause("none of source_path, source_url, source_instance_id and source_snapshot_id is set")
                .remedy("Set source_path to a file of this machine, source_url and sha256 to what the agent is to fetch, or one of the others to what the agent is to make it of"),
        );
    }
    if path.is_set() && url.is_set() {
        found.push(
            Diagnostic::error("The image has two sources")
                .cause("both source_path and source_url are set")
                .remedy("Keep one of them")
                .at("source_url"),
        );
    }
    if url.is_null() {
        for name in [SHA512, "sha256_url", "mirrors"] {
            if config.get(name).is_set() {
                found.push(
                    Diagnostic::error(format!("{name} without a URL"))
                        .cause("it goes along with source_url, which is not set")
                        .remedy(format!("Remove {name}, or use source_url"))
                        .at(name),
                );
            }
        }
    }
    let given = ["sha256", SHA512, "sha256_url"].map(|name| (name, config.get(name).is_set()));
    let mut given = given.into_iter().filter_map(|(name, set)| set.then_some(name));
    if let (Some(one), Some(other)) = (given.next(), given.next()) {
        found.push(
            Diagnostic::error("The digest is given twice")
                .cause(format!("both {one} and {other} are set"))
                .remedy("Keep one of them: sha256 and sha512 pin the file for good")
                .at(other),
        );
    }
    let lists =
        config.get("mirrors").as_list().unwrap_or_default().iter().map(|url| ("mirrors", url));
    for (name, url) in lists.chain([("sha256_url", config.get("sha256_url"))]) {
        if let Some(Err(error)) = url.as_str().map(str::parse::<ImageUrl>) {
            let said = error.to_string();
            let (cause, remedy) =
                said.split_once(": ").unwrap_or((&said, "write an http or https URL"));
            let told = Diagnostic::error(format!("{name} cannot be fetched"));
            found.push(told.cause(cause).remedy(capital(remedy)).at(name));
        }
    }
    if url.is_set() {
        ROLES.iter().for_each(|role| validate_url(config, *role, &mut found));
    } else if url.is_null() {
        for name in ROLES.map(Role::sha256) {
            if config.get(name).is_set() {
                found.push(
                    Diagnostic::error(format!("{name} without a URL"))
                        .cause("the digests of files of this machine are computed, not given")
                        .remedy(format!("Remove {name}, or use source_url"))
                        .at(name),
                );
            }
        }
    }
    found
}

fn validate_url(config: &Value, role: Role, found: &mut Diagnostics) {
    let (name, sha256) = (role.url(), role.sha256());
    let url = config.get(name);
    if let Some(text) = url.as_str()
        && let Err(error) = text.parse::<ImageUrl>()
    {
        let beside = matches!(error, InvalidImageUrl::NotAUrl(_)) && role != Role::Disk;
        let said = error.to_string();
        let (cause, remedy) =
            said.split_once(": ").unwrap_or((&said, "write an http or https URL"));
        let remedy =
            if beside { "with source_url, kernel and initrd are URLs too" } else { remedy };
        found.push(
            Diagnostic::error(format!("{name} cannot be fetched"))
                .cause(cause)
                .remedy(capital(remedy))
                .at(name),
        );
    }
    let others = [SHA512, "sha256_url"];
    let otherwise = role == Role::Disk && others.iter().any(|name| !config.get(*name).is_null());
    if url.is_set() && config.get(sha256).is_null() && !otherwise {
        let instead = match role {
            Role::Disk => format!(
                "Set {sha256} or {SHA512}, whichever its publisher gives, or sha256_url to the list that they are in, such as SHA256SUMS; sha256sum FILE computes the one of a file"
            ),
            _ => format!(
                "Set {sha256}; publishers list it as SHA256SUMS, and sha256sum FILE computes it"
            ),
        };
        found.push(
            Diagnostic::error(format!("{sha256} is missing"))
                .cause(format!("without it nobody could see whether the file at {name} is the right one, or has changed"))
                .remedy(instead)
                .at(name),
        );
    }
    if url.is_null() && config.get(sha256).is_set() {
        found.push(
            Diagnostic::error(format!("{sha256} without {name}"))
                .cause(format!("it is the digest of {name}, which is not set"))
                .remedy(format!("Set {name}, or remove {sha256}"))
                .at(sha256),
        );
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The digest of `role`, as it is given.
pub(super) fn plan(ctx: &mut PlanContext, role: Role, shown: &str) {
    let listed = role == Role::Disk && !ctx.plan.get("sha256_url").is_null();
    let by_sha512 = role == Role::Disk && !ctx.plan.get(SHA512).is_null();
    let given = match ctx.plan.get(role.url()) {
        Value::Null => Value::Null,
        // It says which file it is as well as a digest does, but not what the digest is.
        _ if by_sha512 => match !ctx.is_create() && !ctx.changes(SHA512) {
            true => ctx.prior.get(shown).clone(),
            false => Value::Unknown,
        },
        // It was planned from the list.
        _ if listed => ctx.plan.get(shown).clone(),
        _ => ctx.plan.get(role.sha256()).clone(),
    };
    // What does not parse was refused by the attribute's validator.
    let digest = match given {
        Value::String(text) => {
            text.parse::<Digest>().map_or(Value::Null, |digest| digest.to_string().into())
        }
        other => other,
    };
    ctx.set(shown, digest);
    if role == Role::Disk && (ctx.is_create() || ctx.changes(shown)) {
        ctx.mark_unknown("virtual_size_bytes");
    }
}
