//! What a job reads: the region its dataset is in, and how large that is, so that moving it is part of the price of a place.

use muster_core::Quantity;
use muster_core::quantity::ParseQuantityError;
use muster_scheduler_engine::Dataset;
use serde_json::Value;

use super::metadata;
use crate::domain::Fault;

/// The region a job's dataset is in, as clusters say theirs.
const REGION_KEY: &str = "muster.dev/dataset";
/// How large it is, as Kubernetes writes quantities of bytes.
const SIZE_KEY: &str = "muster.dev/dataset-size";
/// No region is longer.
const MOST_LETTERS: usize = 63;

/// Reads both annotations; `None` where there are none.
pub(super) fn read(value: &Value) -> Result<Option<Dataset>, Fault> {
    let at = |key: &str| format!("metadata.annotations[{key}]");
    let (region, size) = match (metadata(value, REGION_KEY), metadata(value, SIZE_KEY)) {
        (None, None) => return Ok(None),
        (Some(region), Some(size)) => (region, size),
        (Some(_), None) => {
            return Err(Fault::new(
                at(SIZE_KEY),
                format!("must say how large the dataset is, as in 2Ti, where {REGION_KEY} says where"),
            ));
        }
        (None, Some(_)) => {
            return Err(Fault::new(
                at(REGION_KEY),
                format!("must say in which region the dataset is, where {SIZE_KEY} says how large"),
            ));
        }
    };
    if region.len() > MOST_LETTERS || region.contains(char::is_whitespace) {
        let why = format!("{region:?} is no region such as eu-west: one word of at most {MOST_LETTERS} letters");
        return Err(Fault::new(at(REGION_KEY), why));
    }
    let quantity: Quantity = size.parse().map_err(|error: ParseQuantityError| Fault::new(at(SIZE_KEY), error.to_string()))?;
    if quantity.is_negative() {
        return Err(Fault::new(at(SIZE_KEY), "must not be negative"));
    }
    Ok(Some(Dataset { region: region.to_owned(), bytes: quantity.units() }))
}
