//! The scheduler: which run of a job counts.

use super::Scheduler;
use async_trait::async_trait;
use muster_kit::{
    Result,
    peer::{self, PeerChannel},
};
use muster_proto::scheduler::v1::{GetJobRequest, job_service_client::JobServiceClient};
use std::time::Duration;

/// The scheduler over the wire.
pub struct RemoteScheduler(JobServiceClient<PeerChannel>);

impl RemoteScheduler {
    /// A client over a channel.
    pub fn new(channel: PeerChannel) -> Self {
        Self(JobServiceClient::new(channel))
    }
}

#[async_trait]
impl Scheduler for RemoteScheduler {
    async fn current_epoch(&self, job: &str) -> Result<Option<u64>> {
        let request = peer::request(GetJobRequest { name: job.to_owned() }, Duration::from_secs(3));
        match self.0.clone().get_job(request).await {
            Ok(job) => Ok(Some(job.into_inner().run_epoch)),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(peer::failed("scheduler", status)),
        }
    }
}
