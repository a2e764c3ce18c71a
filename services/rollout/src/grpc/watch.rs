//! Watches of applications and releases.

use super::convert;
use crate::app::view;
use crate::store::{application, release};
use async_trait::async_trait;
use muster_kit::{
    Result, Tx, db,
    event::{self, Cursor, Event},
    watch::{Change, Watched},
};
use muster_proto::rollout::v1::{
    Application, Release, WatchApplicationsResponse, WatchReleasesResponse, watch_applications_response::Type as ApplicationType,
    watch_releases_response::Type as ReleaseType,
};
use sqlx::PgPool;

/// Releases that a watch begins with, at most: the newest.
const MAX_EXISTING: i64 = 10_000;

/// A transaction that sees one moment, and the log's end at that moment.
async fn snapshot(pool: &PgPool) -> Result<(Tx, Cursor)> {
    let mut tx = db::begin(pool).await?;
    sqlx::query("set transaction isolation level repeatable read").execute(&mut *tx).await?;
    let cursor = event::end(&mut tx).await?;
    Ok((tx, cursor))
}

/// A watch of applications.
pub(super) struct Applications {
    pub pool: PgPool,
    /// Empty: every namespace.
    pub namespace: String,
    /// Empty: every application.
    pub name: String,
}

impl Applications {
    fn takes(&self, name: &str) -> bool {
        let namespace = name.split('/').nth(1).unwrap_or_default();
        (self.namespace.is_empty() || self.namespace == namespace) && (self.name.is_empty() || self.name == name)
    }
}

#[async_trait]
impl Watched for Applications {
    type Resource = Application;
    type Response = WatchApplicationsResponse;

    async fn list(&self) -> Result<(Vec<Application>, Cursor)> {
        let (mut tx, cursor) = snapshot(&self.pool).await?;
        let mut found = Vec::new();
        for row in application::all(&mut *tx).await? {
            if self.takes(&row.name.to_string()) {
                found.push(convert::application(&view::application(&mut tx, row).await?));
            }
        }
        Ok((found, cursor))
    }

    fn wants(&self, event: &Event) -> bool {
        event.kind.starts_with("application.") && self.takes(&event.aggregate)
    }

    fn respond(&self, change: Change, resource: Option<Application>, resume_token: String) -> WatchApplicationsResponse {
        let kind = match change {
            Change::Existing => ApplicationType::Existing,
            Change::Changed => ApplicationType::Changed,
            Change::Deleted => ApplicationType::Deleted,
            Change::Synced => ApplicationType::Synced,
        };
        WatchApplicationsResponse { r#type: kind.into(), application: resource, resume_token }
    }
}

/// A watch of releases.
pub(super) struct Releases {
    pub pool: PgPool,
    /// Empty: every namespace.
    pub namespace: String,
    /// Empty: every application.
    pub application: String,
    /// Empty: every release.
    pub name: String,
}

impl Releases {
    fn takes(&self, name: &str) -> bool {
        let mut parts = name.split('/');
        let (namespace, application) = (parts.nth(1).unwrap_or_default(), parts.nth(1).unwrap_or_default());
        (self.namespace.is_empty() || self.namespace == namespace)
            && (self.application.is_empty() || self.application == application)
            && (self.name.is_empty() || self.name == name)
    }
}

#[async_trait]
impl Watched for Releases {
    type Resource = Release;
    type Response = WatchReleasesResponse;

    async fn list(&self) -> Result<(Vec<Release>, Cursor)> {
        let (mut tx, cursor) = snapshot(&self.pool).await?;
        let mut found = Vec::new();
        for row in release::list(&mut *tx, &self.namespace, &self.application, None, MAX_EXISTING).await? {
            if self.takes(&row.name.to_string()) {
                found.push(convert::release(&view::release(&mut tx, row).await?));
            }
        }
        Ok((found, cursor))
    }

    fn wants(&self, event: &Event) -> bool {
        event.kind.starts_with("release.") && self.takes(&event.aggregate)
    }

    fn respond(&self, change: Change, resource: Option<Release>, resume_token: String) -> WatchReleasesResponse {
        let kind = match change {
            Change::Existing => ReleaseType::Existing,
            Change::Changed => ReleaseType::Changed,
            Change::Deleted => ReleaseType::Deleted,
            Change::Synced => ReleaseType::Synced,
        };
        WatchReleasesResponse { r#type: kind.into(), release: resource, resume_token }
    }
}
