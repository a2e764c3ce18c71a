//! What each policy makes of a few jobs whose right answer can be seen.

use crate::trace::Trace;
use muster_scheduler_simulator::baseline::{self, Backfill};
use muster_scheduler_simulator::overflow::overflow;
use muster_scheduler_simulator::philly::{self, Window};
use muster_scheduler_simulator::{Terms, Workload, play, study};

/// When each job ended, in seconds after the first submission.
fn ends(workload: &Workload, finished_ms: &[i64]) -> Vec<i64> {
    finished_ms.iter().map(|at| (at - workload.jobs[0].submitted_ms) / 1_000).collect()
}

fn under(trace: &Trace, nodes: u32, backfill: Backfill) -> Vec<i64> {
    let workload = trace.read().unwrap();
    ends(&workload, &baseline::play(&workload, nodes, backfill).finished_ms)
}

/// One node: 4 of 8 GPUs are taken for an hour, then a gang of 8 is blocked, behind it a short and a long job of 4.
fn blocked_gang() -> Trace {
    Trace::of_jobs(&[(0, 3600, 4, "a"), (1, 600, 8, "a"), (2, 600, 4, "a"), (3, 7200, 4, "a")])
}

#[test]
fn first_come_first_served_lets_nobody_pass() {
    assert_eq!(under(&blocked_gang(), 1, Backfill::None), [3600, 4200, 4800, 11_400]);
}

#[test]
fn easy_lets_pass_who_does_not_delay_the_oldest() {
    assert_eq!(under(&blocked_gang(), 1, Backfill::Easy), [3600, 4200, 720, 11_400]);
}

#[test]
fn greedy_backfill_lets_everybody_pass() {
    assert_eq!(under(&blocked_gang(), 1, Backfill::Greedy), [3600, 8520, 720, 7920]);
}

#[test]
fn easy_uses_what_the_reservation_leaves() {
    // Two nodes, half of each taken: the gang of 8 is due on the node that is free first, the long job of 4 goes on the other.
    let trace = Trace::of_jobs(&[(0, 1200, 5, "a"), (0, 3600, 4, "a"), (1, 600, 8, "a"), (2, 9000, 4, "a"), (3, 9000, 3, "a")]);
    assert_eq!(under(&trace, 2, Backfill::Easy), [1200, 3600, 1800, 9120, 10_800]);
}

#[test]
fn a_gang_of_twelve_takes_a_node_and_a_half() {
    let trace = Trace::of_jobs(&[(0, 60, 12, "a"), (0, 60, 4, "a"), (0, 60, 1, "a")]);
    assert_eq!(under(&trace, 2, Backfill::None), [60, 60, 120]);
    let workload = trace.read().unwrap();
    assert_eq!(ends(&workload, &play::play(&workload, 2, &[1]).unwrap().finished_ms), [60, 60, 120]);
}

#[test]
fn silos_hold_the_mean_demand_and_the_largest_gang() {
    let trace = Trace::of_jobs(&[(0, 3600, 8, "busy"), (30, 1800, 8, "busy"), (60, 3600, 8, "busy"), (0, 60, 24, "burst")]);
    // The hour's demand of "busy" is 20 GPUs.
    assert_eq!(trace.read().unwrap().silos(0.7), [4, 3]);
}

#[test]
fn only_the_window_and_the_queues_that_were_asked_for_count() {
    let trace = Trace::of_jobs(&[(0, 60, 1, "a"), (60, 60, 2, "b"), (60, 60, 3, "a"), (120, 60, 4, "a")]);
    let queues = trace.with_queues("vc,node num\nb,1\na,2\n");
    let at = |hour| Some(jiff::civil::date(2017, 10, 1).at(hour, 0, 0, 0));
    let workload = philly::read(&trace.path(), Some(&queues), Window { from: at(1), to: at(2) }).unwrap();
    let jobs: Vec<(&str, u32, u64)> =
        workload.jobs.iter().map(|job| (workload.queues[job.queue].as_str(), job.gpus, job.line)).collect();
    assert_eq!(jobs, [("b", 2, 3), ("a", 3, 4)]);
    assert_eq!(workload.window_ms, 3_600_000);
}

#[test]
fn pooled_queues_use_each_others_idle_nodes() {
    let trace = Trace::of_jobs(&[(0, 3600, 8, "a"), (0, 3600, 8, "a"), (0, 60, 8, "b"), (120, 60, 1, "b")]);
    let study = study(&trace.read().unwrap(), Terms { load: 1.0, nodes: Some(3) }, &mut |_| {}).unwrap();
    let muster = study.rows.iter().find(|row| row.policy == "muster").unwrap();
    assert_eq!(muster.all.mean_wait_s, 0.0);
}

#[test]
fn the_same_trace_gives_the_same_bytes() {
    let jobs: Vec<(u32, u32, u32, &str)> = (0..400)
        .map(|n| (n / 4, 60 + n * 7919 % 5000, [1, 1, 2, 8, 16][n as usize % 5], ["a", "b", "c"][n as usize % 3]))
        .collect();
    let trace = Trace::of_jobs(&jobs);
    let mut told = Vec::new();
    let report = || study(&trace.read().unwrap(), Terms { load: 0.7, nodes: None }, &mut |_| {}).unwrap().report();
    study(&trace.read().unwrap(), Terms { load: 0.7, nodes: None }, &mut |progress| told.push(progress.policy.to_owned()))
        .unwrap();
    assert_eq!(report(), report());
    told.dedup();
    assert_eq!(told.len(), 6, "each policy is announced: {told:?}");
}

#[test]
fn every_job_is_finished_and_none_before_its_time() {
    let jobs: Vec<(u32, u32, u32, &str)> = (0..300)
        .map(|n| (n / 3, 60 + n * 7919 % 9000, [1, 2, 4, 8, 12, 24][n as usize % 6], ["a", "b"][n as usize % 2]))
        .collect();
    let workload = Trace::of_jobs(&jobs).read().unwrap();
    for finished in [
        baseline::play(&workload, 3, Backfill::Easy).finished_ms,
        baseline::play(&workload, 3, Backfill::Greedy).finished_ms,
        play::play(&workload, 3, &[1, 2]).unwrap().finished_ms,
    ] {
        for (job, finished) in workload.jobs.iter().zip(finished) {
            assert!(finished >= job.submitted_ms + job.duration_ms, "line {}", job.line);
        }
    }
}

#[test]
fn a_short_job_takes_the_place_of_a_long_run_which_pays_its_restart() {
    // A node that a day's work holds; a minute's work comes when that has lasted for an hour.
    let trace = Trace::of_jobs(&[(0, 86_400, 8, "a"), (60, 60, 8, "b")]);
    let workload = trace.read().unwrap();
    let outcome = play::play(&workload, 1, &[1, 1]).unwrap();
    assert_eq!(ends(&workload, &outcome.finished_ms), [86_400 + 60 + 30, 3_660]);
    assert_eq!((outcome.preemptions, outcome.restart_gpu_ms), (1, 240_000));
}

#[test]
fn who_does_not_wait_goes_to_the_dear_cluster_and_who_waits_stays() {
    // One node, taken for an hour; a minute later comes a gang of 8 for half an hour.
    let workload = Trace::of_jobs(&[(0, 3600, 8, "a"), (1, 1800, 8, "a")]).read().unwrap();
    let at_once = overflow(&workload, 1, &[1], 0).unwrap();
    assert_eq!((at_once.dear_gpu_hours, at_once.most_dear_gpus, at_once.all.mean_wait_s), (4.0, 8, 0.0));
    // Where nothing is known an hour on each of 8 GPUs is assumed; a hundredth of that is 288 seconds.
    let a_little = overflow(&workload, 1, &[1], 10).unwrap();
    assert_eq!((a_little.dear_gpu_hours, a_little.all.most_wait_s), (4.0, 288.0));
    // Before as much as that is over the gang takes the place of the first, which goes on after it and pays half a minute.
    let waiting = overflow(&workload, 1, &[1], 1_000).unwrap();
    assert_eq!((waiting.dear_gpu_hours, waiting.all.most_wait_s, waiting.preemptions), (0.0, 1_830.0, 1));
}
