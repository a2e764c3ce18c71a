//! Clusters: declare, change, cordon, drain, leave, delete.

use super::{App, membership::Rules};
use crate::{
    convert,
    domain::{Cluster, Schedulability, State},
    events,
    store::cluster,
};
use async_trait::async_trait;
use muster_core::{name::ClusterName, page::Page, selector::Labels};
use muster_kit::{
    Caller, Error, Result, Role, Tx, audit, db,
    error::parse_name,
    event::{self, Cursor, Event},
    once,
    watch::{self, Change, WatchStream, Watched},
};
use muster_proto::registry::v1 as wire;

/// Labels of a cluster, at most.
const MAX_LABELS: usize = 64;

/// One cluster.
pub async fn get(app: &App, caller: &Caller, request: wire::GetClusterRequest) -> Result<wire::Cluster> {
    caller.require(Role::Viewer)?;
    let name: ClusterName = parse_name("name", &request.name)?;
    convert::cluster(&cluster::get(&app.pool, name.cluster()).await?)
}

/// A page of clusters.
pub async fn list(app: &App, caller: &Caller, request: wire::ListClustersRequest) -> Result<wire::ListClustersResponse> {
    caller.require(Role::Viewer)?;
    let page = Page::parse(request.page_size, &request.page_token, "")?;
    let mut rows = cluster::page(&app.pool, &page.after, page.limit()).await?;
    let next_page_token = page.finish(&mut rows, |cluster| cluster.name.clone());
    let clusters = rows.iter().map(convert::cluster).collect::<Result<_>>()?;
    Ok(wire::ListClustersResponse { clusters, next_page_token })
}

fn check_labels(labels: &Labels) -> Result<()> {
    if labels.len() > MAX_LABELS {
        return Err(Error::invalid("cluster.labels", format!("more than {MAX_LABELS}")));
    }
    match labels.iter().find(|(key, value)| key.is_empty() || key.len() > 317 || value.len() > 63) {
        Some((key, _)) => Err(Error::invalid("cluster.labels", format!("{key:?} is not a legal label"))),
        None => Ok(()),
    }
}

/// Declares a cluster ahead of its enrolment.
pub async fn create(app: &App, caller: &Caller, request: wire::CreateClusterRequest) -> Result<wire::Cluster> {
    caller.require(Role::Admin)?;
    let name = ClusterName::new(&request.cluster_id).map_err(|error| Error::invalid("cluster_id", error.to_string()))?;
    let given = request.cluster.clone().unwrap_or_default();
    check_labels(&given.labels)?;
    once!(app.pool, caller, "CreateCluster", request.request_id, request, tx => {
        let declared = declare(tx, name.cluster(), &given.labels, &given.region, given.takes_jobs).await?;
        audit::record(tx, caller, "CreateCluster", &declared.resource()).await?;
        convert::cluster(&declared)
    })
}

/// Makes the row of a cluster that is not enrolled yet.
pub async fn declare(tx: &mut Tx, name: &str, labels: &Labels, region: &str, takes_jobs: bool) -> Result<Cluster> {
    cluster::insert(tx, name, labels, region, takes_jobs).await?;
    let mut declared = cluster::lock(tx, name).await?;
    if Rules::load(tx).await?.apply(&mut declared) {
        declared.version = cluster::update(tx, &declared).await?;
    }
    events::cluster(tx, "cluster.declared", &declared).await?;
    Ok(declared)
}

/// Changes labels, region, takes_jobs.
pub async fn update(app: &App, caller: &Caller, request: wire::UpdateClusterRequest) -> Result<wire::Cluster> {
    caller.require(Role::Admin)?;
    let given = request.cluster.clone().ok_or_else(|| Error::invalid("cluster", "is missing"))?;
    let mask = db::check_mask(request.update_mask.as_ref(), &["labels", "region", "takes_jobs"])?;
    check_labels(&given.labels)?;
    let name: ClusterName = parse_name("cluster.name", &given.name)?;
    change(app, caller, "UpdateCluster", &name, &given.etag, &request.request_id, &request, |cluster| {
        for field in &mask {
            match field.as_str() {
                "labels" => cluster.labels.clone_from(&given.labels),
                "region" => cluster.region.clone_from(&given.region),
                "takes_jobs" => cluster.takes_jobs = given.takes_jobs,
                other => return Err(Error::invalid("update_mask", format!("{other:?} cannot be changed"))),
            }
        }
        Ok("cluster.changed")
    })
    .await
}

/// Nothing new goes there.
pub async fn cordon(app: &App, caller: &Caller, request: wire::CordonClusterRequest) -> Result<wire::Cluster> {
    set_schedulability(app, caller, "CordonCluster", &request.name, &request.request_id, &request, Schedulability::Cordoned).await
}

/// New work goes there again.
pub async fn uncordon(app: &App, caller: &Caller, request: wire::UncordonClusterRequest) -> Result<wire::Cluster> {
    set_schedulability(app, caller, "UncordonCluster", &request.name, &request.request_id, &request, Schedulability::Open).await
}

/// Nothing new goes there, and what can be moved is moved away.
pub async fn drain(app: &App, caller: &Caller, request: wire::DrainClusterRequest) -> Result<wire::Cluster> {
    set_schedulability(app, caller, "DrainCluster", &request.name, &request.request_id, &request, Schedulability::Draining).await
}

async fn set_schedulability(
    app: &App,
    caller: &Caller,
    method: &'static str,
    name: &str,
    request_id: &str,
    request: &impl prost::Message,
    to: Schedulability,
) -> Result<wire::Cluster> {
    caller.require(Role::Admin)?;
    let name: ClusterName = parse_name("name", name)?;
    change(app, caller, method, &name, "", request_id, request, |cluster| {
        cluster.schedulability = to;
        Ok(match to {
            Schedulability::Open => "cluster.uncordoned",
            Schedulability::Cordoned => "cluster.cordoned",
            Schedulability::Draining => "cluster.draining",
        })
    })
    .await
}

/// The cluster leaves: at once if nobody enrolled it, else once its agent has been told.
pub async fn leave(app: &App, caller: &Caller, request: wire::LeaveClusterRequest) -> Result<wire::Cluster> {
    caller.require(Role::Admin)?;
    let name: ClusterName = parse_name("name", &request.name)?;
    let answer = once!(app.pool, caller, "LeaveCluster", request.request_id, request, tx => {
        let mut leaving = cluster::lock(tx, name.cluster()).await?;
        let kind = match leaving.state {
            State::NotEnrolled => {
                leaving.state = State::Left;
                "cluster.left"
            }
            State::Leaving | State::Left => return convert::cluster(&leaving),
            State::Joining | State::Live | State::Suspect | State::Lost => {
                leaving.state = State::Leaving;
                "cluster.leaving"
            }
        };
        leaving.reason = format!("{caller} asked for it");
        cluster::set_remove_workloads(tx, leaving.id, request.remove_workloads).await?;
        leaving.version = cluster::update(tx, &leaving).await?;
        audit::record(tx, caller, "LeaveCluster", &leaving.resource()).await?;
        events::cluster(tx, kind, &leaving).await?;
        convert::cluster(&leaving)
    })?;
    app.send.now();
    Ok(answer)
}

/// The agent has left, on our word or on its own side's: its identity is void from now on.
pub async fn left(tx: &mut Tx, name: &str) -> Result<()> {
    let mut gone = cluster::lock(tx, name).await?;
    match gone.state {
        State::NotEnrolled | State::Left => return Ok(()),
        State::Joining | State::Live | State::Suspect | State::Lost | State::Leaving => {}
    }
    gone.state = State::Left;
    gone.uid = None;
    gone.reason = "its agent has left".to_owned();
    cluster::set_fingerprint(tx, gone.id, None, cluster::Keep::Nothing).await?;
    gone.version = cluster::update(tx, &gone).await?;
    events::cluster(tx, "cluster.left", &gone).await
}

/// Removes the row.
pub async fn delete(app: &App, caller: &Caller, request: wire::DeleteClusterRequest) -> Result<wire::DeleteClusterResponse> {
    caller.require(Role::Admin)?;
    let name: ClusterName = parse_name("name", &request.name)?;
    once!(app.pool, caller, "DeleteCluster", request.request_id, request, tx => {
        let mut gone = cluster::lock(tx, name.cluster()).await?;
        db::check_etag(&request.etag, gone.version)?;
        match gone.state {
            State::NotEnrolled | State::Left => {}
            State::Joining | State::Live | State::Suspect | State::Lost | State::Leaving => {
                let message = format!("{} is enrolled; LeaveCluster comes first", gone.resource());
                return Err(Error::precondition("STILL_ENROLLED", message));
            }
        }
        cluster::delete(tx, gone.id).await?;
        gone.version += 1;
        audit::record(tx, caller, "DeleteCluster", &gone.resource()).await?;
        events::cluster_deleted(tx, &gone).await?;
        Ok(wire::DeleteClusterResponse {})
    })
}

/// A change of one cluster by a person: lock, change, recompute, store, say so.
#[expect(clippy::too_many_arguments, reason = "the parts of a mutation, each named once by its caller")]
async fn change(
    app: &App,
    caller: &Caller,
    method: &'static str,
    name: &ClusterName,
    etag: &str,
    request_id: &str,
    request: &impl prost::Message,
    apply: impl FnOnce(&mut Cluster) -> Result<&'static str>,
) -> Result<wire::Cluster> {
    once!(app.pool, caller, method, request_id, *request, tx => {
        let mut changed = cluster::lock(tx, name.cluster()).await?;
        db::check_etag(etag, changed.version)?;
        let before = changed.clone();
        let kind = apply(&mut changed)?;
        Rules::load(tx).await?.apply(&mut changed);
        if changed != before {
            changed.version = cluster::update(tx, &changed).await?;
            audit::record(tx, caller, method, &changed.resource()).await?;
            events::cluster(tx, kind, &changed).await?;
        }
        convert::cluster(&changed)
    })
}

/// Clusters as they change.
pub async fn watch(
    app: &App,
    caller: &Caller,
    request: wire::WatchClustersRequest,
) -> Result<WatchStream<wire::WatchClustersResponse>> {
    caller.require(Role::Viewer)?;
    watch::start(&app.tail, &request.resume_token, Clusters(app.clone())).await
}

struct Clusters(App);

#[async_trait]
impl Watched for Clusters {
    type Resource = wire::Cluster;
    type Response = wire::WatchClustersResponse;

    async fn list(&self) -> Result<(Vec<wire::Cluster>, Cursor)> {
        let mut tx = db::begin(&self.0.pool).await?;
        sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
        let cursor = event::end(&mut tx).await?;
        let clusters = cluster::every(&mut tx).await?;
        Ok((clusters.iter().map(convert::cluster).collect::<Result<_>>()?, cursor))
    }

    fn wants(&self, event: &Event) -> bool {
        event.topic == events::TOPIC && !event.aggregate.contains("/items/")
    }

    fn respond(&self, change: Change, cluster: Option<wire::Cluster>, resume_token: String) -> wire::WatchClustersResponse {
        use wire::watch_clusters_response::Type;
        let kind = match change {
            Change::Existing => Type::Existing,
            Change::Changed => Type::Changed,
            Change::Deleted => Type::Deleted,
            Change::Synced => Type::Synced,
        };
        wire::WatchClustersResponse { r#type: kind.into(), cluster, resume_token }
    }
}
