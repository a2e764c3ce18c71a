//! A text as every file of a suite: `kyverno-test.yaml`, its policies, resources and values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster_policy_evaluator::conformance::run_suite;

fuzz_target!(|text: &str| {
    let _ = run_suite(text, Default::default(), &|_| Ok(text.to_owned()));
});
