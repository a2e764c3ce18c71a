//! `metadata.managedFields`: who owns which field of an object, kept through every write.

use crate::{
    apply::{self, Difference, compare},
    fields::FieldSet,
    json,
    schema::Schema,
};
use serde_json::{Value, json};

/// How a manager came by its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// By any other write.
    Update,
}

/// The fields of one manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The manager's name.
    pub manager: String,
    /// How it came by them.
    pub operation: Operation,
    /// The version of the kind the paths are in.
    pub api_version: String,
    /// "" or `status`, `scale`.
    pub subresource: String,
    /// When this entry last changed.
    pub time: String,
    /// The fields.
    pub fields: FieldSet,
}

impl Entry {
    /// True where a write by `who` goes to this entry. An applier has one entry over all versions of the kind.
    pub fn is(&self, who: &Writer<'_>) -> bool {
        self.manager == who.manager
            && self.operation == who.operation
            && self.subresource == who.subresource
            && (self.operation == Operation::Apply || self.api_version == who.api_version)
    }

    /// How this manager is named in a conflict.
    pub fn shown(&self) -> String {
        let mut shown = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            shown.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            shown.push_str(&format!(" using {}", self.api_version));
        }
        shown
    }
}

/// Who writes, and how.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// Apply or update.
    pub operation: Operation,
    /// The version of the kind in the request.
    pub api_version: &'a str,
    /// "" or the subresource.
    pub subresource: &'a str,
}

/// The entries of an object.
pub fn read(object: &Value) -> Vec<Entry> {
    json::list(object, "/metadata/managedFields")
        .iter()
        .map(|entry| Entry {
            manager: json::text(entry, "/manager").to_owned(),
            operation: if json::text(entry, "/operation") == "Apply" { Operation::Apply } else { Operation::Update },
            api_version: json::text(entry, "/apiVersion").to_owned(),
            subresource: json::text(entry, "/subresource").to_owned(),
            time: json::text(entry, "/time").to_owned(),
            fields: entry.get("fieldsV1").map(FieldSet::from_fields_v1).unwrap_or_default(),
        })
        .collect()
}

/// Writes entries into an object: appliers first, then by time, as the API server orders them.
pub fn write(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    entries.sort_by(|one, other| {
        let rank = |entry: &Entry| entry.operation == Operation::Update;
        (rank(one), &one.time, &one.manager).cmp(&(rank(other), &other.time, &other.manager))
    });
    if entries.is_empty() {
        json::remove(object, &["metadata", "managedFields"]);
        return;
    }
    let list: Vec<Value> = entries
        .into_iter()
        .map(|Entry { manager, operation, api_version, subresource, time, fields }| {
            let operation = if operation == Operation::Apply { "Apply" } else { "Update" };
            let mut entry = json!({
                "manager": manager, "operation": operation, "apiVersion": api_version, "time": time,
                "fieldsType": "FieldsV1", "fieldsV1": fields.to_fields_v1(),
            });
            if !subresource.is_empty() {
                entry["subresource"] = json!(subresource);
            }
            entry
        })
        .collect();
    json::set(object, &["metadata", "managedFields"], Value::Array(list));
}

/// At most this many entries of updaters; the oldest become one, as in the API server.
const UPDATERS: usize = 10;

/// The entries after a plain write: the writer owns what it changed, the others lose what was changed or removed.
pub fn after_update(
    schema: &Schema,
    before: &Value,
    after: &Value,
    mut entries: Vec<Entry>,
    who: Writer<'_>,
    now: &str,
) -> Vec<Entry> {
    let Difference { added, modified, removed } = compare(schema, before, after);
    let changed = apply::without_system_fields(&added.union(&modified));
    if changed.is_empty() && removed.is_empty() {
        return entries;
    }
    let own = entries.iter().position(|entry| entry.is(&who));
    for (at, entry) in entries.iter_mut().enumerate() {
        entry.fields = entry.fields.difference(&entry.fields.below(&removed));
        if Some(at) != own {
            entry.fields = entry.fields.difference(&changed);
        }
    }
    match own {
        Some(at) => {
            let fields = entries[at].fields.union(&changed);
            if fields != entries[at].fields || !removed.is_empty() {
                entries[at].time = now.to_owned();
            }
            entries[at].fields = fields;
        }
        None if changed.is_empty() => {}
        None => entries.push(Entry {
            manager: who.manager.to_owned(),
            operation: who.operation,
            api_version: who.api_version.to_owned(),
            subresource: who.subresource.to_owned(),
            time: now.to_owned(),
            fields: changed,
        }),
    }
    fold_old(entries)
}

fn fold_old(mut entries: Vec<Entry>) -> Vec<Entry> {
    while entries.iter().filter(|entry| entry.operation == Operation::Update).count() > UPDATERS {
        let mut updaters: Vec<usize> = (0..entries.len()).filter(|at| entries[*at].operation == Operation::Update).collect();
        updaters.sort_by(|one, other| entries[*one].time.cmp(&entries[*other].time));
        let (first, second) = (updaters[0].min(updaters[1]), updaters[0].max(updaters[1]));
        let other = entries.remove(second);
        let oldest = &mut entries[first];
        oldest.fields.extend(&other.fields);
        oldest.manager = "ancient-changes".to_owned();
    }
    entries
}

/// An applied configuration laid into an object.
#[derive(Debug)]
pub struct Applied {
    /// The object after it.
    pub object: Value,
    /// Who owns what after it.
    pub entries: Vec<Entry>,
}

/// Why a configuration could not be applied.
#[derive(Debug)]
pub enum ApplyError {
    /// Fields that other managers own would change: manager and path of each.
    Conflicts(Vec<(String, String)>),
    /// The configuration does not have the kind's shape.
    Shape(String),
}

/// Applies `config`; what `ignored` says (top-level fields) is nobody's here. With `force` other managers lose what is
/// changed, without it that is a conflict.
pub fn apply(
    schema: &Schema,
    live: &Value,
    config: &Value,
    who: Writer<'_>,
    force: bool,
    now: &str,
) -> Result<Applied, ApplyError> {
    let mut entries = read(live);
    let said = apply::without_system_fields(&apply::field_set(schema, config).map_err(ApplyError::Shape)?);
    let merged = apply::merge(schema, Some(live), config).map_err(ApplyError::Shape)?;
    let own = entries.iter().position(|entry| entry.is(&who));
    let last = own.map(|at| entries.remove(at));
    let Difference { added, modified, .. } = compare(schema, live, &merged);
    let changed = apply::without_system_fields(&added.union(&modified));
    let conflicts: Vec<(String, String)> = entries
        .iter()
        .flat_map(|entry| {
            let paths = entry.fields.intersection(&changed).paths();
            paths.into_iter().map(|path| (entry.shown(), path))
        })
        .collect();
    if !conflicts.is_empty() && !force {
        return Err(ApplyError::Conflicts(conflicts));
    }
    for entry in &mut entries {
        entry.fields = entry.fields.difference(&changed);
    }
    let mut object = merged;
    if let Some(last) = &last {
        let gone = last.fields.difference(&said);
        let kept = entries.iter().fold(said.clone(), |all, entry| all.union(&entry.fields));
        if !gone.is_empty() {
            object = apply::remove_fields(schema, &object, &gone, &kept).unwrap_or_else(|| json!({}));
        }
        // What left with an element another manager had a share in is no longer anyone's.
        let removed = compare(schema, live, &object).removed;
        for entry in &mut entries {
            entry.fields = entry.fields.difference(&entry.fields.below(&removed));
        }
    }
    let unchanged = last.as_ref().is_some_and(|last| last.fields == said && last.api_version == who.api_version);
    let time = last.filter(|_| unchanged).map_or_else(|| now.to_owned(), |last| last.time);
    entries.push(Entry {
        manager: who.manager.to_owned(),
        operation: Operation::Apply,
        api_version: who.api_version.to_owned(),
        subresource: who.subresource.to_owned(),
        time,
        fields: said,
    });
    Ok(Applied { object, entries })
}
