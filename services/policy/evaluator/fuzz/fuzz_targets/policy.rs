//! A text as a policy or an exception over objects of every kind. Seeds: `kyverno-test.yaml` suites' policies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster_core::manifest::parse_documents;
use muster_policy_evaluator::{Extent, Inventory, Policy, PolicyException, Request, speed};

fuzz_target!(|text: &str| {
    let Ok(documents) = parse_documents(text) else { return };
    let objects = speed::workloads(6);
    let inventory = Inventory::new(objects.clone(), Extent::Whole);
    let exceptions: Vec<PolicyException> =
        documents.iter().filter_map(|document| PolicyException::parse(&document.value).ok()).collect();
    for policy in documents.iter().filter_map(|document| Policy::parse(&document.value).ok()) {
        for object in &objects {
            let request = Request { inventory: Some(&inventory), exceptions: &exceptions, ..Request::create(object) };
            policy.evaluate(&request);
            policy.mutate(&request);
        }
    }
});
