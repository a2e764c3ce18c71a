//! Kubernetes' types (quantities, addresses, URLs, versions) and Kyverno's ways to ask the cluster and the registry,
//! which are answered from what was given and nothing else.

use super::{
    Evaluation, NoValue, Val,
    functions::{Answer, Style, Table, fail, ok},
    network::{Cidr, Network, Url, Version, ip},
};
use crate::{image::ImageReference, inventory::NotAnswered};
use muster_core::quantity::Quantity;
use serde_json::{Value, json};
use std::net::IpAddr;

pub const TABLE: Table = &[
    (Style::Global, "quantity", |_, args| parsed(args, "quantity", |text| text.parse().ok().map(Val::Quantity))),
    (Style::Global, "isQuantity", |_, args| test(args, |text| text.parse::<Quantity>().is_ok())),
    (Style::Global, "ip", |_, args| parsed(args, "address", |text| ip(text).map(Network::Ip).map(Val::Network))),
    (Style::Global, "isIP", |_, args| test(args, |text| ip(text).is_some())),
    (Style::Global, "ip.isCanonical", |_, args| match args {
        [Val::Text(text)] => match ip(text) {
            Some(address) => ok(Val::Bool(address.to_string() == text.as_ref())),
            None => fail(format!("{text:?} is no address")),
        },
        _ => None,
    }),
    (Style::Global, "cidr", |_, args| parsed(args, "block", |text| Cidr::parse(text).map(Network::Cidr).map(Val::Network))),
    (Style::Global, "isCIDR", |_, args| test(args, |text| Cidr::parse(text).is_some())),
    (Style::Global, "url", |_, args| {
        parsed(args, "URL", |text| Url::parse(text).map(Box::new).map(Network::Url).map(Val::Network))
    }),
    (Style::Global, "isURL", |_, args| test(args, |text| Url::parse(text).is_some())),
    (Style::Global, "semver", |_, args| {
        parsed(args, "version", |text| Version::parse(text).map(Box::new).map(Network::Version).map(Val::Network))
    }),
    (Style::Global, "isSemver", |_, args| test(args, |text| Version::parse(text).is_some())),
    (Style::Member, "isInteger", |_, args| quantity(args, |value| Val::Bool(whole(value).is_some()))),
    (Style::Member, "asInteger", |_, args| match args {
        [Val::Quantity(value)] => whole(*value).map_or_else(|| fail("no whole number"), |number| ok(Val::Int(number))),
        _ => None,
    }),
    (Style::Member, "asApproximateFloat", |_, args| quantity(args, |value| Val::Double(approximate(value)))),
    (Style::Member, "sign", |_, args| quantity(args, |value| Val::Int(value.cmp(&Quantity::ZERO) as i64))),
    (Style::Member, "add", |_, args| sum(args, |a, b| a + b)),
    (Style::Member, "sub", |_, args| sum(args, |a, b| a - b)),
    (Style::Member, "compareTo", |_, args| compare(args, |order| Val::Int(order as i64))),
    (Style::Member, "isGreaterThan", |_, args| compare(args, |order| Val::Bool(order.is_gt()))),
    (Style::Member, "isLessThan", |_, args| compare(args, |order| Val::Bool(order.is_lt()))),
    (Style::Member, "family", |_, args| address(args, |address| Val::Int(if address.is_ipv4() { 4 } else { 6 }))),
    (Style::Member, "isUnspecified", |_, args| address(args, |address| Val::Bool(address.is_unspecified()))),
    (Style::Member, "isLoopback", |_, args| address(args, |address| Val::Bool(address.is_loopback()))),
    (Style::Member, "isLinkLocalUnicast", |_, args| address(args, |address| Val::Bool(is_link_local(address)))),
    (Style::Member, "isLinkLocalMulticast", |_, args| address(args, |address| Val::Bool(is_local_multicast(address)))),
    (Style::Member, "isGlobalUnicast", |_, args| {
        address(args, |address| {
            let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
            let is_special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
            Val::Bool(!is_special && !is_broadcast && !is_link_local(address))
        })
    }),
    (Style::Member, "containsIP", |_, args| {
        let (block, address) = match args {
            [Val::Network(Network::Cidr(block)), Val::Text(text)] => (block, ip(text)),
            [Val::Network(Network::Cidr(block)), Val::Network(Network::Ip(address))] => (block, Some(*address)),
            _ => return None,
        };
        address.map_or_else(|| fail("no address"), |address| ok(Val::Bool(block.contains(address))))
    }),
    (Style::Member, "containsCIDR", |_, args| {
        let (block, other) = match args {
            [Val::Network(Network::Cidr(block)), Val::Text(text)] => (block, Cidr::parse(text)),
            [Val::Network(Network::Cidr(block)), Val::Network(Network::Cidr(other))] => (block, Some(*other)),
            _ => return None,
        };
        other.map_or_else(|| fail("no block"), |other| ok(Val::Bool(block.contains_block(other))))
    }),
    (Style::Member, "ip", |_, args| block(args, |block| Val::Network(Network::Ip(block.address)))),
    (Style::Member, "masked", |_, args| block(args, |block| Val::Network(Network::Cidr(block.masked())))),
    (Style::Member, "prefixLength", |_, args| block(args, |block| Val::Int(block.prefix.into()))),
    (Style::Member, "getScheme", |_, args| url(args, |url| url.scheme.clone())),
    (Style::Member, "getHost", |_, args| url(args, |url| url.host.clone())),
    (Style::Member, "getHostname", |_, args| url(args, |url| url.hostname().to_owned())),
    (Style::Member, "getPort", |_, args| url(args, |url| url.port().to_owned())),
    (Style::Member, "getEscapedPath", |_, args| url(args, |url| url.path.clone())),
    (Style::Member, "major", |_, args| version(args, 0)),
    (Style::Member, "minor", |_, args| version(args, 1)),
    (Style::Member, "patch", |_, args| version(args, 2)),
    (Style::Global, "resource.Get", |evaluation, args| match args {
        [Val::Text(version), Val::Text(resource), Val::Text(namespace), Val::Text(name)] => {
            Some(inventory(evaluation).and_then(|inventory| match inventory.get(version, resource, namespace, name) {
                Ok(found) => Ok(Val::of(found)),
                Err(NotAnswered::NotThere) => Err(NoValue::failed(format!("{resource} {namespace}/{name} is not there"))),
                Err(NotAnswered::Unknown(reason)) => Err(NoValue::NotGiven(reason)),
            }))
        }
        _ => None,
    }),
    (Style::Global, "resource.List", |evaluation, args| match args {
        [Val::Text(version), Val::Text(resource), Val::Text(namespace)] => Some(inventory(evaluation).and_then(|inventory| {
            let listed = inventory.list(version, resource, namespace).map_err(|error| NoValue::NotGiven(error.to_string()))?;
            let items = listed.into_iter().map(Val::of).collect();
            Ok(Val::Map(vec![(Val::text("items"), Val::list(items))].into()))
        })),
        _ => None,
    }),
    (Style::Global, "image.GetMetadata", |evaluation, args| match args {
        [Val::Text(reference)] => Some(inventory(evaluation).and_then(|inventory| {
            inventory
                .image(reference)
                .map(Val::of)
                .ok_or_else(|| NoValue::NotGiven(format!("it asks the registry about {reference}")))
        })),
        _ => None,
    }),
    (Style::Global, "isImage", |_, args| test(args, |text| ImageReference::parse(text).is_some())),
    (Style::Global, "image", |_, args| match args {
        [Val::Text(text)] => match ImageReference::parse(text) {
            Some(_) => ok(Val::Text(text.clone())),
            None => fail(format!("{text:?} is no image")),
        },
        _ => None,
    }),
    (Style::Member, "registry", |_, args| {
        image(args, |image| Val::text(if image.is_docker() { "index.docker.io".to_owned() } else { image.registry }))
    }),
    (Style::Member, "repository", |_, args| {
        image(args, |image| {
            let is_official = image.is_docker() && !image.path.contains('/');
            Val::text(if is_official { format!("library/{}", image.path) } else { image.path })
        })
    }),
    (Style::Member, "tag", |_, args| image(args, |image| Val::text(image.tag))),
    (Style::Member, "digest", |_, args| image(args, |image| Val::text(image.digest))),
    (Style::Member, "identifier", |_, args| {
        image(args, |image| Val::text(if image.digest.is_empty() { image.tag } else { image.digest }))
    }),
    (Style::Member, "containsDigest", |_, args| image(args, |image| Val::Bool(!image.digest.is_empty()))),
    (Style::Global, "parseServiceAccount", |_, args| match args {
        [Val::Text(user)] => {
            let account = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
            let (namespace, name) = account.unwrap_or_default();
            ok(Val::from_json(json!({"Namespace": namespace, "Name": name})))
        }
        _ => None,
    }),
    (Style::Global, "jsonpatch.escapeKey", |_, args| match args {
        [Val::Text(key)] => ok(Val::text(key.replace('~', "~0").replace('/', "~1"))),
        _ => None,
    }),
    (Style::Global, "json.unmarshal", |evaluation, args| match args {
        [Val::Text(text)] => match evaluation.charge(text.len()) {
            Ok(()) => match serde_json::from_str::<Value>(text) {
                Ok(value) => ok(Val::from_json(value)),
                Err(error) => fail(format!("no JSON: {error}")),
            },
            Err(error) => Some(Err(error)),
        },
        _ => None,
    }),
];

fn parsed<'a>(args: &[Val<'a>], what: &str, parse: impl Fn(&str) -> Option<Val<'a>>) -> Answer<'a> {
    match args {
        [Val::Text(text)] => parse(text).map_or_else(|| fail(format!("{text:?} is no {what}")), ok),
        _ => None,
    }
}

fn test<'a>(args: &[Val<'a>], holds: impl Fn(&str) -> bool) -> Answer<'a> {
    match args {
        [Val::Text(text)] => ok(Val::Bool(holds(text))),
        _ => None,
    }
}

fn quantity<'a>(args: &[Val<'a>], of: impl Fn(Quantity) -> Val<'a>) -> Answer<'a> {
    match args {
        [Val::Quantity(value)] => ok(of(*value)),
        _ => None,
    }
}

fn approximate(value: Quantity) -> f64 {
    value.nanos() as f64 / 1e9
}

fn whole(value: Quantity) -> Option<i64> {
    let nanos = value.nanos();
    (nanos % 1_000_000_000 == 0).then(|| i64::try_from(nanos / 1_000_000_000).ok()).flatten()
}

fn sum<'a>(args: &[Val<'a>], of: impl Fn(Quantity, Quantity) -> Quantity) -> Answer<'a> {
    match args {
        [Val::Quantity(a), Val::Quantity(b)] => ok(Val::Quantity(of(*a, *b))),
        [Val::Quantity(a), Val::Int(b)] => ok(Val::Quantity(of(*a, Quantity::from_units(*b)))),
        _ => None,
    }
}

fn compare<'a>(args: &[Val<'a>], of: impl Fn(std::cmp::Ordering) -> Val<'a>) -> Answer<'a> {
    match args {
        [Val::Quantity(a), Val::Quantity(b)] => ok(of(a.cmp(b))),
        [Val::Network(Network::Version(a)), Val::Network(Network::Version(b))] => ok(of(a.cmp(b))),
        _ => None,
    }
}

fn address<'a>(args: &[Val<'a>], of: impl Fn(IpAddr) -> Val<'a>) -> Answer<'a> {
    match args {
        [Val::Network(Network::Ip(address))] => ok(of(*address)),
        _ => None,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.octets()[0] == 0xff && v6.octets()[1] & 0x0f == 2,
    }
}

fn block<'a>(args: &[Val<'a>], of: impl Fn(Cidr) -> Val<'a>) -> Answer<'a> {
    match args {
        [Val::Network(Network::Cidr(block))] => ok(of(*block)),
        _ => None,
    }
}

fn url<'a>(args: &[Val<'a>], of: impl Fn(&Url) -> String) -> Answer<'a> {
    match args {
        [Val::Network(Network::Url(url))] => ok(Val::text(of(url))),
        _ => None,
    }
}

fn version<'a>(args: &[Val<'a>], part: usize) -> Answer<'a> {
    match args {
        [Val::Network(Network::Version(version))] => ok(Val::Int(i64::try_from(version.parts[part]).unwrap_or(i64::MAX))),
        _ => None,
    }
}

fn image<'a>(args: &[Val<'a>], of: impl Fn(ImageReference) -> Val<'a>) -> Answer<'a> {
    match args {
        [Val::Text(text)] => {
            ImageReference::parse(text).map_or_else(|| fail(format!("{text:?} is no image")), |image| ok(of(image)))
        }
        _ => None,
    }
}

fn inventory<'a>(evaluation: &Evaluation<'a>) -> Result<&'a crate::Inventory, NoValue> {
    evaluation.roots.inventory.ok_or_else(|| NoValue::NotGiven("it asks the cluster, which is not given".to_owned()))
}
