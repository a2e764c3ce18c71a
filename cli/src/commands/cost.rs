//! `muster cost`: GPU-hours, money, energy and emissions by queue, job, model or cluster.

use super::App;
use crate::{
    client::Peer,
    error::{Failure, Result},
    kinds::{short, sized},
    output::{Table, human},
};
use clap::ValueEnum;
use jiff::Timestamp;
use muster_proto::scheduler::v1::{
    CostRow, ReportCostRequest, Usage, queue_service_client::QueueServiceClient, report_cost_request::GroupBy,
};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};

const EXAMPLES: &str = "\
Examples:
  muster cost
  muster cost --by model --since 7d
  muster cost --by cluster --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z -o json";

/// Report what was used and what it cost
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What a row is about
    #[arg(long, value_enum, default_value = "queue")]
    by: By,
    /// Only what was used since so long ago
    #[arg(long, value_parser = crate::args::parse_duration, value_name = "DURATION", conflicts_with = "from")]
    since: Option<Duration>,
    /// Start of the window (RFC 3339); from the beginning otherwise
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// End of the window (RFC 3339); now otherwise
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
}

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// A row a queue.
    Queue,
    /// A row a job.
    Job,
    /// A row a model.
    Model,
    /// A row a cluster.
    Cluster,
}

/// Rows asked for at once, and pages at most: a report of a million jobs is cut and said to be.
const PAGE_SIZE: i32 = 1_000;
const MAX_PAGES: usize = 100;

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let session = app.session()?;
    let group_by = match args.by {
        By::Queue => GroupBy::Queue,
        By::Job => GroupBy::Job,
        By::Model => GroupBy::Model,
        By::Cluster => GroupBy::Cluster,
    };
    let since = args.since.map(|since| {
        Timestamp::now().checked_sub(since).map_err(|_| Failure::usage("--since: reaches before the beginning of time"))
    });
    let start = since.transpose()?.or(args.from);
    let wire = |time: Timestamp| muster_proto::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() };
    let mut request = ReportCostRequest {
        group_by: group_by.into(),
        start_time: start.map(wire),
        end_time: args.to.map(wire),
        page_size: PAGE_SIZE,
        page_token: String::new(),
    };
    let mut rows: Vec<CostRow> = Vec::new();
    for page in 1.. {
        let answer = session
            .call(Peer::Scheduler, "ReportCost", |link| {
                let request = request.clone();
                async move { sized!(QueueServiceClient, link).report_cost(request).await }
            })
            .await?;
        rows.extend(answer.rows);
        request.page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
        if page >= MAX_PAGES {
            eprintln!("note: there are more than {} rows; the rest is not shown", rows.len());
            break;
        }
    }
    if app.printer.is_for_people() {
        return app.printer.table(&table(args.by, &rows));
    }
    if app.printer.format == crate::output::Format::Name {
        return crate::output::format::text(&rows.iter().map(|row| format!("{}\n", row.key)).collect::<String>());
    }
    app.printer.value(&json!({ "rows": rows }))
}

/// The rows and one sum a currency. Energy and emissions are shown where something is known of them, and what of the cost is for moving
/// datasets where some were moved.
fn table(by: By, rows: &[CostRow]) -> Table {
    let title = match by {
        By::Queue => "QUEUE",
        By::Job => "JOB",
        By::Model => "MODEL",
        By::Cluster => "CLUSTER",
    };
    let energy = rows.iter().filter_map(|row| row.usage.as_ref()).any(|usage| usage.energy_kwh > 0.0);
    let moved = rows.iter().filter_map(|row| row.usage.as_ref()).any(|usage| usage.egress_micros > 0);
    let titles = [title, "RUNS", "GPU-HOURS", "COST"].into_iter();
    let titles = titles.chain(moved.then_some("EGRESS")).chain(energy.then_some(["ENERGY", "EMISSIONS"]).into_iter().flatten());
    let mut table = Table::new(titles);
    let cells = |name: String, runs: u64, usage: Option<&Usage>| -> Vec<String> {
        let (gpu_hours, cost) = human::usage(usage);
        let egress = usage.map(|usage| human::money(usage.egress_micros, &usage.currency)).filter(|_| moved);
        let known = human::energy(usage).into_iter().take(if energy { 2 } else { 0 });
        [name, runs.to_string(), gpu_hours, cost]
            .into_iter()
            .chain(moved.then(|| egress.unwrap_or_default()))
            .chain(known)
            .collect()
    };
    let mut sums: BTreeMap<&str, (u64, Usage)> = BTreeMap::new();
    for CostRow { key, usage, runs } in rows {
        let name = if key.is_empty() { "(none)".to_owned() } else { short(key) };
        table.row(cells(name, u64::from(*runs), usage.as_ref()));
        if let Some(usage) = usage {
            let (all_runs, sum) = sums.entry(&usage.currency).or_default();
            *all_runs += u64::from(*runs);
            sum.currency.clone_from(&usage.currency);
            sum.gpu_seconds += usage.gpu_seconds;
            sum.cost_micros = sum.cost_micros.saturating_add(usage.cost_micros);
            sum.egress_micros = sum.egress_micros.saturating_add(usage.egress_micros);
            sum.energy_kwh += usage.energy_kwh;
            sum.emission_grams += usage.emission_grams;
        }
    }
    for (runs, sum) in sums.into_values() {
        table.row(cells("total".to_owned(), runs, Some(&sum)));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table::Titles;

    #[test]
    fn a_report_sums_up_a_currency_at_a_time() {
        let row = |key: &str, gpu_seconds: f64, cost_micros: i64, currency: &str| CostRow {
            key: key.to_owned(),
            usage: Some(Usage { gpu_seconds, cost_micros, currency: currency.to_owned(), ..Usage::default() }),
            runs: 1,
        };
        let rows =
            [row("models/a", 3_600.0, 2_000_000, "EUR"), row("", 1_800.0, 1_000_000, "EUR"), row("models/b", 60.0, 5, "USD")];
        let expected = "\
MODEL    RUNS   GPU-HOURS   COST
a        1      1.00        2.00 EUR
(none)   1      0.50        1.00 EUR
b        1      0.02        0.0000 USD
total    2      1.50        3.00 EUR
total    1      0.02        0.0000 USD
";
        assert_eq!(table(By::Model, &rows).render(Titles::Shown, 0), expected);
    }

    #[test]
    fn energy_and_emissions_stand_beside_money_where_they_are_known() {
        let usage = Usage { gpu_seconds: 14_400.0, energy_kwh: 1.2, emission_grams: 480.0, ..Usage::default() };
        let known = CostRow { key: "queues/a".to_owned(), usage: Some(usage), runs: 1 };
        let rows = [known, CostRow { key: "queues/b".to_owned(), usage: Some(Usage::default()), runs: 1 }];
        let words = table(By::Queue, &rows).render(Titles::Shown, 0);
        let cells = |line: &str| -> Vec<String> {
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
        };
        let lines: Vec<Vec<String>> = words.lines().map(cells).collect();
        assert_eq!(lines[0], ["QUEUE", "RUNS", "GPU-HOURS", "COST", "ENERGY", "EMISSIONS"]);
        assert_eq!(lines[1].last().map(String::as_str), Some("0.48 kg CO2e"));
        assert!(lines[1].contains(&"1.20 kWh".to_owned()) && !lines[2].iter().any(|cell| cell.contains("kWh")), "{words}");
        assert!(lines[3].contains(&"total".to_owned()) && lines[3].contains(&"1.20 kWh".to_owned()), "{words}");
    }

    #[test]
    fn what_moving_datasets_cost_is_shown_where_some_were_moved() {
        let usage = |egress_micros| {
            Some(Usage {
                gpu_seconds: 3_600.0,
                cost_micros: 5_000_000,
                egress_micros,
                currency: "EUR".to_owned(),
                ..Usage::default()
            })
        };
        let rows = [
            CostRow { key: "queues/a".to_owned(), usage: usage(2_000_000), runs: 1 },
            CostRow { key: "queues/b".to_owned(), usage: usage(0), runs: 1 },
        ];
        let expected = "\
QUEUE   RUNS   GPU-HOURS   COST        EGRESS
a       1      1.00        5.00 EUR    2.00 EUR
b       1      1.00        5.00 EUR    0.00 EUR
total   2      2.00        10.00 EUR   2.00 EUR
";
        assert_eq!(table(By::Queue, &rows).render(Titles::Shown, 0), expected);
    }
}
