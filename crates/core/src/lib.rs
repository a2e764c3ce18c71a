//! The words two or more crates share: names, versions, quantities, selectors, manifests, bundles, pages.
//!
//! Pure data. Nothing here does I/O, reads a clock or knows the wire.

pub mod bundle;
pub mod duration;
pub mod labels;
pub mod manifest;
pub mod name;
pub mod page;
pub mod quantity;
pub mod selector;
pub mod version;

pub use bundle::Digest;
pub use manifest::{Manifest, ManifestError};
pub use quantity::Quantity;
pub use selector::LabelSelector;
pub use version::Version;
