//! What is wrong with an input is said with file, line and field.

use crate::trace::Trace;
use muster_scheduler_simulator::philly::{self, Window};
use muster_scheduler_simulator::{Terms, study};

fn complaint(trace: &Trace) -> String {
    trace.complaint(&trace.read().expect_err("a faulty trace"))
}

#[test]
fn a_missing_column_is_named() {
    let trace = Trace::raw("timestamp,duration,gpus,cluster\n2017-10-01 00:00:00,1.0,1,a\n");
    assert_eq!(complaint(&trace), "trace.csv:1: num_gpus: the column is missing; there are timestamp, duration, gpus, cluster");
}

#[test]
fn a_duration_that_is_none_is_named_with_its_line() {
    for (duration, why) in [("-1.0", "-1.0 s is negative"), ("soon", "\"soon\" is no number of seconds"), ("", "is empty")] {
        let trace = Trace::new(&format!("2017-10-01 00:00:00,1.0,1,0,a\n2017-10-01 00:00:00,{duration},1,0,a\n"));
        assert_eq!(complaint(&trace), format!("trace.csv:3: duration: {why}"));
    }
    for duration in ["NaN", "inf", "1e300"] {
        let trace = Trace::new(&format!("2017-10-01 00:00:00,{duration},1,0,a\n"));
        assert_eq!(complaint(&trace), format!("trace.csv:2: duration: {duration} s is longer than a century"));
    }
}

#[test]
fn a_number_of_gpus_and_a_time_that_are_none_are_named() {
    for gpus in ["0", "-1", "two", "1.5"] {
        let trace = Trace::new(&format!("2017-10-01 00:00:00,1.0,{gpus},0,a\n"));
        assert_eq!(complaint(&trace), format!("trace.csv:2: num_gpus: {gpus:?} is no number of GPUs from 1"));
    }
    let trace = Trace::new("yesterday,1.0,1,0,a\n");
    assert_eq!(complaint(&trace), "trace.csv:2: timestamp: \"yesterday\" is no time such as 2017-10-01 00:00:00");
}

#[test]
fn empty_files_and_lines_cut_short_are_faults() {
    assert_eq!(complaint(&Trace::raw("")), "trace.csv: is empty");
    assert_eq!(complaint(&Trace::new("")), "trace.csv: has no job in the window and the queues that were asked for");
    assert_eq!(complaint(&Trace::new("2017-10-01 00:00:00,1.0\n")), "trace.csv:2: has 2 fields, and the first line 5");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let trace = Trace::raw("");
    let fault = philly::read(&trace.path().with_file_name("none.csv"), None, Window::default()).unwrap_err();
    assert!(trace.complaint(&fault).starts_with("none.csv: No such file"), "{fault}");
}

#[test]
fn a_list_of_queues_has_its_own_faults() {
    let trace = Trace::new("2017-10-01 00:00:00,1.0,1,0,a\n");
    for (text, why) in [
        ("", "queues.csv: is empty"),
        ("vc,node num\n", "queues.csv: names no queue"),
        ("name\na\n", "queues.csv:1: vc: the column is missing; there are name"),
        ("vc,node num\na,1\na,2\n", "queues.csv:3: vc: \"a\" is there twice"),
    ] {
        let queues = trace.with_queues(text);
        let fault = philly::read(&trace.path(), Some(&queues), Window::default()).unwrap_err();
        assert_eq!(trace.complaint(&fault), why);
    }
}

#[test]
fn a_gang_larger_than_the_cluster_is_named_by_its_line() {
    let trace = Trace::of_jobs(&[(0, 60, 1, "a"), (1, 60, 17, "a")]);
    let terms = Terms { load: 0.7, nodes: Some(2) };
    let fault = study(&trace.read().unwrap(), terms, &mut |_| {}).unwrap_err();
    assert_eq!(trace.complaint(&fault), "trace.csv:3: num_gpus: a gang of 17 GPUs is larger than the cluster of 2 × 8");
}

#[test]
fn a_load_that_is_none_is_refused() {
    let trace = Trace::of_jobs(&[(0, 60, 1, "a")]);
    for load in [0.0, -1.0, 1.1, f64::NAN] {
        let fault = study(&trace.read().unwrap(), Terms { load, nodes: None }, &mut |_| {}).unwrap_err();
        assert_eq!(fault.field, "load");
    }
}
