//! Price books: what a GPU-hour of a flavor costs in which clusters.

use super::cluster::FlavorPrice;
use muster_core::{LabelSelector, Manifest, ManifestError, Quantity, name, selector::Labels};
use serde::Deserialize;

/// What a price book's manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceBookSpec {
    /// `metadata.name`.
    pub name: String,
    /// ISO 4217.
    pub currency: String,
    /// In the order of the manifest; a later one counts over an earlier one.
    pub prices: Vec<Price>,
}

/// One line of a price book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Clusters by list.
    pub clusters: Vec<String>,
    /// Clusters by label.
    pub selector: Option<LabelSelector>,
    /// GPU model; `*` for any.
    pub flavor: String,
    /// Millionths of the currency per GPU-hour.
    pub micros_per_gpu_hour: i64,
    /// Watts one GPU draws; 0 if unsaid.
    pub watts: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    currency: String,
    prices: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Line {
    #[serde(default)]
    clusters: Vec<String>,
    cluster_selector: Option<LabelSelector>,
    flavor: String,
    per_gpu_hour: Quantity,
    #[serde(default)]
    watts: u32,
}

impl PriceBookSpec {
    /// Reads a manifest, strictly.
    pub fn read(manifest: &Manifest) -> Result<Self, ManifestError> {
        let fault = |message: String| ManifestError { line: manifest.line, column: 1, message };
        if (manifest.group(), manifest.kind()) != ("muster.dev", "PriceBook") {
            return Err(fault("kind: is not a PriceBook of muster.dev".to_owned()));
        }
        let document: Document = manifest.read()?;
        name::check_id(&document.metadata.name).map_err(|error| fault(format!("metadata.name: {error}")))?;
        let currency = document.spec.currency;
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(fault("spec.currency: must be three capital letters (ISO 4217)".to_owned()));
        }
        let mut prices = Vec::new();
        for (index, line) in document.spec.prices.into_iter().enumerate() {
            let at = |field: &str| format!("spec.prices[{index}].{field}");
            if line.flavor.is_empty() {
                return Err(fault(format!("{}: must not be empty", at("flavor"))));
            }
            if line.per_gpu_hour.is_negative() {
                return Err(fault(format!("{}: must not be negative", at("perGpuHour"))));
            }
            if line.clusters.is_empty() && line.cluster_selector.is_none() {
                return Err(fault(format!("{}: clusters or clusterSelector must say where", at("clusters"))));
            }
            if let Some(selector) = &line.cluster_selector {
                selector.validate().map_err(|error| fault(format!("{}: {error}", at("clusterSelector"))))?;
            }
            let micros = line.per_gpu_hour.nanos() / 1_000;
            prices.push(Price {
                clusters: line.clusters,
                selector: line.cluster_selector,
                flavor: line.flavor,
                micros_per_gpu_hour: i64::try_from(micros).map_err(|_| fault(format!("{}: is too large", at("perGpuHour"))))?,
                watts: line.watts,
            });
        }
        Ok(Self { name: document.metadata.name, currency, prices })
    }
}

/// The price of each flavor in a cluster: the last line, of the last book in name order, that names both. `books` is in
/// name order.
pub fn resolve(books: &[PriceBookSpec], cluster: &str, labels: &Labels, flavors: &[String]) -> Vec<FlavorPrice> {
    let names = |price: &Price| {
        price.clusters.iter().any(|name| name == cluster)
            || price.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    };
    flavors
        .iter()
        .filter_map(|flavor| {
            let mut lines = books.iter().rev().flat_map(|book| book.prices.iter().rev().map(move |price| (book, price)));
            let (book, price) = lines.find(|(_, price)| names(price) && (price.flavor == *flavor || price.flavor == "*"))?;
            Some(FlavorPrice {
                flavor: flavor.clone(),
                micros_per_gpu_hour: price.micros_per_gpu_hour,
                currency: book.currency.clone(),
                watts: price.watts,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::manifest::parse_one;

    #[test]
    fn the_last_line_that_names_cluster_and_flavor_counts() {
        let text = "apiVersion: muster.dev/v1\nkind: PriceBook\nmetadata: {name: list}\nspec:\n  currency: EUR\n  prices:\n  - {clusters: [a], flavor: '*', perGpuHour: 2}\n  - {clusters: [a], flavor: V100, perGpuHour: '0.55', watts: 300}\n";
        let book = PriceBookSpec::read(&parse_one(text).expect("yaml")).expect("a price book");
        let prices = resolve(&[book], "a", &Labels::new(), &["A100".to_owned(), "V100".to_owned()]);
        let micros: Vec<_> = prices.iter().map(|price| price.micros_per_gpu_hour).collect();
        assert_eq!(micros, [2_000_000, 550_000]);
    }

    #[test]
    fn a_negative_price_is_refused_by_field() {
        let text = "apiVersion: muster.dev/v1\nkind: PriceBook\nmetadata: {name: list}\nspec:\n  currency: EUR\n  prices:\n  - {clusters: [a], flavor: V100, perGpuHour: -1}\n";
        let error = PriceBookSpec::read(&parse_one(text).expect("yaml")).expect_err("negative");
        assert!(error.message.contains("spec.prices[0].perGpuHour"), "{error}");
    }
}
