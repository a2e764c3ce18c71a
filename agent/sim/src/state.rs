//! Everything of one cluster that changes, behind one lock: objects, kinds, images, running pods, the audit log.

use crate::{
    audit::{self, Audit},
    config::ClusterConfig,
    controllers::kubelet::Runs,
    images::ImageRule,
    json,
    random::Random,
    resource::{ResourceType, Types},
    store::Store,
    traffic::Traffic,
};
use serde_json::Value;
use std::{path::Path, sync::Arc};

/// The changing part of a cluster.
#[derive(Debug)]
pub struct State {
    /// What the cluster was told.
    pub config: Arc<ClusterConfig>,
    /// Its objects.
    pub store: Store,
    /// Its kinds.
    pub types: Types,
    /// What images do.
    pub images: Arc<Vec<ImageRule>>,
    /// Its names and UIDs.
    pub random: Random,
    /// Its record of writes.
    pub audit: Audit,
    /// What runs on its nodes.
    pub runs: Runs,
    /// Its simulated requests and their metrics.
    pub traffic: Traffic,
    /// Pod and Service addresses given out so far.
    pub addresses: Addresses,
}

/// Addresses are given out in order and not taken back: 2^24 pods and 2^16 Services.
#[derive(Debug, Default)]
pub struct Addresses {
    pods: u32,
    services: u32,
}

impl Addresses {
    /// An address for a pod.
    pub fn pod(&mut self) -> String {
        self.pods += 1;
        format!("10.{}.{}.{}", (self.pods >> 16) & 0x7f, (self.pods >> 8) & 0xff, self.pods & 0xff)
    }

    /// An address for a Service.
    pub fn service(&mut self) -> String {
        self.services += 1;
        format!("10.200.{}.{}", (self.services >> 8) & 0xff, self.services & 0xff)
    }
}

/// Somebody who writes.
#[derive(Debug, Clone)]
pub struct Actor {
    /// The user agent in the audit log.
    pub user_agent: String,
    /// The owner of the fields it writes.
    pub manager: String,
}

impl Actor {
    /// A controller of the cluster itself.
    pub fn controller(name: &str, manager: &str) -> Self {
        Self { user_agent: name.to_owned(), manager: manager.to_owned() }
    }
}

/// An object's kind, version, place and subresource in a request.
#[derive(Debug, Clone)]
pub struct Target {
    /// The kind.
    pub kind: Arc<ResourceType>,
    /// The index of the version in the request.
    pub version: usize,
    /// "" for what is cluster scoped.
    pub namespace: String,
    /// "" on a collection.
    pub name: String,
    /// "" or `status`, `scale`, …
    pub subresource: String,
}

impl Target {
    /// `deployments.apps`.
    pub fn resource(&self) -> String {
        self.kind.qualified()
    }

    /// `apps/v1`.
    pub fn api_version(&self) -> String {
        self.kind.api_version(self.version)
    }

    /// The path of a request for it.
    pub fn path(&self) -> String {
        let root = if self.kind.group.is_empty() { "/api" } else { "/apis" };
        let mut path = format!("{root}/{}", self.api_version());
        if !self.namespace.is_empty() {
            path.push_str(&format!("/namespaces/{}", self.namespace));
        }
        path.push_str(&format!("/{}", self.kind.plural));
        for part in [&self.name, &self.subresource].into_iter().filter(|part| !part.is_empty()) {
            path.push_str(&format!("/{part}"));
        }
        path
    }
}

/// The time as objects carry it: whole seconds.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The time as the audit log carries it: milliseconds.
pub fn now_millis() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

impl State {
    /// An empty cluster; its audit log goes to `directory`.
    pub fn new(config: Arc<ClusterConfig>, images: Vec<ImageRule>, directory: Option<&Path>) -> std::io::Result<Self> {
        Ok(Self {
            store: Store::new(config.history_limit),
            types: Types::default(),
            images: Arc::new(images),
            random: Random::new(&config.name, config.seed),
            audit: Audit::open(&config.name, directory)?,
            runs: Runs::default(),
            traffic: Traffic::new(&config),
            addresses: Addresses::default(),
            config,
        })
    }

    /// The newest version of a kind that is always there.
    pub fn target(&self, resource: &str, namespace: &str, name: &str) -> Option<Target> {
        let kind = Arc::clone(self.types.get(resource)?);
        Some(Target { kind, version: 0, namespace: namespace.to_owned(), name: name.to_owned(), subresource: String::new() })
    }

    /// Writes a line into the audit log.
    pub fn record(&mut self, actor: &Actor, verb: &str, path: &str, target: &Target, dry_run: bool, outcome: Outcome<'_>) {
        let (code, removed, message, object) = match outcome {
            Outcome::Done { code, object } => (code, false, None, object.map(Arc::clone)),
            Outcome::Removed { object } => (200, true, None, object.map(Arc::clone)),
            Outcome::Refused { code, message } => (code, false, Some(message.to_owned()), None),
        };
        let name = object.as_deref().map_or(target.name.as_str(), json::name).to_owned();
        let entry = audit::Entry {
            seq: 0,
            time: now_millis(),
            user_agent: actor.user_agent.clone(),
            field_manager: actor.manager.clone(),
            verb: verb.to_owned(),
            path: path.to_owned(),
            resource: target.resource(),
            subresource: target.subresource.clone(),
            namespace: target.namespace.clone(),
            name,
            dry_run,
            code,
            removed,
            message,
            object,
        };
        self.audit.record(entry);
    }
}

/// What came of a write.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// The object stands as it is now.
    Done {
        /// 200, 201 or 202.
        code: u16,
        /// The object after the write.
        object: Option<&'a Arc<Value>>,
    },
    /// The object is gone.
    Removed {
        /// Its last state.
        object: Option<&'a Arc<Value>>,
    },
    /// Nothing was changed.
    Refused {
        /// The HTTP status.
        code: u16,
        /// Why.
        message: &'a str,
    },
}
