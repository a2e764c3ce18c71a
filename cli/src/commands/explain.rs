//! `muster explain`: why a job is where it is, cluster by cluster.

use super::{App, what_if::instant};
use crate::{
    client::{Peer, Session},
    error::{Failure, Result},
    kinds::{find, resource_name, short, sized},
    output::{Table, table::Titles},
};
use muster_proto::scheduler::v1::{
    CandidateModel, ExplainJobRequest, ForeseenStart, JobExplanation, JobSize, candidate_model::SpeedSource,
    job_service_client::JobServiceClient,
};

const EXAMPLES: &str = "\
Examples:
  muster explain resnet50-train -n ml
  muster explain ml/resnet50-train -o json | jq '.candidates[] | select(.fits | not)'";

/// Say why a job waits or runs where it does
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The job, as JOB, job/JOB or job JOB
    #[arg(required = true, num_args = 1..=2, value_name = "JOB")]
    job: Vec<String>,
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let session = app.session()?;
    let name = resource_name(find("jobs")?.spec(), &job_word(&args.job)?, session.target.namespace())?;
    let explanation = ask(&session, &name).await?;
    app.printer.either(|| words(&explanation), || serde_json::to_value(&explanation).expect("every message has proto3 JSON"))
}

/// The job's name among what was typed; the kind may stand before it.
pub fn job_word(typed: &[String]) -> Result<String> {
    match typed {
        [only] => match only.split_once('/') {
            Some((kind, name)) if find(kind).is_ok_and(|kind| kind.spec().plural == "jobs") => Ok(name.to_owned()),
            _ => Ok(only.clone()),
        },
        [kind, name] if find(kind)?.spec().plural == "jobs" => Ok(name.clone()),
        _ => Err(Failure::usage("only jobs are explained")),
    }
}

/// Asks the scheduler.
pub async fn ask(session: &Session, name: &str) -> Result<JobExplanation> {
    session
        .call(Peer::Scheduler, "ExplainJob", |link| {
            let request = ExplainJobRequest { name: name.to_owned() };
            async move { sized!(JobServiceClient, link).explain_job(request).await }
        })
        .await
}

/// The explanation for people.
pub fn words(explanation: &JobExplanation) -> String {
    let JobExplanation {
        job,
        summary,
        position,
        waiting_jobs,
        queue_limits,
        candidates,
        unblocked_by,
        expected_start,
        late_start,
        preference,
        queue_shares,
        size,
        not_larger_because,
        span,
    } = explanation;
    let mut text = format!("{}: {summary}\n", short(job));
    if *position > 0 {
        text.push_str(&format!("Place in its queue: {position} of {waiting_jobs}\n"));
    }
    if let Some(size) = size.as_ref() {
        text.push_str(&size_in_words(size, not_larger_because));
    }
    if !span.is_empty() {
        text.push_str(&format!("Over several clusters: {span}\n"));
    }
    let mut lines = |title: &str, lines: &[String]| {
        if !lines.is_empty() {
            text.push_str(&format!("{title}:\n"));
        }
        for line in lines {
            text.push_str(&format!("  - {line}\n"));
        }
    };
    lines("Shares", queue_shares);
    lines("Held by its queue", queue_limits);
    lines("Would be unblocked by", unblocked_by);
    if let Some(start) = expected_start {
        text.push_str(&expectation(start, late_start.as_ref()));
    }
    if !preference.is_empty() {
        text.push_str(&format!("{preference}\n"));
    }
    if !candidates.is_empty() {
        let is_known = |model: &CandidateModel| matches!(model.speed_source(), SpeedSource::Said | SpeedSource::Learned);
        // Where nothing is known of speeds there is nothing to show.
        let speeds = candidates.iter().flat_map(|candidate| &candidate.models).any(is_known);
        let titles = ["CLUSTER", "FITS", "TIER", "FLAVOR", "PER GPU-HOUR", "SPEED", "REASON"];
        let mut table = Table::new(titles.into_iter().filter(|title| speeds || *title != "SPEED"));
        for candidate in candidates {
            let price = candidate.micros_per_gpu_hour;
            let mut row = vec![
                short(&candidate.cluster),
                if candidate.fits { "yes" } else { "no" }.to_owned(),
                if candidate.tier > 0 { candidate.tier.to_string() } else { String::new() },
                candidate.flavor.clone(),
                if price > 0 { format!("{}.{:02}", price / 1_000_000, price % 1_000_000 / 10_000) } else { String::new() },
            ];
            row.extend(speeds.then(|| candidate.models.iter().map(speed).collect::<Vec<_>>().join(", ")));
            row.push(candidate.reason.clone());
            table.row(row);
        }
        text.push_str(&table.render(Titles::Shown, 0));
    }
    text
}

/// How large an elastic job is: `Size: 5 of 8 "worker" workers, at least 2; its cluster has no room for one worker more`.
fn size_in_words(size: &JobSize, not_larger_because: &str) -> String {
    let JobSize { group, least, full, workers, leaving: _ } = size;
    let why = if not_larger_because.is_empty() { String::new() } else { format!("; {not_larger_because}") };
    if *workers == 0 {
        return format!("Size: {least} to {full} {group:?} workers, as many as there is room for{why}\n");
    }
    format!("Size: {workers} of {full} {group:?} workers, at least {least}{why}\n")
}

/// How fast the job is on a model, and how that is known, as in `K80 0.25 (learned from 12)`.
fn speed(model: &CandidateModel) -> String {
    let known = match model.speed_source() {
        SpeedSource::Said => "said".to_owned(),
        SpeedSource::Learned => format!("learned from {}", model.learned_runs),
        SpeedSource::Assumed | SpeedSource::Unspecified => "assumed".to_owned(),
    };
    format!("{} {}.{:02} ({known})", model.flavor, model.speed_permille / 1_000, model.speed_permille % 1_000 / 10)
}

/// Where a start is foreseen.
pub fn places(start: &ForeseenStart) -> String {
    let all = std::iter::once(&start.cluster).chain(&start.further_clusters);
    all.map(|cluster| short(cluster)).collect::<Vec<_>>().join(", ")
}

/// When the job is expected to start, and how sure that is.
fn expectation(start: &ForeseenStart, late: Option<&ForeseenStart>) -> String {
    let late = late.map_or_else(|| "not within 30 days".to_owned(), |late| format!("at {}", instant(late)));
    let ForeseenStart { ends_before, ends_learned, .. } = start;
    format!(
        "Expected to start at {} on {}; {late} if runs last as long as nine of ten of their like do.\n  \
         {ends_before} runs end before; for {ends_learned} of them it is known how long their like lasts.\n",
        instant(start),
        places(start),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::scheduler::v1::CandidateCluster;

    #[test]
    fn a_job_may_be_typed_with_its_kind() {
        let typed = |words: &[&str]| job_word(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).ok();
        assert_eq!(typed(&["train"]).as_deref(), Some("train"));
        assert_eq!(typed(&["job/train"]).as_deref(), Some("train"));
        assert_eq!(typed(&["job", "ml/train"]).as_deref(), Some("ml/train"));
        assert_eq!(typed(&["ml/train"]).as_deref(), Some("ml/train"));
        assert_eq!(typed(&["queue", "train"]), None);
    }

    #[test]
    fn every_cluster_says_why_not() {
        let candidate = |cluster: &str, reason: &str| CandidateCluster {
            cluster: format!("clusters/{cluster}"),
            reason: reason.to_owned(),
            flavor: "V100".to_owned(),
            micros_per_gpu_hour: 1_200_000,
            tier: 1,
            ..CandidateCluster::default()
        };
        let explanation = JobExplanation {
            job: "namespaces/ml/jobs/a".to_owned(),
            summary: "waits for 8 GPUs".to_owned(),
            position: 2,
            waiting_jobs: 5,
            queue_limits: vec!["nvidia.com/gpu: 64 of 64".to_owned()],
            candidates: vec![candidate("idc", "4 GPUs are free"), candidate("cloud", "is cordoned")],
            unblocked_by: vec![],
            expected_start: Some(ForeseenStart {
                time: Some(muster_proto::Timestamp { seconds: 3_600, nanos: 0 }),
                cluster: "clusters/idc".to_owned(),
                ends_before: 3,
                ends_learned: 2,
                ..ForeseenStart::default()
            }),
            late_start: None,
            preference: String::new(),
            queue_shares: vec!["queue \"train\": 50.00 % of everything, weight 1".to_owned()],
            size: Some(JobSize { group: "worker".to_owned(), least: 2, full: 8, workers: 5, leaving: 0 }),
            not_larger_because: "its cluster has no room for one worker more".to_owned(),
            span: "region eu comes closest: room for 2 of 3 workers (2 on idc)".to_owned(),
        };
        let expected = "\
ml/a: waits for 8 GPUs
Place in its queue: 2 of 5
Size: 5 of 8 \"worker\" workers, at least 2; its cluster has no room for one worker more
Over several clusters: region eu comes closest: room for 2 of 3 workers (2 on idc)
Shares:
  - queue \"train\": 50.00 % of everything, weight 1
Held by its queue:
  - nvidia.com/gpu: 64 of 64
Expected to start at 1970-01-01T01:00:00Z on idc; not within 30 days if runs last as long as nine of ten of their like do.
  3 runs end before; for 2 of them it is known how long their like lasts.
CLUSTER   FITS   TIER   FLAVOR   PER GPU-HOUR   REASON
idc       no     1      V100     1.20           4 GPUs are free
cloud     no     1      V100     1.20           is cordoned
";
        assert_eq!(words(&explanation), expected);
    }

    #[test]
    fn how_fast_it_is_where_is_shown_if_that_is_known() {
        let model = |flavor: &str, speed_permille, source: SpeedSource, learned_runs| CandidateModel {
            flavor: flavor.to_owned(),
            speed_permille,
            speed_source: source.into(),
            learned_runs,
            ..CandidateModel::default()
        };
        let models = vec![model("K80", 250, SpeedSource::Learned, 12), model("V100", 1_000, SpeedSource::Assumed, 0)];
        let candidate = CandidateCluster { cluster: "clusters/idc".to_owned(), models, ..CandidateCluster::default() };
        let explanation = JobExplanation {
            job: "namespaces/ml/jobs/a".to_owned(),
            preference: "K80 on idc comes before V100 on idc: by name".to_owned(),
            candidates: vec![candidate],
            ..JobExplanation::default()
        };
        let shown = words(&explanation);
        assert!(shown.contains("K80 on idc comes before V100 on idc: by name\n"), "{shown}");
        assert!(shown.contains("SPEED"), "{shown}");
        assert!(shown.contains("K80 0.25 (learned from 12), V100 1.00 (assumed)"), "{shown}");
    }
}
