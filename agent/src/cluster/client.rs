//! Requests to the API server. Every one has a deadline; objects are JSON values, so that no field is lost on the way.

use super::{
    ClusterError,
    kinds::{KindInfo, Kinds},
};
use crate::domain::object::{ObjectRef, text};
use kube::{
    Client,
    api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy, ValidationDirective},
    core::{DynamicObject, Request, Resource},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// An API server that has not answered by then counts as away.
const DEADLINE: Duration = Duration::from_secs(30);
/// Objects of one list, at most; more are fetched page by page.
const PAGE: u32 = 500;

/// How an object is written.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// Take fields from other managers; only for objects the manager owns entirely.
    pub force: bool,
    /// Ask what would happen, change nothing.
    pub dry_run: bool,
}

/// The cluster's API server. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    kinds: Arc<Kinds>,
}

impl Cluster {
    /// A cluster behind a client.
    pub fn new(client: Client) -> Self {
        Self { client, kinds: Arc::default() }
    }

    /// The client itself, for streams and typed requests.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How a kind is addressed; asks the cluster where it is not known.
    pub async fn kind(&self, api_version: &str, kind: &str) -> Result<KindInfo, ClusterError> {
        within(self.kinds.find(&self.client, api_version, kind)).await
    }

    /// Forgets what kinds are served: a definition came or went.
    pub fn forget_kinds(&self) {
        self.kinds.forget();
    }

    fn request(info: &KindInfo, namespace: &str) -> Request {
        let namespace = (info.namespaced && !namespace.is_empty()).then_some(namespace);
        Request::new(DynamicObject::url_path(&info.resource, namespace))
    }

    async fn send(&self, request: Result<http::Request<Vec<u8>>, kube::core::request::Error>) -> Result<Value, ClusterError> {
        let request = request.map_err(|error| ClusterError::Malformed(error.to_string()))?;
        within(async { self.client.request::<Value>(request).await.map_err(ClusterError::from) }).await
    }

    /// One object; `None` where it is not there.
    pub async fn get(&self, version: &str, object: &ObjectRef) -> Result<Option<Value>, ClusterError> {
        let api_version = crate::domain::object::api_version(&object.group, version);
        let info = self.kind(&api_version, &object.kind).await?;
        let request = Self::request(&info, &object.namespace).get(&object.name, &GetParams::default());
        match self.send(request).await {
            Ok(live) => Ok(Some(live)),
            Err(ClusterError::Refused { code: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects of a kind in a namespace (empty: everywhere) that a label selector takes (empty: all). A kind that the
    /// cluster does not serve has none.
    pub async fn list(&self, api_version: &str, kind: &str, namespace: &str, labels: &str) -> Result<Vec<Value>, ClusterError> {
        match self.kind(api_version, kind).await {
            Ok(info) => self.list_of(&info, namespace, labels).await,
            Err(ClusterError::NoSuchKind { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// All objects of a resource such as `configmaps`, everywhere; none where the cluster does not serve it.
    pub async fn list_resource(&self, api_version: &str, resource: &str) -> Result<Vec<Value>, ClusterError> {
        match within(self.kinds.find_resource(&self.client, api_version, resource)).await {
            Ok(info) => self.list_of(&info, "", "").await,
            Err(ClusterError::NoSuchKind { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn list_of(&self, info: &KindInfo, namespace: &str, labels: &str) -> Result<Vec<Value>, ClusterError> {
        let mut parameters = ListParams::default().limit(PAGE);
        if !labels.is_empty() {
            parameters = parameters.labels(labels);
        }
        let mut found = Vec::new();
        loop {
            let mut page = self.send(Self::request(info, namespace).list(&parameters)).await?;
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                found.extend(items.into_iter().map(|item| with_type(item, info)));
            }
            let next = text(&page, "/metadata/continue");
            if next.is_empty() {
                return Ok(found);
            }
            parameters = parameters.continue_token(next);
        }
    }

    /// Server-side apply with strict field validation; gives the object as it is then.
    pub async fn apply(&self, manifest: &Value, write: Write<'_>) -> Result<Value, ClusterError> {
        let object = ObjectRef::of(manifest);
        let info = self.kind(text(manifest, "/apiVersion"), &object.kind).await?;
        let parameters = PatchParams {
            field_manager: Some(write.manager.to_owned()),
            force: write.force,
            dry_run: write.dry_run,
            field_validation: Some(ValidationDirective::Strict),
        };
        let request = Self::request(&info, &object.namespace).patch(&object.name, &parameters, &Patch::Apply(manifest));
        self.send(request).await
    }

    /// A merge patch of an object, as another field manager than apply's.
    pub async fn merge(&self, version: &str, object: &ObjectRef, patch: &Value, manager: &str) -> Result<Value, ClusterError> {
        let info = self.kind(&crate::domain::object::api_version(&object.group, version), &object.kind).await?;
        let parameters = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        self.send(Self::request(&info, &object.namespace).patch(&object.name, &parameters, &Patch::Merge(patch))).await
    }

    /// Begins to remove an object, if it is still the one with this UID; its dependents go before it. Gone is fine.
    pub async fn delete(&self, version: &str, object: &ObjectRef, uid: &str) -> Result<(), ClusterError> {
        let info = self.kind(&crate::domain::object::api_version(&object.group, version), &object.kind).await?;
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Foreground),
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        match self.send(Self::request(&info, &object.namespace).delete(&object.name, &parameters)).await {
            Ok(_) | Err(ClusterError::Refused { code: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Items of a list do not say of what kind they are; everything here goes by it.
fn with_type(mut item: Value, info: &KindInfo) -> Value {
    if let Some(fields) = item.as_object_mut() {
        fields.entry("apiVersion").or_insert_with(|| info.resource.api_version.clone().into());
        fields.entry("kind").or_insert_with(|| info.resource.kind.clone().into());
    }
    item
}

async fn within<T>(work: impl Future<Output = Result<T, ClusterError>>) -> Result<T, ClusterError> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ClusterError::Unreachable(format!("no answer within {} s", DEADLINE.as_secs()))),
    }
}
