//! What the transport itself refuses, said as every other refusal is said: a code, a reason, the field at fault.
//!
//! The one thing to know: a message that is malformed or too large is refused before any handler sees it, and tonic says so
//! with INTERNAL or OUT_OF_RANGE and without details. Every error of ours has details, so a refusal without any is the
//! transport's own.

use crate::Error;
use http::{HeaderMap, Response};
use tonic::{Code, Status, body::Body};

/// What prost begins its account of a malformed message with; the message types and fields on the way to the fault follow.
const MALFORMED: &str = "failed to decode Protobuf message: ";

/// The same response, or for the transport's own refusals one that says what the caller can do.
pub fn explain(response: Response<Body>) -> Response<Body> {
    match explained(response.headers()) {
        Some(error) => Status::from(error).into_http(),
        None => response,
    }
}

fn explained(headers: &HeaderMap) -> Option<Error> {
    let status = Status::from_header_map(headers)?;
    if !status.details().is_empty() {
        return None;
    }
    match status.code() {
        Code::Internal => {
            let (field, description) = fault(status.message().strip_prefix(MALFORMED)?);
            Some(Error::malformed(field, description))
        }
        Code::OutOfRange => {
            let (found, limit) = sizes(status.message())?;
            let message = format!("the message has {found} bytes; at most {limit} are taken");
            Some(Error::exhausted("MESSAGE_TOO_LARGE", message).with("bytes", found).with("limit_bytes", limit))
        }
        _ => None,
    }
}

/// The path of the field at fault, as in `queue.manifest`, and what is wrong with it. `account` names the innermost first:
/// `Queue.manifest: CreateQueueRequest.queue: invalid varint`.
fn fault(account: &str) -> (String, &str) {
    let (mut path, mut rest) = (Vec::new(), account);
    while let Some((step, further)) = rest.split_once(": ")
        && let Some((message, field)) = step.split_once('.')
        && [message, field].iter().all(|word| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
    {
        path.push(field);
        rest = further;
    }
    path.reverse();
    // Where even the first field cannot be told, the whole request is at fault.
    (if path.is_empty() { "request".to_owned() } else { path.join(".") }, rest)
}

fn sizes(message: &str) -> Option<(u64, u64)> {
    let (_, sizes) = message.split_once("decoded message length too large: found ")?;
    let (found, limit) = sizes.split_once(" bytes, the limit is: ")?;
    Some((found.parse().ok()?, limit.strip_suffix(" bytes")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use muster_proto::scheduler::v1::CreateQueueRequest;
    use prost::Message;

    fn refused(status: Status) -> Option<Error> {
        explained(status.into_http::<Body>().headers())
    }

    #[test]
    fn a_malformed_message_is_the_callers_and_names_the_field() {
        // Field 2 (queue) holds field 3 (manifest) as a number instead of a text; then a text that is no UTF-8; then an
        // end in the middle of a tag.
        let cases: [(&[u8], &str); 3] = [
            (&[0x12, 0x02, 0x18, 0x01], "queue.manifest"),
            (&[0x12, 0x03, 0x1a, 0x01, 0xff], "queue.manifest"),
            (&[0xff], "request"),
        ];
        for (bytes, field) in cases {
            let fault = CreateQueueRequest::decode(bytes).expect_err("malformed");
            let error = refused(Status::internal(fault.to_string())).expect("the transport's refusal");
            assert_eq!((error.kind(), error.reason()), (Kind::Invalid, "MALFORMED_MESSAGE"));
            assert_eq!(error.violations()[0].field, field, "{error}");
        }
    }

    #[test]
    fn an_oversized_message_is_told_how_much_is_taken() {
        let said = "Error, decoded message length too large: found 5000000 bytes, the limit is: 4194304 bytes";
        let error = refused(Status::out_of_range(said)).expect("the transport's refusal");
        assert_eq!((error.kind(), error.reason()), (Kind::Exhausted, "MESSAGE_TOO_LARGE"));
        assert_eq!(error.to_string(), "the message has 5000000 bytes; at most 4194304 are taken");
    }

    #[test]
    fn our_own_refusals_stay_as_they_are() {
        let ours = Status::from(Error::internal(anyhow::anyhow!("the cause")));
        assert!(refused(ours).is_none());
        assert!(refused(Status::from(Error::too_old("list again"))).is_none());
    }
}
