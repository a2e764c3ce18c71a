//! Queues, jobs and runs.

use super::{Resource, Spec, Standing, common_fields, kind, short};
use crate::output::human;
use jiff::Timestamp;
use muster_proto::scheduler::v1::{
    CreateJobRequest, DeleteJobRequest, DeleteQueueRequest, GetJobRequest, GetQueueRequest, GetRunRequest, Job, ListJobsRequest,
    ListQueuesRequest, ListRunsRequest, Queue, QueueBudget, Run, RunPart, UpdateQueueRequest, job::State,
    job_service_client::JobServiceClient, queue_budget::Unit, queue_service_client::QueueServiceClient,
};

kind! {
    /// Queues of jobs.
    Queues at Scheduler through QueueServiceClient,
    Spec {
        plural: "queues", singular: "queue", aliases: &["q"], pattern: "queues/{queue}", lists_all_parents: false,
        columns: &["NAME", "WEIGHT", "CAPABILITY", "ALLOCATED", "WAITING", "ACTIVE", "GPU-HOURS", "COST", "+BUDGETS", "AGE"],
    },
    get get_queue |name| GetQueueRequest { name },
    list list_queues |_, page_size, page_token| ListQueuesRequest { page_size, page_token } => queues,
    delete delete_queue |gone: super::Deletion| DeleteQueueRequest { name: gone.name, etag: gone.etag, request_id: gone.request_id },
    apply update_queue |change: super::Change| UpdateQueueRequest {
        queue: Some(Queue { name: change.name, manifest: change.manifest, ..Queue::default() }),
        update_mask: None, request_id: change.request_id, allow_missing: true, validate_only: change.validate_only,
    },
}

kind! {
    /// Training jobs. Applying one submits it; the same manifest again is the same job while it is unfinished.
    Jobs at Scheduler through JobServiceClient,
    Spec {
        plural: "jobs", singular: "job", aliases: &["j"], pattern: "namespaces/{namespace}/jobs/{job}", lists_all_parents: true,
        columns: &["NAMESPACE", "NAME", "QUEUE", "STATE", "CLUSTER", "FLAVOR", "GPUS", "+RUN", "GPU-HOURS", "COST", "AGE", "REASON"],
    },
    get get_job |name| GetJobRequest { name },
    list list_jobs |scope: super::Scope, page_size, page_token| ListJobsRequest {
        parent: scope.parent, page_size, page_token, queue: scope.queue, states: scope.states,
    } => jobs,
    delete delete_job |gone: super::Deletion| DeleteJobRequest { name: gone.name, etag: gone.etag, request_id: gone.request_id },
    apply create_job |change: super::Change| {
        let (parent, job_id) = match change.name.rsplit_once("/jobs/") {
            Some((parent, job)) => (parent.to_owned(), job.to_owned()),
            None => (String::new(), String::new()),
        };
        CreateJobRequest {
            parent, job_id, job: Some(Job { manifest: change.manifest, ..Job::default() }),
            request_id: change.request_id, validate_only: change.validate_only,
        }
    },
}

kind! {
    /// Attempts at jobs.
    Runs at Scheduler through JobServiceClient,
    Spec {
        plural: "runs", singular: "run", aliases: &[], pattern: "namespaces/{namespace}/jobs/{job}/runs/{epoch}", lists_all_parents: false,
        columns: &["NAMESPACE", "JOB", "RUN", "STATE", "CLUSTER", "FLAVOR", "GPUS", "PODS", "TOOK", "GPU-HOURS", "COST", "REASON"],
    },
    get get_run |name| GetRunRequest { name },
    list list_runs |scope: super::Scope, page_size, page_token| ListRunsRequest { parent: scope.parent, page_size, page_token } => runs,
}

impl Resource for Queue {
    common_fields!(name, etag, manifest);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let (gpu_hours, cost) = human::usage(self.usage.as_ref());
        vec![
            short(&self.name),
            self.weight.to_string(),
            human::amounts(&self.capability),
            human::amounts(&self.allocated),
            self.waiting_jobs.to_string(),
            self.active_jobs.to_string(),
            gpu_hours,
            cost,
            self.budgets.iter().map(budget).collect::<Vec<_>>().join(", "),
            human::age(self.create_time.as_ref(), now),
        ]
    }
}

/// What counts of what in which window, as in `4.00 of 12.00 GPU-h P30D`.
fn budget(budget: &QueueBudget) -> String {
    let (per_one, what) = match budget.unit() {
        Unit::GpuSeconds => (3_600.0, " GPU-h"),
        Unit::MoneyMicros | Unit::Unspecified => (1_000_000.0, ""),
    };
    let shown = |amount: i64| amount as f64 / per_one;
    let soft = if budget.hard { "" } else { " (soft)" };
    format!("{:.2} of {:.2}{what} {}{soft}", shown(budget.counted), shown(budget.amount), budget.window)
}

fn job_standing(state: State) -> Standing {
    match state {
        State::Unspecified | State::Queued | State::Placed | State::Lost | State::Suspended => Standing::Pending,
        State::Running => Standing::Working,
        State::Succeeded => Standing::Settled,
        State::Failed | State::Cancelled => Standing::Failed,
        State::Refused => Standing::Refused,
    }
}

/// The cluster, or all clusters of a run that is in several.
fn place(cluster: &str, parts: &[RunPart]) -> String {
    match parts {
        [] => short(cluster),
        parts => parts.iter().map(|part| short(&part.cluster)).collect::<Vec<_>>().join(", "),
    }
}

impl Resource for Job {
    common_fields!(name, etag, manifest);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let (gpu_hours, cost) = human::usage(self.usage.as_ref());
        let [namespace, name] = human::last_two(&self.name);
        vec![
            namespace,
            name,
            short(&self.queue),
            human::state(self.state().as_str_name()),
            place(&self.cluster, &self.parts),
            self.flavor.clone(),
            self.gpus.to_string(),
            self.run_epoch.to_string(),
            gpu_hours,
            cost,
            human::age(self.create_time.as_ref(), now),
            self.reason.clone(),
        ]
    }

    fn standing(&self) -> (Standing, String) {
        let cluster = place(&self.cluster, &self.parts);
        let place = if cluster.is_empty() { String::new() } else { format!(" on {cluster}") };
        let state = human::state(self.state().as_str_name());
        let reason = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        (job_standing(self.state()), format!("{state}{place}{reason}"))
    }
}

impl Resource for Run {
    common_fields!(name);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let (gpu_hours, cost) = human::usage(self.usage.as_ref());
        let ids: Vec<_> = self.name.split('/').skip(1).step_by(2).map(str::to_owned).collect();
        let [namespace, job, epoch] = <[String; 3]>::try_from(ids).unwrap_or_default();
        let pods: Vec<_> = self.pods.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
        vec![
            namespace,
            job,
            epoch,
            human::state(self.state().as_str_name()),
            place(&self.cluster, &self.parts),
            self.flavor.clone(),
            self.gpus.to_string(),
            pods.join(", "),
            human::span(self.start_time.as_ref(), self.finish_time.as_ref(), now),
            gpu_hours,
            cost,
            self.reason.clone(),
        ]
    }

    fn standing(&self) -> (Standing, String) {
        (job_standing(self.state()), human::saying(self.state().as_str_name(), &self.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{find, object};
    use super::*;
    use muster_proto::scheduler::v1::Usage;

    #[test]
    fn a_job_shows_where_it_runs_what_it_cost_and_why() {
        let job = Job {
            name: "namespaces/ml/jobs/train".to_owned(),
            queue: "queues/q".to_owned(),
            state: State::Running.into(),
            cluster: "clusters/train-idc".to_owned(),
            flavor: "V100".to_owned(),
            gpus: 4,
            usage: Some(Usage { gpu_seconds: 5_400.0, cost_micros: 1_500_000, currency: "EUR".to_owned(), ..Usage::default() }),
            reason: "4 of 4 pods run".to_owned(),
            ..Job::default()
        };
        let object = object(&job);
        assert_eq!(
            object.cells,
            ["ml", "train", "q", "Running", "train-idc", "V100", "4", "0", "1.50", "1.50 EUR", "", "4 of 4 pods run"]
        );
        assert_eq!(object.cells.len(), find("jobs").expect("known").spec().columns.len());
        assert_eq!((object.standing, object.saying.as_str()), (Standing::Working, "Running on train-idc: 4 of 4 pods run"));
        assert_eq!(object.json["usage"]["costMicros"], "1500000");
    }

    #[test]
    fn a_budget_says_what_counts_of_what() {
        let of = |unit: Unit, hard, counted, amount| QueueBudget {
            unit: unit.into(),
            hard,
            counted,
            amount,
            window: "month".to_owned(),
            ..QueueBudget::default()
        };
        assert_eq!(budget(&of(Unit::GpuSeconds, true, 5_400, 43_200)), "1.50 of 12.00 GPU-h month");
        assert_eq!(budget(&of(Unit::MoneyMicros, false, 0, 2_500_000)), "0.00 of 2.50 month (soft)");
    }

    #[test]
    fn a_run_and_a_queue_fill_their_tables() {
        assert_eq!(object(&Run::default()).cells.len(), find("runs").expect("known").spec().columns.len());
        assert_eq!(object(&Queue::default()).cells.len(), find("queues").expect("known").spec().columns.len());
    }
}
