//! What a scheduler without any delay would reach on a workload of Kueue's: whenever something comes or ends, whatever fits starts,
//! higher priorities first, then who came first; a queue may use what its cohort has, up to its own limit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::generator::Workload;

/// What it comes to.
pub struct Ideal {
    /// From the first job's coming to the last one's end.
    pub makespan_s: f64,
    /// From a job's coming to its start, by class.
    pub mean_wait_s: BTreeMap<String, f64>,
}

/// Plays it.
pub fn play(workload: &Workload) -> Ideal {
    let Workload { name: _, queues, jobs } = workload;
    let mut capacity: BTreeMap<usize, u64> = BTreeMap::new();
    for queue in queues {
        *capacity.entry(queue.cohort).or_default() += queue.nominal;
    }
    let mut used = vec![0; queues.len()];
    let mut waiting: BTreeMap<usize, BTreeSet<(Reverse<i32>, u128, usize)>> = BTreeMap::new();
    // (when, whether it comes, job): ends before comings of the same instant.
    let mut events: BinaryHeap<Reverse<(u128, bool, usize)>> =
        jobs.iter().enumerate().map(|(number, job)| Reverse((job.at.as_millis(), true, number))).collect();
    let mut waits: BTreeMap<String, (u128, u128)> = BTreeMap::new();
    let mut makespan = 0;
    while let Some(Reverse((now, comes, number))) = events.pop() {
        let job = &jobs[number];
        let cohort = queues[job.queue].cohort;
        let line = waiting.entry(cohort).or_default();
        if comes {
            line.insert((Reverse(job.priority), now, number));
        } else {
            used[job.queue] -= job.request;
            *capacity.entry(cohort).or_default() += job.request;
            makespan = now;
        }
        if events.peek().is_some_and(|Reverse((next, ..))| *next == now) {
            // All that happens in one instant is known before anything starts; the last of it looks at every cohort.
            continue;
        }
        for (cohort, line) in &mut waiting {
            let free = capacity.entry(*cohort).or_default();
            line.retain(|&(_, came, number)| {
                let job = &jobs[number];
                let queue = &queues[job.queue];
                if *free < job.request || used[job.queue] + job.request > queue.nominal + queue.borrowing_limit {
                    return true;
                }
                *free -= job.request;
                used[job.queue] += job.request;
                let (sum, count) = waits.entry(job.class.clone()).or_default();
                *sum += now - came;
                *count += 1;
                events.push(Reverse((now + job.runtime.as_millis(), false, number)));
                false
            });
        }
    }
    let mean = |(class, (sum, count)): (String, (u128, u128))| (class, sum as f64 / count as f64 / 1e3);
    Ideal { makespan_s: makespan as f64 / 1e3, mean_wait_s: waits.into_iter().map(mean).collect() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::service::generator::{Job, Queue};

    fn job(class: &str, queue: usize, at: u64, runtime: u64, priority: i32, request: u64) -> Job {
        let ms = Duration::from_millis;
        Job { class: class.to_owned(), queue, at: ms(at), runtime: ms(runtime), priority, request }
    }

    #[test]
    fn higher_priorities_go_first_and_a_queue_borrows_from_its_cohort_alone() {
        let queue = |cohort| Queue { cohort, nominal: 10, borrowing_limit: 10 };
        let jobs = vec![
            job("first", 0, 0, 1_000, 0, 20),
            job("low", 1, 100, 1_000, 0, 20),
            job("high", 1, 200, 500, 9, 20),
            job("other", 2, 200, 100, 0, 10),
        ];
        let workload = Workload { name: "test".to_owned(), queues: vec![queue(0), queue(0), queue(1)], jobs };
        let ideal = play(&workload);
        let expected = [("first", 0.0), ("high", 0.8), ("low", 1.4), ("other", 0.0)];
        assert_eq!(ideal.mean_wait_s, expected.map(|(class, wait)| (class.to_owned(), wait)).into());
        assert!((ideal.makespan_s - 2.5).abs() < 1e-9, "{}", ideal.makespan_s);
    }
}
