//! Provider functions, as Terraform calls them. None needs an agent.

use terraform_provider_weft::Weft;
use tfplugin::testing::Terraform;
use tfplugin::{FunctionError, Value};

async fn call(name: &str, arguments: Vec<Value>) -> Result<Value, FunctionError> {
    Terraform::new(Weft::new(None)).function(name, arguments).await
}

fn part(pairs: &[(&str, &str)]) -> Value {
    Value::object(pairs.iter().copied())
}

async fn cloud_init(parts: Vec<Value>) -> Result<String, FunctionError> {
    let text = call("cloud_init", vec![parts.into()]).await?;
    Ok(text.as_str().unwrap().to_owned())
}

#[tokio::test]
async fn cloud_init_makes_one_message_of_all_parts() {
    let parts = || {
        vec![
            part(&[("content", "#cloud-config\npackages: [nginx]\n")]),
            part(&[
                ("content", "#!/bin/sh\necho grüß dich\n"),
                ("filename", "10-greet.sh"),
                ("merge_type", "list(append)+dict()+str()"),
            ]),
        ]
    };
    let text = cloud_init(parts()).await.unwrap();
    let boundary = text.split('"').nth(1).unwrap().to_owned();
    assert_eq!(
        text.replace(&boundary, "B"),
        "Content-Type: multipart/mixed; boundary=\"B\"\n\
         MIME-Version: 1.0\n\n\
         --B\n\
         Content-Type: text/cloud-config; charset=\"us-ascii\"\n\
         MIME-Version: 1.0\n\
         Content-Transfer-Encoding: 7bit\n\n\
         #cloud-config\npackages: [nginx]\n\n\
         --B\n\
         Content-Type: text/x-shellscript; charset=\"utf-8\"\n\
         MIME-Version: 1.0\n\
         Content-Transfer-Encoding: base64\n\
         Content-Disposition: attachment; filename=\"10-greet.sh\"\n\
         X-Merge-Type: list(append)+dict()+str()\n\n\
         IyEvYmluL3NoCmVjaG8gZ3LDvMOfIGRpY2gK\n\
         --B--\n"
    );
    assert_eq!(cloud_init(parts()).await.unwrap(), text, "the same parts, the same text");
    let other = cloud_init(vec![part(&[("content", "#!/bin/sh\n")])]).await.unwrap();
    assert_ne!(other.split('"').nth(1).unwrap(), boundary);
}

#[tokio::test]
async fn cloud_init_says_which_part_is_wrong() {
    let good = || part(&[("content", "#!/bin/sh\n")]);
    let long = "#".repeat(70_000);
    #[rustfmt::skip]
    let cases = [
        (vec![],                                                         "there is no part"),
        (vec![good(), part(&[("content", "echo")])],                     "parts[1]: cloud-init cannot tell what it is"),
        (vec![good(), part(&[("contents", "#!")])],                      "parts[1]: there is no \"contents\", only content,"),
        (vec![part(&[("content", "#!"), ("content_type", "shell")])],    "parts[0]: the content_type \"shell\" is none"),
        (vec![part(&[("content", "#!"), ("filename", "a/b")])],          "parts[0]: the filename \"a/b\" is refused"),
        (vec![part(&[("content", "#!"), ("filename", "a")]); 2],         "two parts have the filename \"a\""),
        (vec![part(&[("content", &long), ("content_type", "text/plain")])], "bytes of user data, 65536 fit"),
    ];
    for (parts, want) in cases {
        let error = cloud_init(parts).await.unwrap_err();
        assert_eq!(error.argument, Some(0), "{error}");
        assert!(error.text.contains(want), "{error}");
    }
}

#[tokio::test]
async fn parse_id_tells_what_an_id_is_of() {
    let parsed = |text: &str| call("parse_id", vec![text.into()]);
    let one = parsed("i-0123456789abcdef0").await.unwrap();
    for (name, want) in [
        ("kind", "instance"),
        ("resource_type", "weft_instance"),
        ("prefix", "i-"),
        ("digits", "0123456789abcdef0"),
    ] {
        assert_eq!(one.get(name).as_str(), Some(want), "{name}");
    }
    assert_eq!(one.get("ids"), &Value::from(vec!["i-0123456789abcdef0"]));

    let pair = parsed("i-0123456789abcdef0/vol-0123456789abcdef1").await.unwrap();
    assert_eq!(pair.get("resource_type").as_str(), Some("weft_volume_attachment"));
    assert_eq!(pair.get("ids[1]").as_str(), Some("vol-0123456789abcdef1"));
    assert!(pair.get("prefix").is_null());

    let rule = parsed("sgr-0123456789abcdef0").await.unwrap();
    assert_eq!(rule.get("kind").as_str(), Some("security group rule"));
    assert!(rule.get("resource_type").is_null());

    #[rustfmt::skip]
    let cases = [
        ("web-1",                                       "\"web-1\" is not an id of Weft"),
        ("",                                            "is not an id of Weft"),
        ("i-0123",                                      "expected \"i-\" and 17 hexadecimal digits"),
        ("vol-0123456789abcdef1/i-0123456789abcdef0",   "a volume and an instance are not joined by a slash"),
        ("i-0123456789abcdef0/",                        "is not an id of Weft"),
    ];
    for (text, want) in cases {
        let error = parsed(text).await.unwrap_err();
        assert_eq!(error.argument, Some(0));
        assert!(error.text.contains(want), "{text}: {error}");
    }
}

#[tokio::test]
async fn ssh_config_entry_is_one_block() {
    let entry = |alias: &str, options: Value| call("ssh_config_entry", vec![alias.into(), options]);
    let text = entry(
        "web-1",
        Value::object([
            ("host_name", "172.31.0.5"),
            ("instance_id", "i-0123456789abcdef0"),
            ("endpoint", "https://fabric.example:7443"),
            ("user", "debian"),
            ("port", "2222"),
            ("identity_file", "~/.ssh/100% mine"),
            ("known_hosts_file", "/etc/weft/known hosts"),
        ]),
    );
    assert_eq!(
        text.await.unwrap().as_str().unwrap(),
        "Host web-1\n  \
         HostName 172.31.0.5\n  \
         User debian\n  \
         Port 2222\n  \
         ProxyCommand weft --endpoint 'https://fabric.example:7443' proxy --port %p i-0123456789abcdef0\n  \
         IdentityFile \"~/.ssh/100%% mine\"\n  \
         IdentitiesOnly yes\n  \
         UserKnownHostsFile \"/etc/weft/known hosts\"\n  \
         StrictHostKeyChecking yes\n"
    );
    let shortest = entry("web", Value::object([("instance_id", "i-0123456789abcdef0")]));
    assert_eq!(
        shortest.await.unwrap().as_str().unwrap(),
        "Host web\n  HostName i-0123456789abcdef0\n  \
         ProxyCommand weft proxy --port %p i-0123456789abcdef0\n"
    );
}

#[tokio::test]
async fn no_value_adds_a_line_or_a_word_to_ssh_config() {
    let evil = [
        "a\nProxyCommand touch /tmp/x",
        "a\rb",
        "-oProxyCommand=x",
        "a b",
        "\"a",
        "a'; touch x; '",
        "a\\",
        "*",
        "",
        "a\0",
        "a\u{2028}b",
    ];
    for text in evil {
        let host = Value::object([("host_name", "10.0.0.1")]);
        let said = call("ssh_config_entry", vec![text.into(), host]).await;
        assert_eq!(said.unwrap_err().argument, Some(0), "{text:?}");
        for key in ["host_name", "user", "port", "instance_id", "endpoint"] {
            let mut options =
                Value::object([("host_name", "10.0.0.1"), ("instance_id", "i-0123456789abcdef0")]);
            options.set(key, text);
            let said = call("ssh_config_entry", vec!["web".into(), options]).await;
            assert_eq!(said.expect_err(key).argument, Some(1), "{key} {text:?}");
        }
    }
    for path in ["a\nb", "a\"b", "a\\", "${HOME}", "", "a'b"] {
        for key in ["identity_file", "known_hosts_file"] {
            let options = Value::object([("host_name", "10.0.0.1"), (key, path)]);
            let said = call("ssh_config_entry", vec!["web".into(), options]).await;
            assert!(said.is_err(), "{key} {path:?}");
        }
    }
    let error = call("ssh_config_entry", vec!["web".into(), Value::object([("user", "x")])]).await;
    assert_eq!(error.unwrap_err().text, "host_name or instance_id is needed");
}
