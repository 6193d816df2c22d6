//! `cloud_init(parts)`: several scripts and configurations as one text of user data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tfplugin::{Arguments, Function, FunctionError, Parameter, Signature, Type, Value};
use weft_model::MAX_USER_DATA_BYTES;

use super::{at, check_keys};

#[derive(Debug)]
pub(super) struct CloudInit;

const KEYS: [&str; 4] = ["content", "content_type", "filename", "merge_type"];

/// What cloud-init takes a text for by its beginning (`cloudinit/handlers/__init__.py`,
/// INCLUSION_TYPES_MAP), the longer ones first where one begins another.
const BEGINNINGS: [(&str, &str); 9] = [
    ("#cloud-config-archive", "text/cloud-config-archive"),
    ("#cloud-config-jsonp", "text/cloud-config-jsonp"),
    ("#cloud-config", "text/cloud-config"),
    ("#cloud-boothook", "text/cloud-boothook"),
    ("#include-once", "text/x-include-once-url"),
    ("#include", "text/x-include-url"),
    ("#part-handler", "text/part-handler"),
    ("## template: jinja", "text/jinja2"),
    ("#!", "text/x-shellscript"),
];

/// A line of base64 in a message (RFC 2045, section 6.8).
const BASE64_LINE: usize = 76;
/// A line that goes as it is (RFC 5322, section 2.1.1).
const MAX_LINE: usize = 998;

impl Function for CloudInit {
    fn name(&self) -> &str {
        "cloud_init"
    }

    fn signature(&self) -> Signature {
        Signature::new(
            "User data of several parts, as cloud-init reads them.",
            "Makes one text of user data out of several parts (a MIME multipart message), for \
             `weft_instance.user_data`. The same parts give the same text.\n\n\
             Each part is an object with these keys:\n\n\
             - `content`: the text.\n\
             - `content_type`: such as `text/cloud-config`. Left out, it is what cloud-init takes \
             the text for by its first line: `#cloud-config`, `#!`, `#include`, `#cloud-boothook`, \
             `## template: jinja` and so on. A text that begins with none of these needs it.\n\
             - `filename`: what cloud-init calls the part; scripts run in the order of their names. \
             Left out, cloud-init numbers it: `part-001`.\n\
             - `merge_type`: how its configuration is merged into that of the parts before it, such \
             as `list(append)+dict(no_replace,recurse_list)+str()`.\n\n\
             User data may have 65536 bytes: what is longer is refused.",
            Type::String,
        )
        .parameter(Parameter::new(
            "parts",
            Type::list(Type::map(Type::String)),
            "The parts, in the order in which cloud-init is to read them.",
        ))
    }

    fn call(&self, arguments: &Arguments) -> Result<Value, FunctionError> {
        let parts: Vec<BTreeMap<String, Option<String>>> = arguments.read(0)?;
        if parts.is_empty() {
            return Err(FunctionError::at(0, "there is no part: give one at least"));
        }
        let part = |(index, map)| {
            Part::of(map)
                .map_err(|problem| FunctionError::at(0, format!("parts[{index}]: {problem}")))
        };
        let parts = parts.iter().enumerate().map(part).collect::<Result<Vec<_>, _>>()?;
        let mut names = BTreeSet::new();
        if let Some(twice) = parts.iter().filter_map(|p| p.filename).find(|n| !names.insert(*n)) {
            let problem = format!("two parts have the filename {twice:?}: one would be lost");
            return Err(FunctionError::at(0, problem));
        }
        let text = message(&parts);
        if text.len() > MAX_USER_DATA_BYTES {
            return Err(at(0)(format!(
                "the parts make {} bytes of user data, {MAX_USER_DATA_BYTES} fit: let the guest \
                 fetch the rest, or put it into the image",
                text.len()
            )));
        }
        Ok(Value::from(text))
    }
}

/// One part, checked.
#[derive(Debug)]
struct Part<'a> {
    content: &'a str,
    content_type: &'a str,
    filename: Option<&'a str>,
    merge_type: Option<&'a str>,
}

impl<'a> Part<'a> {
    fn of(map: &'a BTreeMap<String, Option<String>>) -> Result<Self, String> {
        check_keys(map, &KEYS)?;
        let text = |key: &str| map.get(key).and_then(Option::as_deref);
        let content = text("content").filter(|content| !content.is_empty());
        let content = content.ok_or("its content is missing or empty")?;
        let content_type = match text("content_type") {
            Some(written) => checked_type(written)?,
            None => guessed(content).ok_or(
                "cloud-init cannot tell what it is: it begins with none of #cloud-config, #!, \
                 #include and the like; set content_type",
            )?,
        };
        let filename = text("filename").map(checked_name).transpose()?;
        let merge_type = text("merge_type").map(checked_merge).transpose()?;
        Ok(Self { content, content_type, filename, merge_type })
    }

    /// Whether mail programs of old and Python's `email` give it back byte for byte.
    fn is_plain(&self) -> bool {
        let good = |line: &str| line.len() <= MAX_LINE && !line.starts_with("--");
        self.content.bytes().all(|b| matches!(b, b'\t' | b'\n' | b' '..=b'~'))
            && self.content.split('\n').all(good)
    }
}

/// As cloud-init does it: without outer spaces, whatever the case.
fn guessed(content: &str) -> Option<&'static str> {
    let beginning = content.trim_start();
    let is = |mark: &str| {
        beginning.get(..mark.len()).is_some_and(|text| text.eq_ignore_ascii_case(mark))
    };
    BEGINNINGS.iter().find(|(mark, _)| is(mark)).map(|(_, content_type)| *content_type)
}

/// A type and a subtype (RFC 2045, section 5.1), without parameters.
fn checked_type(text: &str) -> Result<&str, String> {
    let token = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    match text.split_once('/') {
        // A message in the message has a boundary of its own, which only its sender knows.
        Some((first, _))
            if ["multipart", "message"].iter().any(|m| first.eq_ignore_ascii_case(m)) =>
        {
            Err(format!(
                "the content_type {text:?} is of parts in a part: give each a part of its own"
            ))
        }
        Some((first, second)) if token(first) && token(second) && text.len() <= 127 => Ok(text),
        _ => Err(format!("the content_type {text:?} is none: write one such as text/cloud-config")),
    }
}

fn checked_name(text: &str) -> Result<&str, String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-+ ".contains(&b);
    if text.is_empty() || text.len() > 255 || text.starts_with('.') || !text.bytes().all(good) {
        return Err(format!(
            "the filename {text:?} is refused: it has to be 1 to 255 letters, digits, spaces and \
             ._-+, without a dot at its beginning"
        ));
    }
    Ok(text)
}

fn checked_merge(text: &str) -> Result<&str, String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"()+,_ ".contains(&b);
    if text.is_empty() || text.len() > 255 || !text.bytes().all(good) {
        return Err(format!(
            "the merge_type {text:?} is none: write one such as list(append)+dict(recurse_list)+str()"
        ));
    }
    Ok(text)
}

fn message(parts: &[Part<'_>]) -> String {
    let boundary = boundary(parts);
    // Writing to a String cannot fail.
    let mut out =
        format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n\n");
    for part in parts {
        let plain = part.is_plain();
        let charset = if plain { "us-ascii" } else { "utf-8" };
        let encoding = if plain { "7bit" } else { "base64" };
        let _ = write!(
            out,
            "--{boundary}\nContent-Type: {}; charset=\"{charset}\"\nMIME-Version: 1.0\n\
             Content-Transfer-Encoding: {encoding}\n",
            part.content_type
        );
        if let Some(name) = part.filename {
            let _ = writeln!(out, "Content-Disposition: attachment; filename=\"{name}\"");
        }
        if let Some(merge) = part.merge_type {
            let _ = writeln!(out, "X-Merge-Type: {merge}");
        }
        out.push('\n');
        if plain {
            out.push_str(part.content);
        } else {
            let text = STANDARD.encode(part.content);
            let lines = text.as_bytes().chunks(BASE64_LINE).map(String::from_utf8_lossy);
            out.push_str(&lines.collect::<Vec<_>>().join("\n"));
        }
        // This line break belongs to the boundary (RFC 2046, section 5.1.1).
        out.push('\n');
    }
    let _ = writeln!(out, "--{boundary}--");
    out
}

/// The same for the same parts. That no part holds it needs no look: a plain one has no line that
/// begins with two dashes, and base64 has none at all.
fn boundary(parts: &[Part<'_>]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        for text in [Some(part.content), Some(part.content_type), part.filename, part.merge_type] {
            let text = text.unwrap_or_default();
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        }
    }
    let digest = hex::encode(hash.finalize());
    format!("==weft-{}==", &digest[..24])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(pairs: &[(&str, &str)]) -> BTreeMap<String, Option<String>> {
        pairs.iter().map(|(key, text)| ((*key).to_owned(), Some((*text).to_owned()))).collect()
    }

    #[test]
    fn the_type_is_what_cloud_init_takes_it_for() {
        #[rustfmt::skip]
        let cases = [
            ("#cloud-config\npackages: []",        Some("text/cloud-config")),
            ("\n #Cloud-Config",                   Some("text/cloud-config")),
            ("#cloud-config-archive\n",            Some("text/cloud-config-archive")),
            ("#cloud-config-jsonp\n",              Some("text/cloud-config-jsonp")),
            ("#include-once\nhttp://x",            Some("text/x-include-once-url")),
            ("#include\nhttp://x",                 Some("text/x-include-url")),
            ("#!/bin/sh\n",                        Some("text/x-shellscript")),
            ("## template: jinja\n#cloud-config",  Some("text/jinja2")),
            ("#part-handler\n",                    Some("text/part-handler")),
            ("#cloud-boothook\n",                  Some("text/cloud-boothook")),
            ("echo hello",                         None),
            ("ö",                                  None),
        ];
        for (content, want) in cases {
            assert_eq!(guessed(content), want, "{content:?}");
        }
    }

    #[test]
    fn no_value_can_add_a_header_or_end_a_part() {
        #[rustfmt::skip]
        let cases: [&[(&str, &str)]; 9] = [
            &[("content", "#!"), ("content_type", "text/plain\nX-Evil: 1")],
            &[("content", "#!"), ("content_type", "text")],
            &[("content", "#!"), ("content_type", "Multipart/mixed")],
            &[("content", "#!"), ("filename", "a\"; x=\"")],
            &[("content", "#!"), ("filename", "../a")],
            &[("content", "#!"), ("filename", "a\r\nX-Evil: 1")],
            &[("content", "#!"), ("merge_type", "list()\n\n#!/bin/sh")],
            &[("content", "")],
            &[("contents", "#!")],
        ];
        for case in cases {
            assert!(Part::of(&part(case)).is_err(), "{case:?}");
        }
        // A text that plays a boundary goes as base64, so it is none.
        let playing = part(&[("content", "#!/bin/sh\n--==weft-0==--\n")]);
        assert!(!Part::of(&playing).unwrap().is_plain());
    }
}
