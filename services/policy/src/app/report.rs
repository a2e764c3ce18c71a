//! What clusters reported, and who complies.

use super::App;
use crate::{
    domain::{ComplianceRow, PolicyReport, compliance},
    store,
};
use muster_core::{
    name::{FleetName, PolicyReportName},
    page::Page,
};
use muster_kit::{Caller, Error, Result, Role};

impl App {
    /// One report.
    pub async fn get_report(&self, caller: &Caller, name: &PolicyReportName) -> Result<PolicyReport> {
        caller.require(Role::Viewer)?;
        let report = store::report::get(self.pool(), name.cluster(), name.report()).await?;
        report.ok_or_else(|| Error::not_found(name))
    }

    /// A page of reports, of one cluster or of all, and the token of the next.
    pub async fn list_reports(&self, caller: &Caller, cluster: Option<&str>, page: &Page) -> Result<(Vec<PolicyReport>, String)> {
        caller.require(Role::Viewer)?;
        let after = page.after.split_once('/').unwrap_or_default();
        let mut rows = store::report::list(self.pool(), cluster, after, page.limit()).await?;
        let next = page.finish(&mut rows, |row| format!("{}/{}", row.cluster, row.policy));
        Ok((rows, next))
    }

    /// Who complies, by fleet and policy.
    pub async fn compliance(&self, caller: &Caller, fleet: Option<&FleetName>) -> Result<Vec<ComplianceRow>> {
        caller.require(Role::Viewer)?;
        let standings = store::report::standings(self.pool(), fleet.map(FleetName::fleet)).await?;
        Ok(compliance(&standings))
    }
}
