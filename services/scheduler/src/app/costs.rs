//! Cost reports: GPU-hours and money by queue, job, model or cluster over a window.

use std::collections::BTreeMap;

use jiff::Timestamp;
use muster_core::page::Page;
use muster_kit::{Error, Result};

use super::App;
use crate::domain::cost::Usage;
use crate::store::cost::{self, Group};

/// One row of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct CostRow {
    /// The resource name; empty for jobs that named no model.
    pub key: String,
    /// What it used in the window.
    pub usage: Usage,
    /// Runs counted.
    pub runs: u32,
}

impl App {
    /// A page of a report, and the token of the next one.
    ///
    /// # Errors
    /// A window that ends before it begins.
    pub async fn report_cost(
        &self,
        group: Group,
        window: (Option<Timestamp>, Option<Timestamp>),
        page: &Page,
    ) -> Result<(Vec<CostRow>, String)> {
        if let (Some(start), Some(end)) = window
            && end < start
        {
            return Err(Error::invalid("end_time", "is before start_time"));
        }
        // The first key may be the empty one, so that an empty cursor can't stand for "from the beginning".
        let after = page.after.strip_prefix('=');
        let now = self.now();
        let mut rows: BTreeMap<String, CostRow> = BTreeMap::new();
        for row in cost::report(&self.pool, group, window, after, page.limit()).await? {
            let entry =
                rows.entry(row.key.clone()).or_insert_with(|| CostRow { key: row.key.clone(), usage: Usage::default(), runs: 0 });
            entry.usage.add(&row.charge, window, now);
            entry.runs += u32::from(row.is_first);
        }
        let mut rows: Vec<CostRow> = rows.into_values().collect();
        let next = page.finish(&mut rows, |row| format!("={}", row.key));
        Ok((rows, next))
    }
}
