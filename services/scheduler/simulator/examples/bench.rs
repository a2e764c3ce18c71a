//! The engine's speed and, with the Philly trace, its figures, without the rest of the workspace: `cargo run --release -p
//! muster-scheduler-simulator --example bench -- [speed|scale [PART]|philly TRACE QUEUES [LOAD …]|equal-wait TRACE QUEUES
//! LOAD|overflow TRACE QUEUES [PERMILLE …]|plot TRACE QUEUES FOLDER|gavel THROUGHPUTS|openb NODES
//! PODS …]`. All times are processor times of one thread.

use std::path::Path;
use std::time::Duration;

use jiff::civil::date;
use muster_scheduler_simulator::figures::Figures;
use muster_scheduler_simulator::overflow::overflow;
use muster_scheduler_simulator::packing::{self, Packed, mean_and_sd};
use muster_scheduler_simulator::plot::plots;
use muster_scheduler_simulator::scale::{self, Scale, Starts};
use muster_scheduler_simulator::simulate::{Request, simulate};
use muster_scheduler_simulator::speed::{self, Right};
use muster_scheduler_simulator::{Fault, Workload, equal_wait, gavel, openb, philly, play, silo_easy, worst_off};
use nix::time::{ClockId, clock_gettime};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["speed"] => speed(),
        ["scale"] => at_scale(1),
        ["scale", part] => at_scale(part.parse()?),
        ["equal-wait", trace, queues, load] => at_equal_wait(Path::new(trace), Path::new(queues), load.parse()?),
        ["overflow", trace, queues, multiples @ ..] => at_overflow(Path::new(trace), Path::new(queues), multiples),
        ["plot", trace, queues, folder] => plot_into(Path::new(trace), Path::new(queues), Path::new(folder)),
        ["openb", nodes, pods @ ..] if !pods.is_empty() => on_openb(Path::new(nodes), pods),
        ["simulate", file] => {
            let request = Request { file: file.into(), ..Request::default() };
            print!("{}", simulate(&request, &mut |_| {})?.text);
            Ok(())
        }
        ["gavel", throughputs] => on_gavel(Path::new(throughputs)),
        ["philly", trace, queues, loads @ ..] => on_philly(Path::new(trace), Path::new(queues), loads),
        _ => Err("speed, scale [PART], philly TRACE QUEUES [LOAD …], equal-wait TRACE QUEUES LOAD, overflow TRACE QUEUES [PERMILLE …], plot TRACE QUEUES FOLDER, gavel THROUGHPUTS, or openb NODES PODS …".into()),
    }
}

/// Processor time of this thread: what else runs on the machine counts only as far as it shares caches and memory.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has this clock").into()
}

fn speed() -> Outcome {
    let fill = speed::fill(8_000, 1_000, &cpu_time)?;
    println!("P0  fill                        {:.0}/s", fill.per_second());
    for (nodes, waiting) in [(1_000, 10_000), (100_000, 1_000_000)] {
        let steady = speed::steady(waiting, nodes, 20_000, &cpu_time)?;
        println!(
            "P2  {nodes} nodes, {waiting} waiting  {:.2} µs, {:.1} operations",
            steady.micros_each(),
            steady.operations_each()
        );
    }
    println!("P2  behind 1,000,000 blocked    {:.2} µs", speed::behind_blocked(1_000_000, &cpu_time)?.micros_each());
    for (what, workers, gpus, right) in
        [("preempt, gang of 200", 200, 1, Right::Priority), ("reclaim 400 nodes × 8", 400, 8, Right::Share)]
    {
        let made = speed::make_room(1_000, workers, gpus, right, &cpu_time)?;
        println!("P5  {what:26}  {:.0} µs, {} runs end", made.took.as_secs_f64() * 1e6, made.decisions);
    }
    Ok(())
}

fn at_scale(part: u32) -> Outcome {
    let of =
        |starts| Scale { clusters: 1_000 / part, nodes_each: 100, queues: 1_000, waiting: 1_000_000 / u64::from(part), starts };
    for (what, starts) in [("nothing reclaimed", Starts::Never), ("runs started", Starts::AtOnce)] {
        let steady = scale::steady(of(starts), 200_000 / u64::from(part), &cpu_time)?;
        println!(
            "P1  {what:18}  filled {} in {:.1?}; {:.0} decisions/s, {:.1} operations each; an event takes p50 {:.1?}, p99 {:.1?}, p99.9 {:.1?}; {} interrupted; decisions {:016x}",
            steady.filled,
            steady.fill,
            steady.per_second(),
            steady.operations as f64 / steady.decisions as f64,
            steady.permille(500),
            steady.permille(990),
            steady.permille(999),
            steady.interrupted,
            steady.checksum
        );
    }
    println!("P6  restart                     {:.1?}", scale::restart(of(Starts::Never), &cpu_time)?);
    Ok(())
}

fn read(trace: &Path, queues: &Path) -> Result<Workload, Fault> {
    let window = philly::Window { from: Some(date(2017, 10, 1).at(0, 0, 0, 0)), to: Some(date(2017, 12, 1).at(0, 0, 0, 0)) };
    philly::read(trace, Some(queues), window)
}

fn at_equal_wait(trace: &Path, queues: &Path, load: f64) -> Outcome {
    let mut last = cpu_time();
    let equal = equal_wait(&read(trace, queues)?, load, &mut |tried| {
        let now = cpu_time();
        let waits = tried.wait_s.map_or_else(|| "longer".to_owned(), |wait_s| format!("{wait_s:.0} s"));
        eprintln!("    {} nodes: {waits}; {:.1?}", tried.nodes, now - last);
        last = now;
    })?;
    let fewer = 100.0 * (1.0 - equal.gpus as f64 / equal.silo_gpus as f64);
    println!(
        "load {load}: {} GPUs in silos wait {:.0} s, {} pooled {:.0} s: {fewer:.1} % fewer",
        equal.silo_gpus, equal.silo_wait_s, equal.gpus, equal.wait_s
    );
    Ok(())
}

/// The own nodes of the plays with a dear cluster beside them.
const OWN_NODES: u32 = 64;
/// Multiples of a job's expected work, in thousandths.
const PERMILLES: [u32; 13] = [0, 10, 50, 90, 150, 250, 500, 800, 910, 1_000, 2_000, 4_000, 16_000];

fn at_overflow(trace: &Path, queues: &Path, multiples: &[&str]) -> Outcome {
    let workload = read(trace, queues)?;
    let weights = workload.silos(0.7);
    let multiples = if multiples.is_empty() {
        PERMILLES.to_vec()
    } else {
        multiples.iter().map(|multiple| multiple.parse()).collect::<Result<_, _>>()?
    };
    println!("WAIT ÷ WORK    CLOUD      MOST AT A TIME  COMPLETION         P99 WAIT     LONGEST    INTERRUPTED");
    let no_wait = overflow(&workload, OWN_NODES, &weights, 0)?;
    for permille in multiples {
        let began = cpu_time();
        let point = if permille == 0 { no_wait } else { overflow(&workload, OWN_NODES, &weights, permille)? };
        println!(
            "{:>10.3}  {:>7.0} GPU-h  {:>6} GPUs  {:>7.0} s {:>+6.1} %  {:>8.0} s  {:>8.0} s  {:>8}   {:.1?}",
            f64::from(permille) / 1e3,
            point.dear_gpu_hours,
            point.most_dear_gpus,
            point.all.mean_completion_s,
            100.0 * (point.all.mean_completion_s / no_wait.all.mean_completion_s - 1.0),
            point.all.p99_wait_s,
            point.all.most_wait_s,
            point.preemptions,
            cpu_time() - began
        );
    }
    println!("To reach: 85,000 GPU-h at +4 % of no wait's mean completion, and 15,000 GPU-h at 14,600 s.");
    Ok(())
}

/// Orders of the pods of a list.
const SEEDS: std::ops::Range<u64> = 1..11;

fn on_openb(nodes: &Path, lists: &[&str]) -> Outcome {
    let nodes = openb::nodes(nodes)?;
    println!("PODS                            POLICY         AT 95 %          AT 100 %         AT 130 %     PODS/S");
    for list in lists {
        let pods = openb::pods(Path::new(list))?;
        let name = Path::new(list).file_stem().unwrap_or_default().to_string_lossy();
        let mut packed: [Vec<Packed>; 2] = [Vec::new(), Vec::new()];
        for seed in SEEDS {
            let drawn = packing::draw(&pods, &nodes, seed);
            packed[0].push(packing::best_fit(&nodes, &drawn, &cpu_time));
            packed[1].push(packing::muster(&nodes, &drawn, &cpu_time)?);
        }
        for (policy, packed) in ["best fit", "muster"].iter().zip(&packed) {
            let at = |place: usize| {
                let (mean, sd) = mean_and_sd(&packed.iter().map(|one| one.allocated[place]).collect::<Vec<_>>());
                format!("{mean:.2} ± {sd:.2}")
            };
            let (pods, took): (usize, f64) =
                packed.iter().fold((0, 0.0), |(pods, took), one| (pods + one.pods, took + one.took.as_secs_f64()));
            println!("{name:<30}  {policy:<10} {:>15}  {:>15}  {:>15}  {:>9.0}", at(0), at(1), at(2), pods as f64 / took);
        }
    }
    Ok(())
}

/// Three seeds of Gavel's continuous-single workload.
fn on_gavel(throughputs: &Path) -> Outcome {
    println!("SEED  POLICY                      COMPLETION  AGAINST 1ST   COST/JOB  AGAINST 1ST  INTERRUPTED");
    for seed in 1..4 {
        let began = cpu_time();
        let scenario = gavel::read(throughputs, gavel::Terms { seed, ..gavel::Terms::default() })?;
        let trial = scenario.trial(&mut |_| {})?;
        let first = &trial.rows[0];
        for row in &trial.rows {
            let against = |one: f64, other: f64| format!("{:.3} ×", one / other);
            let (cost, first_cost) = (row.cost_each.unwrap_or(0.0), first.cost_each.unwrap_or(0.0));
            println!(
                "{seed:>4}  {:<26}  {:>7.2} h  {:>11}  {cost:>9.2}  {:>11}  {:>11}",
                row.policy,
                row.all.mean_completion_s / 3600.0,
                against(row.all.mean_completion_s, first.all.mean_completion_s),
                against(cost, first_cost),
                row.preemptions
            );
        }
        println!("      {:.1?}", cpu_time() - began);
    }
    Ok(())
}

fn plot_into(trace: &Path, queues: &Path, folder: &Path) -> Outcome {
    let workload = read(trace, queues)?;
    let weights = workload.silos(0.7);
    let stage = play::Fleet { own: weights.iter().sum(), dear: None }.stage(&workload, &weights);
    let (_, timeline) = play::play_recorded(&workload, &stage, &mut |_| {})?;
    std::fs::create_dir_all(folder)?;
    for plot in plots(&workload, &stage, &timeline) {
        let path = folder.join(format!("{}.svg", plot.name));
        std::fs::write(&path, plot.svg())?;
        println!("{}", path.display());
    }
    Ok(())
}

fn on_philly(trace: &Path, queues: &Path, loads: &[&str]) -> Outcome {
    let workload = read(trace, queues)?;
    let loads = if loads.is_empty() { &["0.7", "0.9"][..] } else { loads };
    for load in loads {
        let silos = workload.silos(load.parse()?);
        let nodes = silos.iter().sum();
        let began = cpu_time();
        let outcome = play::play(&workload, nodes, &silos)?;
        let took = cpu_time() - began;
        let (all, large) = (Figures::of(&workload, &outcome, |_| true), Figures::of(&workload, &outcome, |job| job.gpus >= 16));
        println!(
            "load {load}, {nodes} nodes: completion {:.0} s, wait {:.0} s, of 99 of 100 no more than {:.0} s, longest {:.0} s; gangs ≥ 16: wait {:.0} s, longest {:.0} s; {} interrupted; {took:.2?}",
            all.mean_completion_s,
            all.mean_wait_s,
            all.p99_wait_s,
            all.most_wait_s,
            large.mean_wait_s,
            large.most_wait_s,
            outcome.preemptions
        );
        if let Some((queue, worse)) = worst_off(&workload, &outcome, &silo_easy(&workload, &silos)) {
            println!("    against EASY in its own silo {} fares worst: {:+.1} %", workload.queues[queue], worse * 100.0);
        }
    }
    Ok(())
}
