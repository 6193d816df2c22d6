//! Renders a provider's documentation from its schemas, in the layout of tfplugindocs.
//!
//! A test that compares [`render`] with the files in `docs/` keeps them current.

mod function;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    cty::Type,
    identity::IdentitySchema,
    provider::Provider,
    schema::{Attribute, Kind, Mode, Nesting, Schema},
};

/// What the schemas do not tell.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The short name of the provider, such as `shop`.
    pub name: String,
    /// A directory with `provider/provider.tf`, `resources/TYPE/resource.tf`,
    /// `resources/TYPE/import.sh`, `resources/TYPE/import-by-identity.tf`,
    /// `data-sources/TYPE/data-source.tf`, `list-resources/TYPE/list-resource.tfquery.hcl`,
    /// `ephemeral-resources/TYPE/ephemeral-resource.tf`, `actions/TYPE/action.tf` and
    /// `functions/NAME/function.tf`; missing files are left out of the pages.
    pub examples: PathBuf,
}

/// The pages, by their path below `docs/`.
///
/// # Errors
/// Where an example exists and cannot be read.
pub fn render(provider: &impl Provider, options: &Options) -> io::Result<BTreeMap<String, String>> {
    let mut pages = BTreeMap::new();
    let example = |path: String| read_if_there(&options.examples.join(path));
    let name = &options.name;
    pages.insert(
        "index.md".to_owned(),
        page(&Page {
            page_title: format!("{name} Provider"),
            heading: format!("{name} Provider"),
            schema: &provider.schema(),
            example: example("provider/provider.tf".to_owned())?,
            import: Import::default(),
        }),
    );
    for resource in provider.resources() {
        let ty = resource.type_name();
        let page = page(&Page {
            page_title: format!("{ty} Resource - {name}"),
            heading: format!("{ty} (Resource)"),
            schema: &resource.schema(),
            example: example(format!("resources/{ty}/resource.tf"))?,
            import: Import {
                command: example(format!("resources/{ty}/import.sh"))?,
                block: example(format!("resources/{ty}/import-by-identity.tf"))?,
                identity: resource.identity(),
            },
        });
        pages.insert(format!("resources/{}.md", short(ty, name)), page);
    }
    for source in provider.data_sources() {
        let ty = source.type_name();
        let page = page(&Page {
            page_title: format!("{ty} Data Source - {name}"),
            heading: format!("{ty} (Data Source)"),
            schema: &source.schema(),
            example: example(format!("data-sources/{ty}/data-source.tf"))?,
            import: Import::default(),
        });
        pages.insert(format!("data-sources/{}.md", short(ty, name)), page);
    }
    for resource in provider.ephemeral_resources() {
        let ty = resource.type_name();
        let page = page(&Page {
            page_title: format!("{ty} Ephemeral Resource - {name}"),
            heading: format!("{ty} (Ephemeral Resource)"),
            schema: &resource.schema(),
            example: example(format!("ephemeral-resources/{ty}/ephemeral-resource.tf"))?,
            import: Import::default(),
        });
        pages.insert(format!("ephemeral-resources/{}.md", short(ty, name)), page);
    }
    for action in provider.actions() {
        let ty = action.type_name();
        let page = page(&Page {
            page_title: format!("{ty} Action - {name}"),
            heading: format!("{ty} (Action)"),
            schema: &action.schema(),
            example: example(format!("actions/{ty}/action.tf"))?,
            import: Import::default(),
        });
        // The one difference in tfplugindocs' own layout.
        let page = page.replace("<!-- schema generated", "<!-- action schema generated");
        pages.insert(format!("actions/{}.md", short(ty, name)), page);
    }
    for it in provider.functions() {
        let called = it.name();
        let example = example(format!("functions/{called}/function.tf"))?;
        let page = function::page(called, name, &it.signature(), example.as_deref());
        pages.insert(format!("functions/{called}.md"), page);
    }
    for list in provider.list_resources() {
        let ty = list.type_name();
        let page = page(&Page {
            page_title: format!("{ty} List Resource - {name}"),
            heading: format!("{ty} (List Resource)"),
            schema: &list.schema(),
            example: example(format!("list-resources/{ty}/list-resource.tfquery.hcl"))?,
            import: Import::default(),
        });
        pages.insert(format!("list-resources/{}.md", short(ty, name)), page);
    }
    Ok(pages)
}

/// Writes the pages below `docs`.
pub fn write(pages: &BTreeMap<String, String>, docs: &Path) -> io::Result<()> {
    for (path, text) in pages {
        let path = docs.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)?;
    }
    Ok(())
}

fn short<'a>(type_name: &'a str, provider: &str) -> &'a str {
    type_name.strip_prefix(provider).and_then(|rest| rest.strip_prefix('_')).unwrap_or(type_name)
}

fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

struct Page<'a> {
    page_title: String,
    heading: String,
    schema: &'a Schema,
    example: Option<String>,
    import: Import,
}

/// How an object is brought in that exists already.
#[derive(Default)]
struct Import {
    /// For a shell.
    command: Option<String>,
    /// An `import` block with an identity.
    block: Option<String>,
    identity: Option<IdentitySchema>,
}

fn page(page: &Page<'_>) -> String {
    let Page { page_title, heading, schema, example, import } = page;
    let description = schema.description.trim();
    let mut out = front(page_title, &schema.subcategory, description);
    put(&mut out, format_args!("\n# {heading}\n\n{description}\n"));
    if let Some(message) = &schema.deprecated {
        put(&mut out, format_args!("\n~> **Deprecated** {message}\n"));
    }
    if let Some(example) = example {
        put(
            &mut out,
            format_args!("\n## Example Usage\n\n```terraform\n{}\n```\n", example.trim_end()),
        );
    }
    out.push_str("\n<!-- schema generated by tfplugindocs -->\n## Schema\n");
    let mut nested = Vec::new();
    groups(&mut out, &schema.attributes, "", &mut nested);
    // Sections of nested attributes follow in the order in which they are mentioned, each
    // followed by its own.
    nested.reverse();
    while let Some((path, attributes)) = nested.pop() {
        let anchor = path.replace('.', "--");
        put(
            &mut out,
            format_args!("\n<a id=\"nestedatt--{anchor}\"></a>\n### Nested Schema for `{path}`\n"),
        );
        let mut inner = Vec::new();
        groups(&mut out, attributes, &path, &mut inner);
        nested.extend(inner.into_iter().rev());
    }
    put_import(&mut out, import);
    out
}

/// What registries read of a page.
fn front(page_title: &str, subcategory: &str, description: &str) -> String {
    let mut out = format!(
        "---\npage_title: \"{page_title}\"\nsubcategory: \"{subcategory}\"\ndescription: |-\n"
    );
    for line in description.lines() {
        out.push_str(format!("  {line}").trim_end());
        out.push('\n');
    }
    out.push_str("---\n");
    out
}

fn put_import(out: &mut String, Import { command, block, identity }: &Import) {
    if command.is_none() && block.is_none() {
        return;
    }
    out.push_str("\n## Import\n");
    if let Some(block) = block {
        out.push_str("\nBy identity, with an `import` block (Terraform 1.12 and later):\n");
        put(out, format_args!("\n```terraform\n{}\n```\n", block.trim_end()));
    }
    if let Some(identity) = identity {
        out.push_str("\n<!-- schema generated by tfplugindocs -->\n### Identity Schema\n");
        for (title, required) in [("Required", true), ("Optional", false)] {
            let parts = identity.parts.iter().filter(|part| part.required == required);
            for (index, part) in parts.enumerate() {
                if index == 0 {
                    put(out, format_args!("\n#### {title}\n\n"));
                }
                let (name, ty) = (&part.name, leaf_name(&part.ty));
                put(out, format_args!("- `{name}` ({ty}) {}\n", part.description.trim()));
            }
        }
    }
    if let Some(command) = command {
        let by = if block.is_some() {
            "By id, with the command, or as `id` of an `import` block:"
        } else {
            "Import is supported using the following syntax:"
        };
        put(out, format_args!("\n{by}\n\n```shell\n{}\n```\n", command.trim_end()));
    }
}

type Section<'a> = (String, &'a [Attribute]);

fn groups<'a>(
    out: &mut String,
    attributes: &'a [Attribute],
    parent: &str,
    nested: &mut Vec<Section<'a>>,
) {
    let marks = if parent.is_empty() { "### " } else { "" };
    let colon = if parent.is_empty() { "" } else { ":" };
    let groups: [(&str, &[Mode]); 3] = [
        ("Required", &[Mode::Required]),
        ("Optional", &[Mode::Optional, Mode::OptionalComputed]),
        ("Read-Only", &[Mode::Computed]),
    ];
    for (title, modes) in groups {
        let mut members: Vec<_> = attributes.iter().filter(|a| modes.contains(&a.mode)).collect();
        if members.is_empty() {
            continue;
        }
        members.sort_by(|a, b| a.name.cmp(&b.name));
        put(out, format_args!("\n{marks}{title}{colon}\n\n"));
        for attribute in members {
            out.push_str(&line(attribute, parent));
            if let Kind::Nested(_, inner) = &attribute.kind {
                nested.push((join(parent, &attribute.name), inner));
            }
        }
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

fn line(attribute: &Attribute, parent: &str) -> String {
    let mut notes = vec![type_name(attribute)];
    let flags = [
        (attribute.sensitive, "Sensitive"),
        (attribute.deprecated.is_some(), "Deprecated"),
        (
            attribute.write_only,
            "[Write-only](https://developer.hashicorp.com/terraform/language/resources/ephemeral#write-only-arguments)",
        ),
    ];
    notes.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, text)| text.to_owned()));
    let mut text =
        format!("- `{}` ({}) {}", attribute.name, notes.join(", "), attribute.description.trim());
    for validator in &attribute.validators {
        put(&mut text, format_args!(" The value {}.", validator.rule()));
    }
    if let Some(default) = &attribute.default {
        put(&mut text, format_args!(" Defaults to `{default}`."));
    }
    if attribute.replace {
        text.push_str(" A change replaces the resource.");
    }
    if let Some(message) = &attribute.deprecated {
        put(&mut text, format_args!(" {message}"));
    }
    if let Kind::Nested(..) = attribute.kind {
        let anchor = join(parent, &attribute.name).replace('.', "--");
        put(&mut text, format_args!(" (see [below for nested schema](#nestedatt--{anchor}))"));
    }
    text.push('\n');
    text
}

fn type_name(attribute: &Attribute) -> String {
    match &attribute.kind {
        Kind::Leaf(ty) => leaf_name(ty),
        Kind::Nested(Nesting::Single, _) => "Attributes".to_owned(),
        Kind::Nested(Nesting::List, _) => "Attributes List".to_owned(),
        Kind::Nested(Nesting::Set, _) => "Attributes Set".to_owned(),
        Kind::Nested(Nesting::Map, _) => "Attributes Map".to_owned(),
    }
}

fn leaf_name(ty: &Type) -> String {
    match ty {
        Type::Dynamic => "Dynamic".to_owned(),
        Type::Bool => "Boolean".to_owned(),
        Type::Number => "Number".to_owned(),
        Type::String => "String".to_owned(),
        Type::List(of) => format!("List of {}", leaf_name(of)),
        Type::Set(of) => format!("Set of {}", leaf_name(of)),
        Type::Map(of) => format!("Map of {}", leaf_name(of)),
        Type::Object(_) => "Object".to_owned(),
        Type::Tuple(_) => "Tuple".to_owned(),
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Validator;

    struct Shop;
    impl Provider for Shop {
        fn schema(&self) -> Schema {
            Schema::new("The shop.").attribute(Attribute::string("url", "Where it is.").required())
        }
    }

    #[test]
    fn a_page_follows_the_layout_of_tfplugindocs() {
        let schema = Schema::new("A disk.")
            .subcategory("Storage")
            .attribute(Attribute::string("name", "Its name.").required().replace_on_change())
            .attribute(
                Attribute::number("size", "In GiB.").default(8).validate(Validator::range(1..=9)),
            )
            .attribute(Attribute::string("id", "Its id.").computed())
            .attribute(Attribute::object(
                "cache",
                "The cache.",
                [Attribute::list("modes", Type::String, "Modes.")],
            ));
        let text = page(&Page {
            page_title: "shop_disk Resource - shop".to_owned(),
            heading: "shop_disk (Resource)".to_owned(),
            schema: &schema,
            example: Some("resource \"shop_disk\" \"a\" {}\n".to_owned()),
            import: Import {
                command: Some("terraform import shop_disk.a disk-1\n".to_owned()),
                block: Some("import {}\n".to_owned()),
                identity: Some(IdentitySchema::new().required("id", "Its id.")),
            },
        });
        assert_eq!(
            text,
            r##"---
page_title: "shop_disk Resource - shop"
subcategory: "Storage"
description: |-
  A disk.
---

# shop_disk (Resource)

A disk.

## Example Usage

```terraform
resource "shop_disk" "a" {}
```

<!-- schema generated by tfplugindocs -->
## Schema

### Required

- `name` (String) Its name. A change replaces the resource.

### Optional

- `cache` (Attributes) The cache. (see [below for nested schema](#nestedatt--cache))
- `size` (Number) In GiB. The value must be a whole number from 1 to 9. Defaults to `8`.

### Read-Only

- `id` (String) Its id.

<a id="nestedatt--cache"></a>
### Nested Schema for `cache`

Optional:

- `modes` (List of String) Modes.

## Import

By identity, with an `import` block (Terraform 1.12 and later):

```terraform
import {}
```

<!-- schema generated by tfplugindocs -->
### Identity Schema

#### Required

- `id` (String) Its id.

By id, with the command, or as `id` of an `import` block:

```shell
terraform import shop_disk.a disk-1
```
"##
        );
    }

    #[test]
    fn pages_are_written_below_docs() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { name: "shop".to_owned(), examples: dir.path().join("none") };
        let pages = render(&Shop, &options).unwrap();
        write(&pages, dir.path()).unwrap();
        let index = fs::read_to_string(dir.path().join("index.md")).unwrap();
        assert!(index.contains("- `url` (String) Where it is."), "{index}");
    }
}
