//! Tags as they are written on the command line.

use std::collections::BTreeMap;

use weft_model::Problem;

/// The tags that `--tag KEY=VALUE`, repeated, asks for.
///
/// # Errors
/// One is no `KEY=VALUE`, or two have one key.
pub(crate) fn parse(tags: &[String]) -> Result<BTreeMap<String, String>, Problem> {
    let mut wanted = BTreeMap::new();
    for tag in tags {
        let Some((key, value)) = tag.split_once('=') else {
            return Err(Problem::invalid("--tag", format!("\"{tag}\" is not a tag"))
                .remedy("write KEY=VALUE"));
        };
        if wanted.insert(key.to_owned(), value.to_owned()).is_some() {
            let message = format!("the tag {key} is given twice");
            return Err(Problem::invalid("--tag", message)
                .remedy("nothing has two values of one tag: run the command for each"));
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_key_and_a_value() {
        let parsed =
            |tags: &[&str]| parse(&tags.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        let tags = parsed(&["role=web", "note=a=b", "empty="]).unwrap();
        assert_eq!(tags["note"], "a=b");
        assert_eq!(tags["empty"], "");
        assert!(parsed(&["role"]).unwrap_err().message.contains("\"role\" is not a tag"));
        assert!(parsed(&["a=1", "a=2"]).unwrap_err().message.contains("given twice"));
    }
}
