//! `muster policy`: whether manifests pass, asked of the services or judged here, and who complies.

mod local;
mod test;

use super::{App, submit::prefixed};
use crate::{
    client::{Peer, Session},
    documents::{self, Document},
    error::{Exit, Failure, Result},
    kinds::{find, parent_name, resource_name, short, sized},
    output::Table,
};
use muster_proto::policy::v1::{
    ComplianceRow, EvaluateRequest, ListPolicyReportsRequest, PolicyReport, PolicyViolation, SummarizeComplianceRequest,
    verdict_service_client::VerdictServiceClient,
};
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  muster policy check -f job.yaml --policy policies/
  muster policy check -f manifests/ --cluster train-idc
  muster policy test policies/
  muster policy report --fleet fleet-edge";

const CHECK_EXAMPLES: &str = "\
With --policy nothing is asked of a service. Exit status 4 where something enforced is broken.

Examples:
  muster policy check -f job.yaml
  muster policy check -f manifests/ --cluster train-idc -n ml
  muster policy check -f job.yaml --policy require-gpu-limits.yaml
  kustomize build overlays/prod | muster policy check -f - --policy policies/ --enforce";

const REPORT_EXAMPLES: &str = "\
Examples:
  muster policy report
  muster policy report --fleet fleet-edge
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
    /// Say which rules manifests break, before they are sent anywhere
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    Test(test::Args),
    /// Say who complies: by fleet and policy, or object by object in one cluster
    #[command(after_help = REPORT_EXAMPLES)]
    Report {
        /// Only this fleet
        #[arg(long, value_name = "FLEET", conflicts_with = "cluster")]
        fleet: Option<String>,
        /// What breaks policy in this cluster, object by object
        #[arg(long, value_name = "CLUSTER")]
        cluster: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Check {
    /// Manifests of any kind: file, folder or `-`; may be repeated
    #[arg(short, long, required = true, value_name = "FILE|DIR|-")]
    file: Vec<String>,
    /// Judge by these policies here, without a service; may be repeated
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "cluster")]
    policy: Vec<String>,
    /// Every rule counts as enforced
    #[arg(long, requires = "policy")]
    enforce: bool,
    /// Judge by what holds in this cluster; may be repeated; any cluster otherwise
    #[arg(long, value_name = "CLUSTER")]
    cluster: Vec<String>,
}

/// A manifest that breaks a rule, wherever that was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// Which of the documents, from 0.
    document: usize,
    policy: String,
    rule: String,
    subject: String,
    path: String,
    message: String,
    enforced: bool,
}

/// What the policies say of a set of documents.
#[derive(Debug, Default)]
struct Verdict {
    findings: Vec<Finding>,
    warnings: Vec<String>,
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    if matches!(args.verb, Verb::Report { .. }) {
        app.printer.format.check_general()?;
    }
    match args.verb {
        Verb::Check(check) => {
            let set = documents::read(&check.file)?;
            if let Some(note) = documents::passed_over_note(&set) {
                eprintln!("{note}");
            }
            let verdict = match check.policy.is_empty() {
                true => ask(&set.documents, &check.cluster, app).await?,
                false => {
                    let namespace = app.global.namespace.as_deref().unwrap_or_default();
                    local::judge(&set.documents, &check.policy, namespace, check.enforce)?
                }
            };
            show(&verdict, &set.documents, app)
        }
        Verb::Test(args) => test::run(&args, app),
        Verb::Report { fleet, cluster: None } => summary(fleet, app).await,
        Verb::Report { fleet: _, cluster: Some(cluster) } => in_cluster(&cluster, app).await,
    }
}

async fn ask(documents: &[Document], clusters: &[String], app: &App) -> Result<Verdict> {
    let session = app.session()?;
    let request = EvaluateRequest {
        manifests: documents.iter().map(|document| document.manifest.text.clone()).collect(),
        clusters: clusters.iter().map(|cluster| prefixed("clusters/", cluster)).collect(),
        namespace: session.target.namespace.clone().unwrap_or_default(),
    };
    let answer = session
        .call(Peer::Policy, "Evaluate", |link| {
            let request = request.clone();
            async move { sized!(VerdictServiceClient, link).evaluate(request).await }
        })
        .await?;
    let finding = |violation: PolicyViolation| {
        let PolicyViolation { policy, rule, subject, path, message, enforced, manifest_index, not_evaluated_reason } = violation;
        let message = match not_evaluated_reason.is_empty() {
            true => message,
            false => format!("could not be evaluated: {not_evaluated_reason}"),
        };
        let document = usize::try_from(manifest_index).unwrap_or(usize::MAX);
        Finding { document, policy: short(&policy), rule, subject, path, message, enforced }
    };
    Ok(Verdict { findings: answer.violations.into_iter().map(finding).collect(), warnings: answer.warnings })
}

fn show(verdict: &Verdict, documents: &[Document], app: &App) -> Result<()> {
    let place =
        |finding: &Finding| documents.get(finding.document).map_or_else(String::new, |document| document.place().to_string());
    let refusing = verdict.findings.iter().filter(|finding| finding.enforced).count();
    if app.printer.is_for_people() {
        let mut table = Table::new(["EFFECT", "WHERE", "SUBJECT", "RULE", "PATH", "MESSAGE"]);
        for finding in &verdict.findings {
            let effect = if finding.enforced { "refused" } else { "reported" };
            let rule = format!("{}/{}", finding.policy, finding.rule);
            table.row([effect, &place(finding), &finding.subject, &rule, &finding.path, &finding.message]);
        }
        if !table.is_empty() {
            app.printer.table(&table)?;
        }
        for warning in &verdict.warnings {
            eprintln!("note: {warning}");
        }
        if refusing == 0 {
            match documents.len() {
                1 => eprintln!("1 manifest passes"),
                count => eprintln!("{count} manifests pass"),
            }
        }
    } else {
        let findings: Vec<_> = verdict
            .findings
            .iter()
            .map(|finding| {
                let Finding { document: _, policy, rule, subject, path, message, enforced } = finding;
                json!({
                    "where": place(finding), "policy": policy, "rule": rule, "subject": subject, "path": path,
                    "message": message, "enforced": enforced,
                })
            })
            .collect();
        app.printer.value(&json!({ "allowed": refusing == 0, "violations": findings, "warnings": verdict.warnings }))?;
    }
    match refusing {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Refused, "1 violation of an enforced rule")),
        count => Err(Failure::new(Exit::Refused, format!("{count} violations of enforced rules"))),
    }
}

async fn summary(fleet: Option<String>, app: &App) -> Result<()> {
    let session = app.session()?;
    let fleet = fleet.map(|fleet| resource_name(find("fleets")?.spec(), &fleet, "")).transpose()?.unwrap_or_default();
    let answer = session
        .call(Peer::Policy, "SummarizeCompliance", |link| {
            let request = SummarizeComplianceRequest { fleet: fleet.clone() };
            async move { sized!(VerdictServiceClient, link).summarize_compliance(request).await }
        })
        .await?;
    if !app.printer.is_for_people() {
        return app.printer.value(&serde_json::to_value(&answer).expect("every message has proto3 JSON"));
    }
    let mut table = Table::new(["FLEET", "POLICY", "COMPLIANT", "VIOLATING", "SILENT", "VIOLATIONS"]);
    for row in answer.rows {
        let ComplianceRow { fleet, policy, compliant_clusters, violating_clusters, silent_clusters, violations } = row;
        let counts = [compliant_clusters, violating_clusters, silent_clusters, violations].map(|count| count.to_string());
        table.row([short(&fleet), short(&policy)].into_iter().chain(counts));
    }
    if table.is_empty() {
        eprintln!("no fleet policy binds anything");
        return Ok(());
    }
    app.printer.table(&table)
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
