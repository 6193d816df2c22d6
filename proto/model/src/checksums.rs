//! Lists of digests, as publishers of images put them beside the files.

use crate::Checksum;

/// The longest list that is read, in bytes: a distribution's has some KiB.
pub const MAX_CHECKSUMS_BYTES: usize = 1 << 20;

/// Why a list does not say a file's digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumsError {
    /// It is about other files.
    #[error("it does not list \"{file}\"{}", listed(.others))]
    NotListed {
        /// The file that was looked for.
        file: String,
        /// Some of those that it lists.
        others: Vec<String>,
    },
    /// No list of digests that we know.
    #[error("it is no list of SHA-256 or SHA-512 digests such as SHA256SUMS")]
    NotAList,
    /// Two lines say different things.
    #[error("it lists \"{file}\" twice, with different digests")]
    Ambiguous {
        /// The file.
        file: String,
    },
}

/// How many other names are told.
const TOLD: usize = 5;

fn listed(others: &[String]) -> String {
    match others {
        [] => String::new(),
        others => format!(", but {}", others.join(", ")),
    }
}

/// The digest of `file` (a name without directories) in `text`: lines as `sha256sum` and `sha512sum`
/// write them (`DIGEST  NAME`, `DIGEST *NAME`), as BSD's `sha256` does (`SHA256 (NAME) = DIGEST`,
/// Fedora's CHECKSUM), or one digest alone. Comments, signatures and other algorithms' lines are passed
/// over. A name may have directories in front. Where both are there, it is the SHA-256.
///
/// # Errors
/// [`ChecksumsError`].
pub fn find_checksum(text: &str, file: &str) -> Result<Checksum, ChecksumsError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let entries: Vec<(Option<&str>, Checksum)> = lines.filter_map(entry).collect();
    if let [(None, digest)] = entries.as_slice() {
        return Ok(*digest);
    }
    let mut named = entries.iter().filter_map(|(name, digest)| Some(((*name)?, *digest)));
    let base = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let (mut sha256, mut sha512) = (None, None);
    for (_, digest) in named.clone().filter(|(name, _)| base(name) == file) {
        let found = match digest {
            Checksum::Sha256(_) => &mut sha256,
            Checksum::Sha512(_) => &mut sha512,
        };
        if found.is_some_and(|before| before != digest) {
            return Err(ChecksumsError::Ambiguous { file: file.to_owned() });
        }
        *found = Some(digest);
    }
    match (sha256.or(sha512), named.next()) {
        (Some(digest), _) => Ok(digest),
        (None, None) => Err(ChecksumsError::NotAList),
        (None, Some(_)) => {
            let names = entries.iter().filter_map(|(name, _)| *name);
            let printable =
                |name: &str| name.chars().filter(|c| !c.is_control()).take(80).collect();
            let others = names.take(TOLD).map(|name| printable(&base(name))).collect();
            Err(ChecksumsError::NotListed { file: file.to_owned(), others })
        }
    }
}

/// Name and digest of one line.
fn entry(line: &str) -> Option<(Option<&str>, Checksum)> {
    let bsd = line.strip_prefix("SHA256 (").or_else(|| line.strip_prefix("SHA512 ("));
    if let Some(rest) = bsd {
        // A name may hold the separator: the last one counts.
        let (name, digest) = rest.rsplit_once(") = ")?;
        return Some((Some(name), hex(digest)?));
    }
    match line.split_once([' ', '\t']) {
        Some((digest, name)) => {
            let name = name.trim_start();
            Some((Some(name.strip_prefix('*').unwrap_or(name)), hex(digest)?))
        }
        None => Some((None, hex(line)?)),
    }
}

/// Digits alone: "sha256:" in front of them is not what such lists have.
fn hex(text: &str) -> Option<Checksum> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    match text.len() {
        64 => text.parse().ok().map(Checksum::Sha256),
        128 => text.parse().ok().map(Checksum::Sha512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: char) -> String {
        std::iter::repeat_n(digit, 64).collect()
    }

    #[test]
    fn lists_of_distributions_are_understood() {
        let (a, b) = (digest('a'), digest('b'));
        let sha512 = format!("{}{}", digest('c'), digest('c'));
        #[rustfmt::skip]
        let cases = [
            ("sha256sum",      format!("{b}  other.img\n{a}  disk.img\n")),
            ("binary mode",    format!("{b} *other.img\n{a} *disk.img\n")),
            ("a directory",    format!("{a}  ./images/disk.img\n")),
            ("one alone",      format!("{a}\n")),
            ("Fedora",         format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# disk.img: 5 bytes\nSHA256 (disk.img) = {a}\nSHA256 (other.img) = {b}\n-----BEGIN PGP SIGNATURE-----\niQIzBAEBCAAdFiEE\n")),
            ("more than one sum", format!("SHA512 (disk.img) = {sha512}\nSHA256 (disk.img) = {a}\n")),
            ("twice the same", format!("{a}  disk.img\n{a}  ./disk.img\n")),
            ("Windows",        format!("{a}  disk.img\r\n{b}  other.img\r\n")),
        ];
        for (name, text) in cases {
            assert_eq!(
                find_checksum(&text, "disk.img"),
                Ok(Checksum::Sha256(a.parse().unwrap())),
                "{name}"
            );
        }
        #[rustfmt::skip]
        let debian = [
            format!("{sha512}  disk.img\n"),
            format!("SHA512 (disk.img) = {sha512}\n"),
            format!("{a}  other.img\n{sha512}  disk.img\n"),
        ];
        for text in debian {
            let found = find_checksum(&text, "disk.img");
            assert_eq!(found, Ok(Checksum::Sha512(sha512.parse().unwrap())), "{text}");
        }
    }

    #[test]
    fn what_says_nothing_certain_is_refused() {
        let (a, b) = (digest('a'), digest('b'));
        #[rustfmt::skip]
        let cases = [
            (format!("{a}  other.img\n{b}  more.img\n"),          "does not list \"disk.img\", but other.img, more.img"),
            (format!("{a}  disk.img\n{b}  disk.img\n"),           "twice"),
            (format!("{}  disk.img\n", "a".repeat(40)),            "no list of SHA-256"),
            (format!("{a}\n{b}\n"),                               "no list of SHA-256"),
            ("<html>404 Not Found</html>".to_owned(),             "no list of SHA-256"),
            (String::new(),                                       "no list of SHA-256"),
        ];
        for (text, word) in cases {
            let said = find_checksum(&text, "disk.img").unwrap_err().to_string();
            assert!(said.contains(word), "{text}: {said}");
        }
    }
}

#[cfg(test)]
mod fuzz {
    use proptest::prelude::*;

    use super::*;

    /// Nothing that a server sends makes a digest that is not on a line of its own.
    #[test]
    fn spoiled_lists_never_panic_and_never_invent() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let good = format!(
            "# c\n{b} *other.img\nSHA256 (disk.img) = {a}\n{a}  x/disk.img\n{a}{b}  disk.img\n"
        );
        let input = (weft_fuzz::hostile(vec![good.into_bytes()]), ".{0,30}");
        weft_fuzz::fuzz(2000, input, |(bytes, file)| {
            let text = String::from_utf8_lossy(&bytes);
            for file in ["disk.img", &file] {
                if let Ok(found) = find_checksum(&text, file) {
                    prop_assert!(text.to_lowercase().contains(&found.to_string()));
                }
            }
            Ok(())
        });
    }
}
