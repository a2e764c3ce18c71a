//! Creating, updating, patching and applying one object, exactly as the API server does: decode, default, validate, own
//! fields, and write only where something changed.

use crate::{
    body::{check, check_identity, keep_only_what_counts, present, read_body, restore_system_metadata, spec_differs},
    json,
    managed::{self, ApplyError, Operation, Writer},
    patch::{self, PatchError},
    prepare,
    schema::decode,
    state::{Actor, State, Target, now},
    status::{ApiError, FieldError},
    store::Key,
    validate,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// What happens to fields the kind does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped with a warning.
    Warn,
    /// They are refused.
    Strict,
}

/// How to write.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Who writes.
    pub actor: Actor,
    /// Change nothing.
    pub dry_run: bool,
    /// What to do about unknown fields.
    pub validation: FieldValidation,
    /// Take fields from other managers; only for an apply.
    pub force: bool,
}

impl WriteOptions {
    /// A plain write by one of the cluster's own controllers.
    pub fn internal(actor: &Actor) -> Self {
        Self { actor: actor.clone(), dry_run: false, validation: FieldValidation::Ignore, force: false }
    }
}

/// A patch in one of its four forms.
#[derive(Debug, Clone)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Strategic merge.
    Strategic(Value),
    /// Server-side apply.
    Apply(Value),
}

/// A write that was carried out.
#[derive(Debug, Clone)]
pub struct Written {
    /// The object after it.
    pub object: Arc<Value>,
    /// It did not exist before.
    pub created: bool,
    /// It is gone: its last finalizer was taken away.
    pub removed: bool,
    /// What the caller should be told.
    pub warnings: Vec<String>,
}

impl State {
    /// Creates an object.
    pub fn create(&mut self, target: &Target, body: Value, options: &WriteOptions) -> Result<Written, ApiError> {
        let mut object = body;
        let warnings = read_body(target, &mut object, options.validation)?;
        if target.kind.namespaced && json::namespace(&object).is_empty() {
            json::set(&mut object, &["metadata", "namespace"], json!(target.namespace));
        }
        if !target.kind.namespaced {
            json::remove(&mut object, &["metadata", "namespace"]);
        }
        if json::namespace(&object) != target.namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if !json::text(&object, "/metadata/resourceVersion").is_empty() {
            return Err(ApiError::new(500, "", "resourceVersion should not be set on objects to be created"));
        }
        self.admit_into_namespace(target, json::name(&object))?;
        let prefix = json::text(&object, "/metadata/generateName").to_owned();
        if json::name(&object).is_empty() && !prefix.is_empty() {
            let name = format!("{}{}", &prefix[..prefix.len().min(58)], self.random.suffix());
            json::set(&mut object, &["metadata", "name"], json!(name));
        }
        let now = now();
        let uid = self.random.uid();
        for system in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink", "managedFields"] {
            json::remove(&mut object, &["metadata", system]);
        }
        json::set(&mut object, &["metadata", "uid"], json!(uid));
        json::set(&mut object, &["metadata", "creationTimestamp"], json!(now));
        if target.kind.counts_generation {
            json::set(&mut object, &["metadata", "generation"], json!(1));
        }
        let version = &target.kind.versions[target.version];
        if version.status {
            json::remove(&mut object, &["status"]);
        }
        prepare::for_create(self, &target.kind, &version.schema, &mut object);
        check(&target.kind, target.version, &object, validate::create(&target.kind, &object))?;
        let key = Key::of(&target.resource(), &object);
        if self.store.get(&key).is_some() {
            return Err(ApiError::already_exists(&target.resource(), &key.name));
        }
        let api_version = target.api_version();
        let who =
            Writer { manager: &options.actor.manager, operation: Operation::Update, api_version: &api_version, subresource: "" };
        let empty = json!({"metadata": {}});
        let entries = managed::after_update(&version.schema, &empty, &object, Vec::new(), who, &now);
        managed::write(&mut object, entries);
        let object = self.put(target, &key, object, options.dry_run);
        Ok(Written { object, created: true, removed: false, warnings })
    }

    fn put(&mut self, target: &Target, key: &Key, mut object: Value, dry_run: bool) -> Arc<Value> {
        json::set(&mut object, &["apiVersion"], json!(target.kind.api_version(0)));
        if dry_run { Arc::new(object) } else { self.store.put(key, object) }
    }

    fn admit_into_namespace(&self, target: &Target, name: &str) -> Result<(), ApiError> {
        if !target.kind.namespaced {
            return Ok(());
        }
        let namespace = self
            .store
            .find("namespaces", "", &target.namespace)
            .ok_or_else(|| ApiError::not_found("namespaces", &target.namespace))?;
        if json::is_deleting(namespace) {
            let inside = &target.namespace;
            let why = format!("unable to create new content in namespace {inside} because it is being terminated");
            let message = format!("namespace {inside} is being terminated");
            return Err(ApiError::forbidden(&target.resource(), name, &why).with_cause(
                "NamespaceTerminating",
                &message,
                "metadata.namespace",
            ));
        }
        Ok(())
    }

    /// Replaces an object, or its subresource.
    pub fn update(&mut self, target: &Target, body: Value, options: &WriteOptions) -> Result<Written, ApiError> {
        let current = self.existing(target)?;
        let mut object = body;
        let warnings = read_body(target, &mut object, options.validation)?;
        if json::name(&object).is_empty() {
            json::set(&mut object, &["metadata", "name"], json!(target.name));
        }
        if json::name(&object) != target.name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                json::name(&object),
                target.name
            )));
        }
        let conditional = target.kind.custom || matches!(target.kind.kind.as_str(), "CustomResourceDefinition" | "Lease");
        if conditional && json::text(&object, "/metadata/resourceVersion").is_empty() {
            let error = FieldError::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
            return Err(ApiError::invalid(&target.kind.group, &target.kind.kind, &target.name, &[error]));
        }
        let written = self.replace(target, &current, object, None, options)?;
        Ok(Written { warnings, ..written })
    }

    /// The object of a request, or 404.
    pub fn existing(&self, target: &Target) -> Result<Arc<Value>, ApiError> {
        let resource = target.resource();
        let found = self.store.find(&resource, &target.namespace, &target.name);
        found.cloned().ok_or_else(|| ApiError::not_found(&resource, &target.name))
    }

    /// Patches an object, or applies one into being.
    pub fn patch(&mut self, target: &Target, patch: Patch, options: &WriteOptions) -> Result<Written, ApiError> {
        if let Patch::Apply(config) = patch {
            return self.apply(target, config, options);
        }
        let current = self.existing(target)?;
        let presented = present(&target.kind, target.version, &current);
        let schema = &target.kind.versions[target.version].schema;
        let patched = match &patch {
            Patch::Json(patch) => patch::json_patch(&presented, patch),
            Patch::Merge(patch) => Ok(patch::merge_patch(&presented, patch)),
            Patch::Strategic(_) if target.kind.custom => {
                return Err(ApiError::unsupported_media_type(
                    "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
                ));
            }
            Patch::Strategic(patch) => patch::strategic_patch(schema, &presented, patch),
            Patch::Apply(_) => unreachable!("applied above"),
        };
        let mut object = patched.map_err(|error| match error {
            PatchError::Malformed(why) => ApiError::bad_request(why),
            PatchError::DoesNotFit(why) => {
                ApiError::new(422, "Invalid", format!("the server rejected our request due to an error in our request: {why}"))
            }
        })?;
        let warnings = read_body(target, &mut object, options.validation)?;
        let written = self.replace(target, &current, object, None, options)?;
        Ok(Written { warnings, ..written })
    }

    fn apply(&mut self, target: &Target, mut config: Value, options: &WriteOptions) -> Result<Written, ApiError> {
        if !json::list(&config, "/metadata/managedFields").is_empty() {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        check_identity(target, &config)?;
        if json::name(&config).is_empty() {
            json::set(&mut config, &["metadata", "name"], json!(target.name));
        }
        if json::name(&config) != target.name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                json::name(&config),
                target.name
            )));
        }
        let current = match self.existing(target) {
            Ok(current) => Some(current),
            Err(error) if !target.subresource.is_empty() || !json::text(&config, "/metadata/uid").is_empty() => {
                return Err(error);
            }
            Err(_) => None,
        };
        let version = &target.kind.versions[target.version];
        let mut typed = config.clone();
        let decoded = decode::decode(&version.schema, &mut typed);
        let described = || {
            let place = if target.namespace.is_empty() { String::new() } else { target.namespace.clone() };
            format!(
                "failed to create typed patch object ({place}/{}; {}, Kind={})",
                target.name,
                target.api_version(),
                target.kind.kind
            )
        };
        if let Some(unknown) = decoded.unknown.first() {
            return Err(ApiError::new(500, "", format!("{}: .{unknown}: field not declared in schema", described())));
        }
        if let Some(mistyped) = decoded.mistyped {
            return Err(ApiError::new(500, "", format!("{}: {mistyped}", described())));
        }
        keep_only_what_counts(target, &mut config);
        let now = now();
        let api_version = target.api_version();
        let who = Writer {
            manager: &options.actor.manager,
            operation: Operation::Apply,
            api_version: &api_version,
            subresource: &target.subresource,
        };
        let fresh = json!({"apiVersion": api_version, "kind": target.kind.kind, "metadata": {}});
        let live = current.as_ref().map_or(fresh, |current| present(&target.kind, target.version, current));
        let applied = managed::apply(&version.schema, &live, &config, who, options.force, &now).map_err(|error| match error {
            ApplyError::Conflicts(conflicts) => ApiError::apply_conflict(conflicts),
            ApplyError::Shape(why) => ApiError::new(500, "", format!("{}: {why}", described())),
        })?;
        let mut object = applied.object;
        if let Some(version) = config.pointer("/metadata/resourceVersion") {
            json::set(&mut object, &["metadata", "resourceVersion"], version.clone());
        }
        read_body(target, &mut object, FieldValidation::Ignore)?;
        match current {
            Some(current) => self.replace(target, &current, object, Some(applied.entries), options),
            None => {
                let mut options = options.clone();
                options.validation = FieldValidation::Ignore;
                let rehearsal = WriteOptions { dry_run: true, ..options.clone() };
                let created = self.create(target, object, &rehearsal)?;
                let mut object = (*created.object).clone();
                managed::write(&mut object, applied.entries);
                let key = Key::of(&target.resource(), &object);
                let object = self.put(target, &key, object, options.dry_run);
                Ok(Written { object, created: true, removed: false, warnings: created.warnings })
            }
        }
    }

    /// Writes `object` in place of `current`; `entries` are given by an apply and worked out otherwise.
    pub fn replace(
        &mut self,
        target: &Target,
        current: &Arc<Value>,
        mut object: Value,
        entries: Option<Vec<managed::Entry>>,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let resource = target.resource();
        let before = present(&target.kind, target.version, current);
        let wanted = json::text(&object, "/metadata/resourceVersion");
        if !wanted.is_empty() && wanted != "0" && wanted != json::text(current, "/metadata/resourceVersion") {
            return Err(ApiError::modified(&resource, &target.name));
        }
        let uid = json::uid(&object);
        if !uid.is_empty() && uid != json::uid(current) {
            let found = json::uid(current);
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
            return Err(ApiError::conflict(&resource, &target.name, &why));
        }
        let resets_owners = object.pointer("/metadata/managedFields") == Some(&json!([{}]));
        let deletion = object.pointer("/metadata/deletionTimestamp").filter(|at| !at.is_null());
        if let Some(at) = deletion.filter(|at| Some(*at) != before.pointer("/metadata/deletionTimestamp")) {
            let error = FieldError::invalid("metadata.deletionTimestamp", at, "field is immutable");
            return Err(ApiError::invalid(&target.kind.group, &target.kind.kind, &target.name, &[error]));
        }
        restore_system_metadata(&before, &mut object);
        let version = &target.kind.versions[target.version];
        if target.subresource == "status" {
            let status = json::remove(&mut object, &["status"]);
            object = before.clone();
            match status {
                Some(status) => json::set(&mut object, &["status"], status),
                None => drop(json::remove(&mut object, &["status"])),
            }
        } else if version.status && target.subresource.is_empty() {
            match before.get("status") {
                Some(status) => json::set(&mut object, &["status"], status.clone()),
                None => drop(json::remove(&mut object, &["status"])),
            }
        }
        prepare::for_update(&target.kind, &version.schema, &before, &mut object);
        let errors = validate::update(&target.kind, &target.subresource, &before, &object);
        check(&target.kind, target.version, &object, errors)?;
        if target.kind.counts_generation
            && matches!(target.subresource.as_str(), "" | "scale")
            && spec_differs(&target.kind, &before, &object)
        {
            let generation = json::integer(&before, "/metadata/generation").unwrap_or(0) + 1;
            json::set(&mut object, &["metadata", "generation"], json!(generation));
        }
        let now = now();
        let api_version = target.api_version();
        let who = Writer {
            manager: &options.actor.manager,
            operation: Operation::Update,
            api_version: &api_version,
            subresource: &target.subresource,
        };
        let entries = match entries {
            Some(entries) => entries,
            None => {
                let owners = if resets_owners { Vec::new() } else { managed::read(&before) };
                managed::after_update(&version.schema, &before, &object, owners, who, &now)
            }
        };
        managed::write(&mut object, entries);
        if object == before {
            return Ok(Written { object: Arc::clone(current), created: false, removed: false, warnings: Vec::new() });
        }
        let key = Key::of(&resource, &object);
        let finished = json::is_deleting(&object)
            && json::list(&object, "/metadata/finalizers").is_empty()
            && prepare::may_vanish(&target.kind, &object);
        let object = self.put(target, &key, object, options.dry_run);
        if finished && !options.dry_run {
            self.store.remove(&key);
        }
        Ok(Written { object, created: false, removed: finished, warnings: Vec::new() })
    }
}
