//! `muster policy`: whether manifests pass, asked of the services or judged here, and who complies.

mod check;
mod compliance;
mod ramp;
mod test;
mod translate;

use super::App;
use crate::{
    client::{Peer, Session},
    error::Result,
    kinds::{find, parent_name, short, sized},
    output::Table,
};
use muster_proto::policy::v1::{ListPolicyReportsRequest, PolicyReport, verdict_service_client::VerdictServiceClient};
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  muster policy check -f job.yaml -p policies/
  muster policy check -f manifests/ --cluster train-idc
  muster policy test policies/
  muster policy translate -f require-labels.yaml
  muster policy report --fleet fleet-edge
  muster policy history fleet-edge --since 7d
  muster policy ramp pause ml-baseline";

const REPORT_EXAMPLES: &str = "\
Examples:
  muster policy report
  muster policy report --fleet fleet-edge --by workload
  muster policy report --policy require-gpu-limits --by cluster
  muster policy report --cluster edge-01";

/// Check manifests against policies, and report who complies
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Check(check::Args),
    Test(test::Args),
    Translate(translate::Args),
    Ramp(ramp::Args),
    /// Say who complies: by fleet and policy or more finely, or object by object in one cluster
    #[command(after_help = REPORT_EXAMPLES)]
    Report {
        #[command(flatten)]
        rows: compliance::Rows,
        /// What breaks policy in this cluster, object by object
        #[arg(long, value_name = "CLUSTER", conflicts_with_all = ["fleet", "policy", "by"])]
        cluster: Option<String>,
    },
    /// Say how the violations in a fleet came and went, hour by hour
    History(compliance::History),
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    if matches!(args.verb, Verb::Report { .. } | Verb::History(_)) {
        app.printer.format.check_general()?;
    }
    match args.verb {
        Verb::Check(args) => check::run(&args, app).await,
        Verb::Test(args) => test::run(&args, app),
        Verb::Translate(args) => translate::run(&args, app),
        Verb::Ramp(args) => ramp::run(args, app).await,
        Verb::Report { rows, cluster: None } => compliance::summary(&rows, app).await,
        Verb::Report { rows: _, cluster: Some(cluster) } => in_cluster(&cluster, app).await,
        Verb::History(args) => compliance::history(&args, app).await,
    }
}

async fn in_cluster(cluster: &str, app: &App) -> Result<()> {
    let session = app.session()?;
    let spec = find("policyReports")?.spec();
    let parent = parent_name(spec, Some(cluster), None, "")?;
    let reports = reports(&session, &parent).await?;
    if !app.printer.is_for_people() {
        return app.printer.value(&json!({ "policyReports": reports }));
    }
    let mut table = Table::new(["POLICY", "RULE", "OBJECT", "PATH", "MESSAGE"]);
    for report in &reports {
        for violation in &report.violations {
            let namespaced = |name: &str| {
                if violation.namespace.is_empty() { name.to_owned() } else { format!("{}/{name}", violation.namespace) }
            };
            let object = format!("{} {}", violation.kind, namespaced(&violation.object));
            table.row([short(&report.policy), violation.rule.clone(), object, violation.path.clone(), violation.message.clone()]);
        }
    }
    match (reports.is_empty(), table.is_empty()) {
        (true, _) => eprintln!("{cluster} has not reported"),
        (false, true) => eprintln!("everything in {cluster} complies; policies: {}", reports.len()),
        (false, false) => app.printer.table(&table)?,
    }
    Ok(())
}

/// Pages at most: one report a policy, and nobody has so many.
const MAX_PAGES: usize = 100;

async fn reports(session: &Session, parent: &str) -> Result<Vec<PolicyReport>> {
    let (mut reports, mut page_token) = (Vec::new(), String::new());
    for _ in 0..MAX_PAGES {
        let page = session
            .call(Peer::Policy, "ListPolicyReports", |link| {
                let request =
                    ListPolicyReportsRequest { parent: parent.to_owned(), page_size: 500, page_token: page_token.clone() };
                async move { sized!(VerdictServiceClient, link).list_policy_reports(request).await }
            })
            .await?;
        reports.extend(page.policy_reports);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    Ok(reports)
}
