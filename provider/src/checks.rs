//! What a configuration alone shows to be wrong, as validators of single attributes.
//!
//! The rules are the model's; here they only get the shape that Terraform wants.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError, Engine as _};
use tfplugin::{Validator, Value};
use weft_model::{
    Digest, InvalidId, IpProtocol, LinkName, MAX_GROUPS_PER_INTERFACE, MAX_USER_DATA_BYTES, Name,
    Problem, PublicKey, SUBNET_PREFIX_V6, Sha512, Tags, TypeName, check_network_range,
    check_vpc_range_v6, parse_cidr, parse_cidr_v6,
};

/// An id of the kind `T`, with its prefix.
pub(crate) fn id<T: FromStr<Err = InvalidId>>(prefix: &str, noun: &str) -> Validator {
    text(format!("must be the id of {noun}, such as \"{prefix}0123456789abcdef0\""), |text| {
        text.parse::<T>().map(drop).map_err(|error| error.to_string())
    })
}

/// A path or a URL: a variable that nobody has set is empty.
pub(crate) fn not_empty() -> Validator {
    text("must not be empty", |text| match text.is_empty() {
        true => Err("it is empty: a variable without a value, perhaps".to_owned()),
        false => Ok(()),
    })
}

/// Ids in a set.
pub(crate) fn ids<T: FromStr<Err = InvalidId>>(prefix: &str, noun: &str) -> Validator {
    Validator::new(
        format!("must have ids of {noun} only, such as \"{prefix}0123456789abcdef0\""),
        |value| {
            let mut ids = value.as_list().unwrap_or_default().iter().filter_map(Value::as_str);
            ids.try_for_each(|id| id.parse::<T>().map(drop).map_err(|error| error.to_string()))
        },
    )
}

/// Names in a set.
pub(crate) fn names() -> Validator {
    Validator::new(
        "must have names of 1 to 255 characters, without control characters and outer spaces",
        |value| {
            let mut names = value.as_list().unwrap_or_default().iter().filter_map(Value::as_str);
            names
                .try_for_each(|name| name.parse::<Name>().map(drop))
                .map_err(|error| error.to_string())
        },
    )
}

/// A whole number of `what`, such as "seconds".
pub(crate) fn number(what: &'static str, range: RangeInclusive<i64>) -> Validator {
    whole(range, move |number, range| match number < *range.start() {
        true => format!("{number} {what} are too few"),
        false => format!("{number} {what} are too many"),
    })
}

/// The number of a `noun`, such as "a port".
pub(crate) fn numbered(noun: &'static str, range: RangeInclusive<i64>) -> Validator {
    whole(range, move |number, _| format!("{number} is not {noun}"))
}

/// A whole number; what is said of one that is outside of `range`.
fn whole(
    range: RangeInclusive<i64>,
    outside: impl Fn(i64, &RangeInclusive<i64>) -> String + Send + Sync + 'static,
) -> Validator {
    let rule = format!("must be a whole number from {} to {}", range.start(), range.end());
    Validator::new(rule, move |value| match integer(value)? {
        number if range.contains(&number) => Ok(()),
        number => Err(outside(number, &range)),
    })
}

/// Any whole number: what it has to be besides depends on others.
pub(crate) fn whole_number() -> Validator {
    Validator::new("must be a whole number", |value| integer(value).map(drop))
}

fn integer(value: &Value) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| format!("{value} is not a whole number"))
}

/// A range of the model's as [`number`] takes it.
pub(crate) fn wide(range: RangeInclusive<u32>) -> RangeInclusive<i64> {
    i64::from(*range.start())..=i64::from(*range.end())
}

/// The name of an instance type of one's own.
pub(crate) fn type_name() -> Validator {
    text(
        "must be a family, a dot and a size, such as \"build.large\", of lowercase letters, digits and dashes, with at most 63 characters; the families w1, w2 and so on are Weft's own",
        |text| {
            let name: TypeName = text.parse().map_err(|_| format!("{text:?} is no such name"))?;
            if name.is_reserved() {
                return Err(format!("{text:?} is of a family of Weft's own"));
            }
            Ok(())
        },
    )
}

/// The number of elements of a set of security groups.
pub(crate) fn group_count() -> Validator {
    Validator::new(
        format!(
            "must have 1 to {MAX_GROUPS_PER_INTERFACE} groups; leave security_group_ids out for the VPC's default group"
        ),
        |value| match value.as_list() {
            Some([]) => Err("there is no security group in it".to_owned()),
            Some(groups) if groups.len() > MAX_GROUPS_PER_INTERFACE => {
                let named = groups.iter().map(|group| group.as_str().unwrap_or("(not known yet)"));
                let named: Vec<_> = named.collect();
                Err(format!("these are {} groups: {}", groups.len(), named.join(", ")))
            }
            _ => Ok(()),
        },
    )
}

/// Something that people call a thing.
pub(crate) fn name() -> Validator {
    text("must have 1 to 255 characters, without control characters and outer spaces", |text| {
        text.parse::<Name>().map(drop).map_err(|_| format!("{text:?} cannot be a name"))
    })
}

pub(crate) fn description() -> Validator {
    text("must have at most 255 characters, without control characters", |text| {
        let good = text.chars().count() <= 255 && !text.chars().any(char::is_control);
        if good { Ok(()) } else { Err("it is long or has control characters".to_owned()) }
    })
}

pub(crate) fn cidr() -> Validator {
    text("must be an IPv4 range such as \"10.0.0.0/8\"", |text| {
        as_usual(text, parse_cidr("", text)).map(drop)
    })
}

pub(crate) fn cidr_v6() -> Validator {
    text("must be an IPv6 range such as \"2001:db8::/32\"", |text| {
        as_usual(text, parse_cidr_v6("", text)).map(drop)
    })
}

/// A range of either family.
pub(crate) fn any_cidr() -> Validator {
    text("must be a range such as \"10.0.0.0/8\" or \"2001:db8::/32\"", |text| {
        match text.contains(':') {
            true => as_usual(text, parse_cidr_v6("", text)).map(drop),
            false => as_usual(text, parse_cidr("", text)).map(drop),
        }
    })
}

/// The range of a VPC or a subnet.
pub(crate) fn network_cidr() -> Validator {
    text("must be an IPv4 range from /16 to /28 such as \"10.0.0.0/16\"", |text| {
        if !text.contains('/') {
            return Err(format!("{text:?} has no prefix length"));
        }
        let range = as_usual(text, parse_cidr("", text))?;
        check_network_range("", range).map_err(|problem| said(&problem))
    })
}

/// A VPC's IPv6 range.
pub(crate) fn vpc_ipv6_cidr() -> Validator {
    text("must be an IPv6 range from /44 to /64 such as \"fd12:3456:789a::/56\"", |text| {
        check_vpc_range_v6(as_usual(text, parse_cidr_v6("", text))?)
            .map_err(|problem| said(&problem))
    })
}

/// A subnet's IPv6 range.
pub(crate) fn subnet_ipv6_cidr() -> Validator {
    text("must be an IPv6 /64 such as \"fd12:3456:789a:1::/64\"", |text| {
        match as_usual(text, parse_cidr_v6("", text))?.prefix() {
            SUBNET_PREFIX_V6 => Ok(()),
            other => Err(format!("{text:?} has a prefix length of {other}")),
        }
    })
}

/// What `text` was read as, unless people would write that otherwise.
fn as_usual<T: Display>(text: &str, read: Result<T, Problem>) -> Result<T, String> {
    let read = read.map_err(|problem| said(&problem))?;
    match read.to_string() == text {
        true => Ok(read),
        false => Err(format!("{text:?} is written in an unusual way: write \"{read}\"")),
    }
}

/// A name of a network interface of the host.
pub(crate) fn link_name() -> Validator {
    text("must be the name of a link of the host, such as \"br0\"", |text| {
        text.parse::<LinkName>().map(drop).map_err(|error| error.to_string())
    })
}

pub(crate) fn ipv4() -> Validator {
    text("must be an IPv4 address such as \"172.31.0.10\"", |text| {
        text.parse::<Ipv4Addr>().map(drop).map_err(|_| format!("{text:?} is no IPv4 address"))
    })
}

/// An address of either family.
pub(crate) fn address() -> Validator {
    text("must be an IP address such as \"172.31.0.10\" or \"2001:db8::10\"", |text| {
        text.parse::<IpAddr>().map(drop).map_err(|_| format!("{text:?} is no IP address"))
    })
}

/// Addresses in a list.
pub(crate) fn ipv4s() -> Validator {
    Validator::new("must have IPv4 addresses only, such as \"172.31.0.10\"", |value| {
        let mut addresses = value.as_list().unwrap_or_default().iter().filter_map(Value::as_str);
        match addresses.find(|text| text.parse::<Ipv4Addr>().is_err()) {
            None => Ok(()),
            Some(text) => Err(format!("{text:?} is no IPv4 address")),
        }
    })
}

pub(crate) fn protocol() -> Validator {
    text("must be tcp, udp, icmp, icmpv6, -1 for all, or a number from 0 to 255", |text| {
        let protocol: IpProtocol = text.parse().map_err(|problem| said(&problem))?;
        if protocol.to_string() == text {
            return Ok(());
        }
        Err(format!("{text:?} is written in an unusual way: write \"{protocol}\""))
    })
}

pub(crate) fn public_key() -> Validator {
    text(
        "must be one line of an OpenSSH public key, such as the content of id_ed25519.pub",
        |text| text.parse::<PublicKey>().map(drop).map_err(|error| error.to_string()),
    )
}

pub(crate) fn tags() -> Validator {
    Validator::new(
        "must have at most 50 tags, with keys of 1 to 128 and values of at most 256 characters",
        |value| {
            let Ok(tags) = value.to::<BTreeMap<String, Value>>() else { return Ok(()) };
            let known = tags.into_iter().map(|(key, v)| (key, v.as_str().unwrap_or("").to_owned()));
            Tags::parse(known).map(drop).map_err(|problem| said(&problem))
        },
    )
}

pub(crate) fn user_data() -> Validator {
    text("must have at most 65536 bytes", |text| fits(text.len()))
}

pub(crate) fn user_data_base64() -> Validator {
    text(
        "must be base64 as base64encode() or filebase64() make it, of at most 65536 bytes",
        |text| {
            let bytes = STANDARD.decode(text).map_err(|error| not_base64(text, &error))?;
            fits(bytes.len())
        },
    )
}

/// What is wrong and where, counted in characters: whatever stands before it is ASCII.
fn not_base64(text: &str, error: &DecodeError) -> String {
    let character = |at: &usize| {
        let found = text.get(*at..).and_then(|rest| rest.chars().next()).unwrap_or_default();
        let shown = match found {
            ' ' => "a space".to_owned(),
            '\n' => "a line break".to_owned(),
            c if c.is_control() => format!("U+{:04X}", u32::from(c)),
            c => format!("\"{c}\""),
        };
        (at + 1, shown)
    };
    match error {
        DecodeError::InvalidByte(at, _) => {
            let (number, shown) = character(at);
            format!("it is not base64: its character {number} is {shown}")
        }
        DecodeError::InvalidLastSymbol(at, _) => {
            let (number, shown) = character(at);
            format!(
                "it is not base64: its character {number}, {shown}, cannot be the last one; is its \
                 end missing?"
            )
        }
        DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => format!(
            "it is not base64: it has {} characters, which are no multiple of four with the \"=\" at \
             its end; is its end missing?",
            text.len()
        ),
    }
}

fn fits(bytes: usize) -> Result<(), String> {
    if bytes <= MAX_USER_DATA_BYTES {
        return Ok(());
    }
    Err(format!(
        "user data has {bytes} bytes, {MAX_USER_DATA_BYTES} fit: let it fetch the rest, or put it into the image"
    ))
}

/// A SHA-256.
pub(crate) fn digest() -> Validator {
    text("must be a SHA-256 of 64 hexadecimal digits", |text| {
        text.parse::<Digest>().map(drop).map_err(|error| error.to_string())
    })
}

/// A SHA-512.
pub(crate) fn sha512() -> Validator {
    text("must be a SHA-512 of 128 hexadecimal digits", |text| {
        text.parse::<Sha512>().map(drop).map_err(|error| error.to_string())
    })
}

/// A Linux user name as `useradd` accepts it (`man 8 useradd`, CAVEATS).
pub(crate) fn user_name() -> Validator {
    text(
        "must have lowercase letters, digits, _ and -, starting with a letter, at most 32",
        |text| {
            let bytes = text.as_bytes();
            let tail = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(b);
            let head = |b: &u8| b.is_ascii_lowercase() || *b == b'_';
            let good =
                bytes.len() <= 32 && bytes.first().is_some_and(head) && bytes.iter().all(tail);
            if good { Ok(()) } else { Err(format!("{text:?} is not a Linux user name")) }
        },
    )
}

fn text(
    rule: impl Into<String>,
    check: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
) -> Validator {
    Validator::new(rule, move |value| value.as_str().map_or(Ok(()), &check))
}

/// Message and remedy in one sentence.
fn said(problem: &Problem) -> String {
    match &problem.remedy {
        Some(remedy) => format!("{}: {remedy}", problem.message),
        None => problem.message.clone(),
    }
}
