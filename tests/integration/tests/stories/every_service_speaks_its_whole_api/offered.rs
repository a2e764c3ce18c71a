//! Which resources there are and which verbs each has: what reflection shows, and what the document says.
//!
//! The one thing to know: a resource is a message with a `name` that a method `Get<Message>` answers with.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use prost_reflect::{Kind, MessageDescriptor, MethodDescriptor};

use super::reflection::Api;

/// The document that is held to what the services offer.
const DOCUMENT: &str = include_str!("../../../../../docs/api-conventions.md");

/// What every resource is expected to have.
const EXPECTED: [&str; 5] = ["Get", "List", "Create", "Update", "Delete"];
/// What is besides expected to be watched.
const WATCHED: [&str; 4] = ["Cluster", "Job", "Release", "Application"];

/// A resource and the methods of its verbs.
pub struct Resource {
    /// The message.
    pub message: MessageDescriptor,
    /// By verb.
    pub verbs: BTreeMap<&'static str, MethodDescriptor>,
}

impl Resource {
    /// The message's name.
    pub fn name(&self) -> &str {
        self.message.name()
    }

    /// The method of a verb.
    pub fn verb(&self, verb: &str) -> Result<&MethodDescriptor> {
        self.verbs.get(verb).with_context(|| format!("{} has no {verb}", self.name()))
    }

    /// The field of a message that holds the resource.
    pub fn field_in(&self, message: &MessageDescriptor) -> Result<String> {
        let field = field_of(message, &self.message).with_context(|| format!("{} has no {}", message.name(), self.name()))?;
        Ok(field)
    }
}

fn field_of(message: &MessageDescriptor, wanted: &MessageDescriptor) -> Option<String> {
    let of = |kind: Kind| matches!(kind, Kind::Message(of) if of.full_name() == wanted.full_name());
    message.fields().find(|field| of(field.kind())).map(|field| field.name().to_owned())
}

/// Every resource that reflection shows.
pub fn resources(api: &Api) -> Vec<Resource> {
    let is_resource = |method: &&MethodDescriptor| {
        let named = method.output().get_field_by_name("name").is_some_and(|field| field.kind() == Kind::String);
        named && method.name().strip_prefix("Get") == Some(method.output().name())
    };
    let got: Vec<MethodDescriptor> = api.methods().filter(is_resource).cloned().collect();
    got.into_iter()
        .map(|get| {
            let message = get.output();
            let siblings: Vec<MethodDescriptor> = get.parent_service().methods().collect();
            let exact = |verb: &str| siblings.iter().find(|method| method.name() == format!("{verb}{}", message.name()));
            let lists = |verb: &str| {
                siblings.iter().find(|method| method.name().starts_with(verb) && field_of(&method.output(), &message).is_some())
            };
            let found = [
                ("Get", exact("Get")),
                ("List", lists("List")),
                ("Create", exact("Create")),
                ("Update", exact("Update")),
                ("Delete", exact("Delete")),
                ("Watch", lists("Watch")),
            ];
            let verbs = found.into_iter().filter_map(|(verb, method)| Some((verb, method?.clone()))).collect();
            Resource { message, verbs }
        })
        .collect()
}

/// Every resource has every verb, or the document says why not; and the document says nothing else.
pub fn agree_with_the_document(resources: &[Resource]) -> Result<()> {
    let mut documented: BTreeMap<&str, (BTreeSet<&str>, &str)> = BTreeMap::new();
    for line in DOCUMENT.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", resource, has, why, ""] = cells[..] else { bail!("not a row of three cells: {line}") };
        let has = has.split(',').map(str::trim).collect();
        documented.insert(resource.trim_matches('`'), (has, why));
    }
    let found: BTreeSet<&str> = resources.iter().map(Resource::name).collect();
    let known: BTreeSet<&str> = documented.keys().copied().collect();
    ensure!(found == known, "reflection shows {found:?}; docs/api-conventions.md lists {known:?}");
    for resource in resources {
        let (has, why) = &documented[resource.name()];
        let offered: BTreeSet<&str> = resource.verbs.keys().copied().collect();
        ensure!(offered == *has, "{}: the service offers {offered:?}, the document {has:?}", resource.name());
        let expected = EXPECTED.into_iter().chain(WATCHED.contains(&resource.name()).then_some("Watch"));
        let missing: Vec<&str> = expected.filter(|verb| !offered.contains(verb)).collect();
        ensure!(missing.is_empty() == why.is_empty(), "{}: without {missing:?}, the reason is {why:?}", resource.name());
    }
    Ok(())
}

/// The fields that the conventions ask of each verb's messages are there.
pub fn follow_the_conventions(resources: &[Resource]) -> Result<()> {
    for resource in resources {
        for (verb, method) in &resource.verbs {
            let (input, output) = (method.input(), method.output());
            let (asked, answered): (&[&str], &[&str]) = match *verb {
                "Get" => (&["name"], &["name"]),
                "List" => (&["page_size", "page_token"], &["next_page_token"]),
                "Create" => (&["request_id"], &["name"]),
                "Update" => (&["update_mask", "request_id"], &["etag"]),
                "Delete" => (&["name", "etag", "request_id"], &[]),
                "Watch" => (&["resume_token"], &["type", "resume_token"]),
                other => bail!("{other} is no verb"),
            };
            for (message, fields) in [(input, asked), (output, answered)] {
                for field in fields {
                    ensure!(message.get_field_by_name(field).is_some(), "{} has no field {field}", message.full_name());
                }
            }
        }
    }
    Ok(())
}
