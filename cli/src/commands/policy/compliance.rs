//! `muster policy report` and `muster policy history`: who complies, counted, and how that changed.

use super::super::App;
use crate::{
    client::Peer,
    error::{Failure, Result},
    kinds::{find, resource_name, short, sized},
    output::Table,
};
use clap::ValueEnum;
use jiff::Timestamp;
use muster_proto::policy::v1::{
    CompliancePoint, ComplianceRow, ListComplianceHistoryRequest, SummarizeComplianceRequest,
    summarize_compliance_request::GroupBy, verdict_service_client::VerdictServiceClient,
};
use serde_json::json;
use std::time::Duration;

/// Rows asked for at once, and pages at most: a report of a million workloads is cut and said to be.
const PAGE_SIZE: i32 = 1_000;
const MAX_PAGES: usize = 100;

/// Which rows.
#[derive(Debug, clap::Args)]
pub struct Rows {
    /// Only this fleet
    #[arg(long, value_name = "FLEET")]
    fleet: Option<String>,
    /// Only this policy
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// What a row is about
    #[arg(long, value_enum, default_value = "policy")]
    by: By,
}

/// What a row is about, in a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// All of its policies.
    Fleet,
    /// A policy.
    Policy,
    /// A policy and cluster.
    Cluster,
    /// A policy and namespace with violations.
    Namespace,
    /// A policy, cluster and workload with violations.
    Workload,
}

const HISTORY_EXAMPLES: &str = "\
Examples:
  muster policy history fleet-edge
  muster policy history fleet-edge --policy require-gpu-limits --since 7d";

/// Which history.
#[derive(Debug, clap::Args)]
#[command(after_help = HISTORY_EXAMPLES)]
pub struct History {
    /// The fleet
    #[arg(value_name = "FLEET")]
    fleet: String,
    /// Only this policy
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// Only since so long ago; otherwise all that is kept
    #[arg(long, value_parser = crate::args::parse_duration, value_name = "DURATION")]
    since: Option<Duration>,
}

fn named(kind: &str, name: Option<&str>) -> Result<String> {
    let full = name.map(|name| resource_name(find(kind)?.spec(), name, "")).transpose()?;
    Ok(full.unwrap_or_default())
}

fn warn_if_cut(page_token: &str, rows: usize) {
    if !page_token.is_empty() {
        eprintln!("note: there are more than the {rows} rows shown");
    }
}

/// Who complies.
pub async fn summary(args: &Rows, app: &App) -> Result<()> {
    let session = app.session()?;
    let by = match args.by {
        By::Fleet => GroupBy::Fleet,
        By::Policy => GroupBy::Policy,
        By::Cluster => GroupBy::Cluster,
        By::Namespace => GroupBy::Namespace,
        By::Workload => GroupBy::Workload,
    };
    let mut request = SummarizeComplianceRequest {
        fleet: named("fleets", args.fleet.as_deref())?,
        policy: named("policies", args.policy.as_deref())?,
        group_by: by.into(),
        page_size: PAGE_SIZE,
        page_token: String::new(),
    };
    let mut rows: Vec<ComplianceRow> = Vec::new();
    for _ in 0..MAX_PAGES {
        let page = session
            .call(Peer::Policy, "SummarizeCompliance", |link| {
                let request = request.clone();
                async move { sized!(VerdictServiceClient, link).summarize_compliance(request).await }
            })
            .await?;
        rows.extend(page.rows);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    warn_if_cut(&request.page_token, rows.len());
    if !app.printer.is_for_people() {
        return app.printer.value(&json!({ "rows": rows }));
    }
    if rows.is_empty() {
        match args.by {
            By::Fleet | By::Policy | By::Cluster => eprintln!("no fleet policy binds anything"),
            By::Namespace | By::Workload => eprintln!("nothing that was reported breaks a policy"),
        }
        return Ok(());
    }
    app.printer.table(&table(args.by, rows))
}

fn table(by: By, rows: Vec<ComplianceRow>) -> Table {
    let members = ["COMPLIANT", "VIOLATING", "SILENT"];
    let columns: Vec<&str> = match by {
        By::Fleet => [&["FLEET"][..], &members].concat(),
        By::Policy => [&["FLEET", "POLICY"][..], &members].concat(),
        By::Cluster => vec!["FLEET", "POLICY", "CLUSTER", "STANDING"],
        By::Namespace => vec!["FLEET", "POLICY", "NAMESPACE", "CLUSTERS"],
        By::Workload => vec!["FLEET", "POLICY", "CLUSTER", "NAMESPACE", "WORKLOAD"],
    };
    let mut table = Table::new(columns.into_iter().chain(["VIOLATIONS"]));
    for row in rows {
        let ComplianceRow { fleet, policy, cluster, namespace, workload, .. } = &row;
        let counts = [row.compliant_clusters, row.violating_clusters, row.silent_clusters].map(|count| count.to_string());
        let (fleet, policy, cluster) = (short(fleet), short(policy), short(cluster));
        let standing = match row.violating_clusters + 2 * row.silent_clusters {
            0 => "complies",
            1 => "violates",
            _ => "silent",
        };
        let cells = match by {
            By::Fleet => [vec![fleet], counts.to_vec()].concat(),
            By::Policy => [vec![fleet, policy], counts.to_vec()].concat(),
            By::Cluster => vec![fleet, policy, cluster, standing.to_owned()],
            By::Namespace => vec![fleet, policy, namespace.clone(), counts[1].clone()],
            By::Workload => vec![fleet, policy, cluster, namespace.clone(), workload.clone()],
        };
        table.row(cells.into_iter().chain([row.violations.to_string()]));
    }
    table
}

/// How the violations in a fleet came and went.
pub async fn history(args: &History, app: &App) -> Result<()> {
    let session = app.session()?;
    let since = args.since.map(|since| {
        Timestamp::now().checked_sub(since).map_err(|_| Failure::usage("--since: reaches before the beginning of time"))
    });
    let wire = |time: Timestamp| muster_proto::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() };
    let mut request = ListComplianceHistoryRequest {
        fleet: named("fleets", Some(&args.fleet))?,
        policy: named("policies", args.policy.as_deref())?,
        start_time: since.transpose()?.map(wire),
        page_size: PAGE_SIZE,
        page_token: String::new(),
    };
    let mut points: Vec<CompliancePoint> = Vec::new();
    for _ in 0..MAX_PAGES {
        let page = session
            .call(Peer::Policy, "ListComplianceHistory", |link| {
                let request = request.clone();
                async move { sized!(VerdictServiceClient, link).list_compliance_history(request).await }
            })
            .await?;
        points.extend(page.points);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    warn_if_cut(&request.page_token, points.len());
    if !app.printer.is_for_people() {
        return app.printer.value(&json!({ "points": points }));
    }
    if points.is_empty() {
        eprintln!("nothing in {} broke a policy in that time", args.fleet);
        return Ok(());
    }
    let mut table = Table::new(["POLICY", "HOUR", "CLUSTERS", "VIOLATIONS"]);
    for CompliancePoint { policy, hour, violating_clusters, violations } in points {
        let hour = hour.and_then(|hour| Timestamp::new(hour.seconds, hour.nanos).ok());
        let hour = hour.map_or_else(String::new, |hour| hour.to_string());
        table.row([short(&policy), hour, violating_clusters.to_string(), violations.to_string()]);
    }
    app.printer.table(&table)
}
