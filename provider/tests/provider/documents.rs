//! The files of `docs/` are what the schemas say.

use std::path::{Path, PathBuf};

use terraform_provider_weft::documents;
use tfplugin::docs;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_documentation_is_current() {
    let options = docs::Options { name: "weft".to_owned(), examples: root().join("examples") };
    let pages = documents(&options).unwrap();
    for (path, text) in &pages {
        let written = std::fs::read_to_string(root().join("docs").join(path)).unwrap_or_default();
        let how = "write it anew: cargo run -p terraform-provider-weft -- docs docs examples";
        assert!(&written == text, "docs/{path} is not current; {how}");
    }
}

#[test]
fn every_page_has_an_example() {
    let options = docs::Options { name: "weft".to_owned(), examples: root().join("examples") };
    for (path, text) in documents(&options).unwrap() {
        if path.starts_with("guides/") {
            continue;
        }
        assert!(text.contains("## Example Usage"), "docs/{path}");
        assert_eq!(text.contains("## Import"), path.starts_with("resources/"), "docs/{path}");
    }
}
