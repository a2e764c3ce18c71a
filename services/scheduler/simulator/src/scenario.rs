//! A workload with the clusters and queues it is played on, and what each policy makes of it.

use std::fmt::Write;
use std::ops::Range;

use serde_json::{Value, json};

use crate::baseline::{self, Backfill};
use crate::fault::Fault;
use crate::figures::{Figures, Outcome};
use crate::play::{Stage, play_recorded};
use crate::plot::{Plot, plots};
use crate::rounds::{self, Turn};
use crate::study::{self, refusal};
use crate::timeline::Timeline;
use crate::workload::{Job, Workload};

/// Queues listed one by one, at most.
const MOST_QUEUES: usize = 30;

/// The engine's row when it isn't told how fast jobs are on which model.
const BLIND: &str = "muster, blind to speeds";

/// Everything that is played.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Queues with jobs, and the jobs.
    pub workload: Workload,
    /// Clusters and all queues.
    pub stage: Stage,
    /// What each queue would have for itself; empty where nothing says so, and then silos are not played.
    pub silos: Vec<Part>,
    /// What queues share: one part, unless only some of them lend to each other.
    pub pools: Vec<Part>,
    /// The jobs that count, by place; all if it does not say.
    pub counted: Option<Range<usize>>,
    /// The seed by which GPUs of unequal models are dealt in rounds, if that is to be played beside it.
    pub dealt: Option<u64>,
    /// What a reader of the report has to know.
    pub notes: Vec<String>,
}

/// Nodes that some of the queues have to themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Indices into [`Workload::queues`].
    pub queues: Vec<usize>,
    /// The size of each node in the workload's unit.
    pub nodes: Vec<u32>,
}

/// How far the plays are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The policy that is played.
    pub policy: &'a str,
    /// Jobs that are done, and jobs there are; `None` where that isn't told.
    pub done: Option<(usize, usize)>,
}

/// A policy and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub policy: &'static str,
    /// Over the jobs that count.
    pub all: Figures,
    /// From the first submission to the last end.
    pub makespan_s: f64,
    /// Per shape, in the workload's order.
    pub shapes: Vec<Figures>,
    /// Mean completion per queue, in the workload's order.
    pub queues_s: Vec<f64>,
    /// Work ÷ what there was from the first submission to the last end.
    pub utilisation: f64,
    /// What a job that counts cost on the mean, in the currency of the prices; `None` where that isn't known.
    pub cost_each: Option<f64>,
    /// Gangs taken from their nodes before they were done.
    pub preemptions: u64,
}

/// A scenario under every policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The baselines, and Muster's engine last.
    pub rows: Vec<Row>,
    /// What the engine's play looked like.
    pub plots: Vec<Plot>,
}

impl Scenario {
    /// Plays it under every policy.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn trial(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Trial, Fault> {
        let mut rows = Vec::new();
        let baselines = [
            ("silo FIFO", &self.silos, Backfill::None),
            (study::SILO_EASY, &self.silos, Backfill::Easy),
            ("pool FIFO", &self.pools, Backfill::None),
            ("pool EASY, true durations", &self.pools, Backfill::Easy),
            ("pool greedy", &self.pools, Backfill::Greedy),
        ];
        for (policy, parts, backfill) in baselines.into_iter().filter(|(_, parts, _)| !parts.is_empty()) {
            progress(Progress { policy, done: None });
            rows.push(self.row(policy, &self.by_parts(parts, backfill), false));
        }
        if let Some(seed) = self.dealt {
            for turn in Turn::ALL {
                progress(Progress { policy: turn.policy(), done: None });
                rows.push(self.row(turn.policy(), &rounds::play(&self.workload, &self.stage, turn, seed), true));
            }
        }
        if self.workload.shapes.iter().any(|shape| !shape.gang.speeds.is_empty()) {
            let (outcome, _) = played(BLIND, &self.workload.blind(), &self.stage, progress)?;
            rows.push(self.row(BLIND, &outcome, self.stage.priced));
        }
        let (outcome, timeline) = played(study::MUSTER, &self.workload, &self.stage, progress)?;
        self.all_finished(&outcome)?;
        rows.push(self.row(study::MUSTER, &outcome, self.stage.priced));
        Ok(Trial { rows, plots: plots(&self.workload, &self.stage, &timeline) })
    }

    /// A job that never ran found no place, however empty the clusters were.
    fn all_finished(&self, outcome: &Outcome) -> Result<(), Fault> {
        let never = self.workload.jobs.iter().zip(&outcome.finished_ms).find(|(_, finished)| **finished < 0);
        let Some((job, _)) = never else { return Ok(()) };
        let class = &self.workload.shape(job).class;
        let why =
            format!("a gang of {class} never finds room: it is larger than the clusters of its queue, or than its capability");
        Err(Fault { file: self.workload.file.clone(), line: Some(job.line), field: String::new(), why })
    }

    /// The queues of each part on its nodes.
    fn by_parts(&self, parts: &[Part], backfill: Backfill) -> Outcome {
        let size = parts.iter().flat_map(|part| &part.nodes).map(|node| u64::from(*node)).sum();
        let mut all = Outcome::new(&self.workload, size);
        for part in parts {
            let of_part = |job: &Job| part.queues.contains(&job.queue);
            let jobs = self.workload.jobs.iter().filter(|job| of_part(job)).copied().collect();
            let own = baseline::play_on(&Workload { jobs, ..self.workload.clone() }, &part.nodes, backfill);
            let places = self.workload.jobs.iter().enumerate().filter(|(_, job)| of_part(job)).map(|(place, _)| place);
            for (place, finished) in places.zip(own.finished_ms) {
                all.finished_ms[place] = finished;
            }
        }
        all
    }

    fn row(&self, policy: &'static str, outcome: &Outcome, priced: bool) -> Row {
        let workload = &self.workload;
        let counted = self.counted.clone().unwrap_or(0..workload.jobs.len());
        let (first, last) = (counted.start, counted.end.min(workload.jobs.len()));
        let mut place = 0;
        let all = Figures::of(workload, outcome, |_| {
            place += 1;
            (first..last).contains(&(place - 1))
        });
        let began = workload.jobs.first().map_or(0, |job| job.submitted_ms);
        let ended = outcome.finished_ms.iter().copied().max().unwrap_or(began);
        let work: f64 = workload.jobs.iter().map(|job| job.duration_ms as f64 * f64::from(job.gpus)).sum();
        let cost: i64 = outcome.job_cost_micros[first..last].iter().sum();
        Row {
            policy,
            all,
            makespan_s: (ended - began) as f64 / 1e3,
            shapes: (0..workload.shapes.len()).map(|shape| Figures::of(workload, outcome, |job| job.shape == shape)).collect(),
            queues_s: (0..workload.queues.len())
                .map(|queue| Figures::of(workload, outcome, |job| job.queue == queue).mean_completion_s)
                .collect(),
            utilisation: work / ((ended - began).max(1) as f64 * outcome.gpus.max(1) as f64),
            cost_each: priced.then(|| cost as f64 / 1e6 / (last - first).max(1) as f64),
            preemptions: outcome.preemptions,
        }
    }

    /// The report for people.
    #[must_use]
    pub fn report(&self, trial: &Trial) -> String {
        let (workload, unit) = (&self.workload, self.workload.unit);
        let mut out = String::new();
        let size = self.stage.size(unit) as f64 / unit.per_one() as f64;
        let _ = writeln!(out, "{} jobs of {} queues on {size} {}\n", workload.jobs.len(), workload.queues.len(), unit.name());
        let _ = writeln!(
            out,
            "{:<26} {:>13} {:>12} {:>12} {:>12} {:>12} {:>8} {:>10} {:>9}",
            "POLICY", "MAKESPAN", "COMPLETION", "WAIT", "P99 WAIT", "MAX WAIT", "IN USE", "COST/JOB", "PREEMPTED"
        );
        for row in &trial.rows {
            let cost = row.cost_each.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.2}"));
            let _ = writeln!(
                out,
                "{:<26} {:>11.1} s {:>10.2} s {:>10.2} s {:>10.2} s {:>10.2} s {:>6.1} % {cost:>10} {:>9}",
                row.policy,
                row.makespan_s,
                row.all.mean_completion_s,
                row.all.mean_wait_s,
                row.all.p99_wait_s,
                row.all.most_wait_s,
                row.utilisation * 100.0,
                row.preemptions
            );
        }
        table(&mut out, "MEAN WAIT OF", &trial.rows, workload.shapes.len(), |shape, row| {
            (&workload.shapes[shape].class, row.map(|row| row.shapes[shape].mean_wait_s))
        });
        if workload.queues.len() <= MOST_QUEUES {
            table(&mut out, "MEAN COMPLETION OF", &trial.rows, workload.queues.len(), |queue, row| {
                (&workload.queues[queue], row.map(|row| row.queues_s[queue]))
            });
        }
        let _ = writeln!(
            out,
            "\nCompletion is from submission to end, waiting is completion − duration. EASY is told true durations; muster is not."
        );
        for note in &self.notes {
            let _ = writeln!(out, "{note}");
        }
        out
    }

    /// The report for programs.
    #[must_use]
    pub fn value(&self, trial: &Trial) -> Value {
        let figures = |figures: &Figures| figures.value();
        let rows = trial.rows.iter().map(|row| {
            let shapes = self.workload.shapes.iter().zip(&row.shapes);
            let shapes: serde_json::Map<String, Value> =
                shapes.map(|(shape, of_shape)| (shape.class.clone(), figures(of_shape))).collect();
            let queues = self.workload.queues.iter().cloned().zip(row.queues_s.iter().map(|mean| json!(mean)));
            json!({
                "policy": row.policy,
                "all": figures(&row.all),
                "makespanSeconds": row.makespan_s,
                "byClass": shapes,
                "meanCompletionSecondsByQueue": queues.collect::<serde_json::Map<String, Value>>(),
                "utilisation": row.utilisation,
                "costEach": row.cost_each,
                "preemptions": row.preemptions,
            })
        });
        json!({ "policies": rows.collect::<Vec<Value>>(), "notes": self.notes })
    }
}

/// The engine's play of a workload.
fn played(
    policy: &'static str,
    workload: &Workload,
    stage: &Stage,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(Outcome, Timeline), Fault> {
    let mut tell = |done| progress(Progress { policy, done: Some((done, workload.jobs.len())) });
    tell(0);
    play_recorded(workload, stage, &mut tell).map_err(|refused| refusal(workload, refused))
}

/// A table with a line per item and a column per policy.
fn table<'a>(
    out: &mut String,
    title: &str,
    rows: &[Row],
    items: usize,
    of: impl Fn(usize, Option<&Row>) -> (&'a str, Option<f64>),
) {
    let names: Vec<&str> = (0..items).map(|item| of(item, None).0).collect();
    let width = names.iter().map(|name| name.chars().count()).chain([title.len()]).max().unwrap_or(0);
    let _ = write!(out, "\n{title:<width$}");
    for row in rows {
        let _ = write!(out, " {:>26}", row.policy);
    }
    out.push('\n');
    for (item, name) in names.iter().enumerate() {
        let _ = write!(out, "{name:<width$}");
        for row in rows {
            let _ = write!(out, " {:>24.2} s", of(item, Some(row)).1.unwrap_or(0.0));
        }
        out.push('\n');
    }
}
