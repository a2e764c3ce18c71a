//! `muster what-if`: what would start if capacity, prices or queues were others. Nothing is changed.

use std::path::PathBuf;
use std::time::Duration;

use super::{App, explain::places};
use crate::{
    client::Peer,
    error::{Failure, Result},
    kinds::{short, sized},
    output::{Table, table::Titles},
};
use muster_proto::scheduler::v1::{
    ForeseenStart, WhatIfChange, WhatIfNodes, WhatIfOutcome, WhatIfPrice, WhatIfRequest, WhatIfResponse,
    job_service_client::JobServiceClient, what_if_change::Change,
};

const EXAMPLES: &str = "\
Examples:
  muster what-if --nodes train-idc/V100=+4
  muster what-if --nodes train-cloud/A100=-2 --price train-idc/V100=0.90 --horizon 7d
  muster what-if -f queue-with-a-larger-capability.yaml -o json";

/// Say what would start if capacity, prices or queues were others
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// More or fewer nodes, as the first one of the flavor; may be repeated
    #[arg(long, value_name = "CLUSTER/FLAVOR=±N", value_parser = nodes)]
    nodes: Vec<WhatIfNodes>,
    /// Another price of a GPU-hour; may be repeated
    #[arg(long, value_name = "CLUSTER/FLAVOR=PRICE", value_parser = price)]
    price: Vec<WhatIfPrice>,
    /// A queue's manifest as it would be; may be repeated
    #[arg(long, short = 'f', value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// How far to look; at most 30d
    #[arg(long, value_parser = crate::args::parse_duration, value_name = "DURATION", default_value = "1d")]
    horizon: Duration,
    /// Jobs to list at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000))]
    max_jobs: i32,
}

/// `CLUSTER/FLAVOR=VALUE`.
fn place(text: &str) -> std::result::Result<(String, String, &str), String> {
    let parts = text.split_once('=').and_then(|(place, value)| Some((place.split_once('/')?, value)));
    let ((cluster, flavor), value) = parts.ok_or("must be of the form CLUSTER/FLAVOR=VALUE")?;
    Ok((format!("clusters/{cluster}"), flavor.to_owned(), value))
}

fn nodes(text: &str) -> std::result::Result<WhatIfNodes, String> {
    let (cluster, flavor, count) = place(text)?;
    let count = count.parse().map_err(|_| "the number of nodes must be whole, as in +4 or -2")?;
    Ok(WhatIfNodes { cluster, flavor, count })
}

fn price(text: &str) -> std::result::Result<WhatIfPrice, String> {
    let (cluster, flavor, price) = place(text)?;
    let price: f64 = price.parse().map_err(|_| "the price must be a number, as in 0.90")?;
    if !(0.0..=1e9).contains(&price) {
        return Err("the price must be from 0 to a thousand million".to_owned());
    }
    Ok(WhatIfPrice { cluster, flavor, micros_per_gpu_hour: (price * 1e6).round() as i64 })
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let Args { nodes, price, filename, horizon, max_jobs } = args;
    let mut changes: Vec<Change> = nodes.into_iter().map(Change::Nodes).chain(price.into_iter().map(Change::Price)).collect();
    for file in filename {
        let text = std::fs::read_to_string(&file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        changes.push(Change::QueueManifest(text));
    }
    if changes.is_empty() {
        return Err(Failure::usage("say what would be otherwise: --nodes, --price or -f"));
    }
    let request = WhatIfRequest {
        changes: changes.into_iter().map(|change| WhatIfChange { change: Some(change) }).collect(),
        horizon_seconds: i64::try_from(horizon.as_secs()).unwrap_or(i64::MAX),
        max_jobs,
    };
    let session = app.session()?;
    let answer = session
        .call(Peer::Scheduler, "WhatIf", |link| {
            let request = request.clone();
            async move { sized!(JobServiceClient, link).what_if(request).await }
        })
        .await?;
    app.printer.either(|| words(&answer), || serde_json::to_value(&answer).expect("every message has proto3 JSON"))
}

/// The answer for people.
fn words(answer: &WhatIfResponse) -> String {
    let WhatIfResponse { today, then, jobs, changed_jobs } = answer;
    let mut table = Table::new(["", "WAITING", "WOULD START", "MEAN WAIT", "COST", "INTERRUPTED"]);
    for (title, outcome) in [("today", today), ("then", then)] {
        let WhatIfOutcome { waiting, started, mean_wait_seconds, cost_micros, interrupted, until: _ } =
            outcome.unwrap_or_default();
        table.row([
            title.to_owned(),
            waiting.to_string(),
            started.to_string(),
            format!("{mean_wait_seconds:.0} s"),
            money(cost_micros),
            interrupted.to_string(),
        ]);
    }
    let mut text = table.render(Titles::Shown, 0);
    if jobs.is_empty() {
        text.push_str("No waiting job would start at another time or place.\n");
        return text;
    }
    let mut table = Table::new(["JOB", "QUEUE", "TODAY", "WHERE", "COST", "THEN", "WHERE", "COST"]);
    for job in jobs {
        let [at, place, cost] = cells(job.today.as_ref());
        let [then_at, then_place, then_cost] = cells(job.then.as_ref());
        table.row([short(&job.job), short(&job.queue), at, place, cost, then_at, then_place, then_cost]);
    }
    text.push('\n');
    text.push_str(&table.render(Titles::Shown, 0));
    let hidden = u64::from(*changed_jobs).saturating_sub(jobs.len() as u64);
    if hidden > 0 {
        text.push_str(&format!("{hidden} more; --max-jobs shows them\n"));
    }
    text
}

fn cells(start: Option<&ForeseenStart>) -> [String; 3] {
    match start {
        None => ["-".to_owned(), String::new(), String::new()],
        Some(start) => {
            [instant(start), format!("{} {}", places(start), start.flavor).trim().to_owned(), money(start.cost_micros)]
        }
    }
}

/// In the currency of the prices.
fn money(micros: i64) -> String {
    format!("{:.2}", micros as f64 / 1e6)
}

/// When a start is foreseen, to the second.
pub fn instant(start: &ForeseenStart) -> String {
    let at = start.time.as_ref().and_then(|at| jiff::Timestamp::from_second(at.seconds).ok());
    at.map_or_else(String::new, |at| format!("{at:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::scheduler::v1::WhatIfJob;

    #[test]
    fn changes_are_read_and_what_is_wrong_is_said() {
        let added = nodes("idc/V100=+4").expect("four more");
        assert_eq!((added.cluster.as_str(), added.flavor.as_str(), added.count), ("clusters/idc", "V100", 4));
        assert_eq!(nodes("idc/V100=-2").expect("two fewer").count, -2);
        assert_eq!(price("idc/V100=0.9").expect("a price").micros_per_gpu_hour, 900_000);
        for wrong in ["idc=4", "idc/V100", "idc/V100=many"] {
            assert!(nodes(wrong).is_err(), "{wrong}");
        }
        assert!(price("idc/V100=-1").is_err());
    }

    #[test]
    fn a_job_that_would_start_sooner_is_shown_beside_today() {
        let start = |seconds: i64, cost_micros: i64| ForeseenStart {
            time: Some(muster_proto::Timestamp { seconds, nanos: 0 }),
            cluster: "clusters/idc".to_owned(),
            flavor: "V100".to_owned(),
            cost_micros,
            ..ForeseenStart::default()
        };
        let job = WhatIfJob {
            job: "namespaces/ml/jobs/a".to_owned(),
            queue: "queues/train".to_owned(),
            today: None,
            then: Some(start(0, 8_000_000)),
        };
        let answer = WhatIfResponse { jobs: vec![job], changed_jobs: 3, ..WhatIfResponse::default() };
        let shown = words(&answer);
        assert!(shown.contains("ml/a   train   -                      1970-01-01T00:00:00Z   idc V100   8.00"), "{shown}");
        assert!(shown.ends_with("2 more; --max-jobs shows them\n"), "{shown}");
    }
}
