//! Manifests asked of the policy service: in one request, or in as many of one stream as they need.
//!
//! Namespaces among the manifests tell what is known of the others' labels, so that every request holds them; what is said
//! of them themselves is taken from the first.

use super::{Finding, Verdict};
use crate::{
    client::{Peer, Session},
    documents::Document,
    error::{Exit, Failure, Result},
    kinds::{short, sized},
};
use futures::stream;
use muster_proto::policy::v1::{
    EvaluateRequest, EvaluateResponse, PolicyViolation, evaluate_stream_response::Answer,
    verdict_service_client::VerdictServiceClient,
};
use std::collections::BTreeSet;

/// Documents of one request; the service takes so many.
const MAX_DOCUMENTS: usize = 2_000;
/// Bytes of one request; the service takes so many.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What one request holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Which of the documents.
    pub documents: Vec<usize>,
    /// How many of them, from the first, are only there for what they tell of the others.
    pub surroundings: usize,
}

/// As few requests as hold the documents.
pub fn parts(documents: &[Document]) -> Vec<Part> {
    let is_namespace = |document: &Document| document.manifest.kind() == "Namespace";
    let sizes: Vec<(usize, bool)> =
        documents.iter().map(|document| (document.manifest.text.len(), is_namespace(document))).collect();
    cut(&sizes, MAX_DOCUMENTS, MAX_BYTES)
}

/// Documents are told by their size and by whether they belong to the surroundings of the others.
fn cut(documents: &[(usize, bool)], most: usize, bytes: usize) -> Vec<Part> {
    let of = |wanted: bool| (0..documents.len()).filter(move |index| documents[*index].1 == wanted);
    let size = |indices: &[usize]| indices.iter().map(|index| documents[*index].0).sum::<usize>();
    let surroundings: Vec<usize> = of(true).collect();
    let mut parts = vec![Part { documents: surroundings.clone(), surroundings: 0 }];
    for index in of(false) {
        let part = parts.last().expect("starts with one");
        let is_full = part.documents.len() == most || size(&part.documents) + documents[index].0 > bytes;
        // A document that fits beside nothing goes alone, for the service to refuse by its field.
        if is_full && part.documents.len() > surroundings.len() {
            parts.push(Part { documents: surroundings.clone(), surroundings: surroundings.len() });
        }
        parts.last_mut().expect("starts with one").documents.push(index);
    }
    parts
}

/// The answers to requests, by one stream.
pub async fn one_after_the_other(session: &Session, requests: Vec<EvaluateRequest>) -> Result<Vec<EvaluateResponse>> {
    let mut opened = session
        .open(Peer::Policy, "EvaluateStream", |link| async move {
            sized!(VerdictServiceClient, link).evaluate_stream(stream::iter(requests)).await
        })
        .await?;
    let mut answers = Vec::new();
    while let Some(answer) = opened.stream.message().await.map_err(|status| session.failure(Peer::Policy, &status))? {
        match answer.answer {
            Some(Answer::Verdict(verdict)) => answers.push(verdict),
            Some(Answer::Refusal(refusal)) => {
                return Err(Failure::new(Exit::Invalid, format!("{}: {}", refusal.field, refusal.description)));
            }
            None => return Err(Failure::new(Exit::Failure, "the policy service answers in a way this version does not know")),
        }
    }
    Ok(answers)
}

/// One verdict of the answers to all parts.
pub fn put_together(parts: &[Part], answers: Vec<EvaluateResponse>) -> Verdict {
    let mut warnings = BTreeSet::new();
    let mut findings = Vec::new();
    for (part, answer) in parts.iter().zip(answers) {
        warnings.extend(answer.warnings);
        let told = answer.violations.into_iter().filter_map(|violation| {
            let at = usize::try_from(violation.manifest_index).unwrap_or(usize::MAX);
            (at >= part.surroundings).then(|| finding(violation, part.documents.get(at).copied().unwrap_or(usize::MAX)))
        });
        findings.extend(told);
    }
    // As in one answer: what refuses first.
    findings.sort_by_key(|finding: &Finding| !finding.enforced);
    Verdict { findings, warnings: warnings.into_iter().collect() }
}

fn finding(violation: PolicyViolation, document: usize) -> Finding {
    let PolicyViolation { policy, rule, subject, path, message, enforced, manifest_index: _, not_evaluated_reason } = violation;
    let message = match not_evaluated_reason.is_empty() {
        true => message,
        false => format!("could not be evaluated: {not_evaluated_reason}"),
    };
    Finding { document, policy: short(&policy), rule, subject, path, message, enforced }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_holds_the_namespaces_and_no_more_than_the_service_takes() {
        let documents = [(10, false), (5, true), (10, false), (10, false), (99, false)];
        let part = |documents: &[usize], surroundings| Part { documents: documents.to_vec(), surroundings };
        assert_eq!(cut(&documents, 3, 25), [part(&[1, 0, 2], 0), part(&[1, 3], 1), part(&[1, 4], 1)]);
        assert_eq!(cut(&documents, 9, 1_000), [part(&[1, 0, 2, 3, 4], 0)]);
        assert_eq!(cut(&[], 9, 1_000), [part(&[], 0)]);
    }

    #[test]
    fn what_is_said_of_a_namespace_counts_once_and_what_refuses_comes_first() {
        let violation = |manifest_index, enforced| PolicyViolation { manifest_index, enforced, ..Default::default() };
        let answer = |violations| EvaluateResponse { violations, warnings: vec!["same".to_owned()], ..Default::default() };
        let parts = cut(&[(1, true), (1, false), (1, false)], 2, 100);
        let verdict = put_together(
            &parts,
            vec![answer(vec![violation(0, false), violation(1, false)]), answer(vec![violation(0, false), violation(1, true)])],
        );
        let found: Vec<_> = verdict.findings.iter().map(|finding| (finding.document, finding.enforced)).collect();
        assert_eq!((found, verdict.warnings), (vec![(2, true), (0, false), (1, false)], vec!["same".to_owned()]));
    }
}
