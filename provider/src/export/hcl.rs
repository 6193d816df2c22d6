//! Configuration as text, in the form that `terraform fmt` gives it.

use std::fmt::Write as _;

use tfplugin::Value;

/// A value of an attribute: some parts of it may be expressions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// Written as it is.
    Code(String),
    Literal(Value),
    List(Vec<Expression>),
    /// Without what is null.
    Object(Vec<(String, Expression)>),
}

/// A block and what is in it; each attribute may have comments above it.
#[derive(Debug)]
pub(super) struct Block {
    /// Such as `resource "weft_vpc" "main"`.
    pub(super) head: String,
    pub(super) comments: Vec<String>,
    pub(super) attributes: Vec<(String, Expression)>,
}

impl Block {
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for comment in &self.comments {
            put(&mut out, format_args!("# {comment}\n"));
        }
        put(&mut out, format_args!("{} {{\n", self.head));
        attributes(&mut out, &self.attributes, 1);
        out.push_str("}\n");
        out
    }
}

/// One line each, equals signs below each other; what needs several lines stands apart, so that
/// nothing is aligned with it.
fn attributes(out: &mut String, list: &[(String, Expression)], depth: usize) {
    let indent = "  ".repeat(depth);
    let texts: Vec<(&str, String)> =
        list.iter().map(|(name, value)| (name.as_str(), expression(value, depth))).collect();
    let is_long = |(_, text): &(&str, String)| text.contains('\n');
    for (at, run) in texts.chunk_by(|a, b| !is_long(a) && !is_long(b)).enumerate() {
        if at > 0 {
            out.push('\n');
        }
        let width = run.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        for (name, text) in run {
            put(out, format_args!("{indent}{name:width$} = {text}\n"));
        }
    }
}

fn expression(value: &Expression, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Expression::Code(code) => code.clone(),
        Expression::Literal(Value::String(text)) => string(text),
        Expression::Literal(value) => value.to_string(),
        Expression::List(elements) => {
            let has_objects = elements.iter().any(|e| matches!(e, Expression::Object(_)));
            let texts: Vec<String> = elements.iter().map(|e| expression(e, depth + 1)).collect();
            if !has_objects {
                return format!("[{}]", texts.join(", "));
            }
            let lines = texts.iter().map(|text| format!("{indent}  {text},\n"));
            format!("[\n{}{indent}]", lines.collect::<String>())
        }
        Expression::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Expression::Object(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|(name, value)| (key(name), value.clone())).collect();
            let mut out = "{\n".to_owned();
            attributes(&mut out, &entries, depth + 1);
            format!("{out}{indent}}}")
        }
    }
}

/// A key of an object: quoted unless it is an identifier.
fn key(name: &str) -> String {
    if is_identifier(name) { name.to_owned() } else { string(name) }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// A quoted string, or, for several whole lines, a heredoc.
fn string(text: &str) -> String {
    let whole_lines = text.ends_with('\n') && text.len() > 1;
    let is_plain = |c: char| c == '\n' || c == '\t' || !c.is_control();
    if whole_lines && text.chars().all(is_plain) && !text.lines().any(|line| line.trim() == "EOT") {
        return format!("<<EOT\n{}EOT", templates(text));
    }
    let mut out = "\"".to_owned();
    for c in templates(text).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => put(&mut out, format_args!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What would begin a template is doubled.
fn templates(text: &str) -> String {
    text.replace("${", "$${").replace("%{", "%%{")
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(value: impl Into<Value>) -> Expression {
        Expression::Literal(value.into())
    }

    #[test]
    fn a_block_is_as_terraform_fmt_would_have_it() {
        let named = |name: &str, value| (name.to_owned(), value);
        let block = Block {
            head: "resource \"weft_vpc\" \"main\"".to_owned(),
            comments: vec!["Mind the gap.".to_owned()],
            attributes: vec![
                named("name", literal("a \"b\" ${c}")),
                named("cidr_block", literal("10.0.0.0/16")),
                named("tags", Expression::Object(vec![named("a b", literal("c"))])),
                named("user_data", literal("#!/bin/sh\necho %{x}\n")),
                named("ids", Expression::List(vec![Expression::Code("a.b.id".to_owned())])),
                named(
                    "routes",
                    Expression::List(vec![Expression::Object(vec![
                        named("blackhole", literal(true)),
                        named("mtu", literal(9000)),
                    ])]),
                ),
            ],
        };
        assert_eq!(
            block.text(),
            r#"# Mind the gap.
resource "weft_vpc" "main" {
  name       = "a \"b\" $${c}"
  cidr_block = "10.0.0.0/16"

  tags = {
    "a b" = "c"
  }

  user_data = <<EOT
#!/bin/sh
echo %%{x}
EOT

  ids = [a.b.id]

  routes = [
    {
      blackhole = true
      mtu       = 9000
    },
  ]
}
"#
        );
    }

    #[test]
    fn a_string_that_is_no_whole_lines_is_quoted() {
        assert_eq!(string("a\nb"), r#""a\nb""#);
        assert_eq!(string("a\\\u{1}\n"), r#""a\\\u0001\n""#);
        assert_eq!(string("EOT\nx\n"), r#""EOT\nx\n""#);
    }
}
