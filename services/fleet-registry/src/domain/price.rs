//! Price books: what a GPU-hour of a flavor costs in which clusters, what power a GPU draws, how much carbon dioxide making that
//! power emits where, and what moving data out of one region into another costs.

use std::collections::BTreeSet;

use super::cluster::{EgressPrice, FlavorPrice};
use muster_core::{LabelSelector, Manifest, ManifestError, Quantity, name, selector::Labels};
use serde::Deserialize;
use serde_json::Value;

/// What a price book's manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceBookSpec {
    /// `metadata.name`.
    pub name: String,
    /// ISO 4217.
    pub currency: String,
    /// In the order of the manifest; a later one counts over an earlier one.
    pub prices: Vec<Price>,
    /// In the order of the manifest; a later one counts over an earlier one.
    pub carbon: Vec<Carbon>,
    /// In the order of the manifest; a later one counts over an earlier one.
    pub egress: Vec<Egress>,
}

/// Every region that no line names.
pub const ANY_REGION: &str = "*";

/// What moving data costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Regions it comes out of; none: all.
    pub from: Vec<String>,
    /// Regions it goes into; none: all.
    pub to: Vec<String>,
    /// Millionths of the currency per GiB.
    pub micros_per_gib: i64,
}

/// Hours of a day.
pub const HOURS: usize = 24;
/// Grams of CO2e per kWh; coal emits a thousand.
const MOST_GRAMS: u32 = 10_000;
/// Watts of one GPU.
const MOST_WATTS: u32 = 100_000;

/// The carbon intensity of some clusters' electricity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carbon {
    /// Clusters by region.
    pub regions: Vec<String>,
    /// Clusters by list.
    pub clusters: Vec<String>,
    /// Clusters by label.
    pub selector: Option<LabelSelector>,
    /// Grams of CO2e per kWh: one number for each hour of the day in UTC, or one for all.
    pub grams_per_kwh: Vec<u32>,
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
    #[serde(default)]
    carbon: Vec<CarbonLine>,
    #[serde(default)]
    egress: Vec<EgressLine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EgressLine {
    #[serde(default)]
    from: Vec<String>,
    #[serde(default)]
    to: Vec<String>,
    per_gib: Quantity,
}

/// Regions of a line: names, none of them empty or the word for all.
fn regions(names: &[String]) -> Result<(), String> {
    match names.iter().find(|name| name.is_empty() || *name == ANY_REGION) {
        Some(name) => Err(format!("{name:?} is no region; leave the field out for all of them")),
        None => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CarbonLine {
    #[serde(default)]
    regions: Vec<String>,
    #[serde(default)]
    clusters: Vec<String>,
    cluster_selector: Option<LabelSelector>,
    grams_per_kwh: Value,
}

/// Grams per kWh, one number or one for each hour.
fn grams(value: &Value) -> Result<Vec<u32>, String> {
    let one = |value: &Value| {
        let grams = value.as_u64().and_then(|grams| u32::try_from(grams).ok()).filter(|grams| *grams <= MOST_GRAMS);
        grams.ok_or_else(|| format!("{value} is no whole number from 0 to {MOST_GRAMS}"))
    };
    match value {
        Value::Array(hours) if hours.len() == HOURS => hours.iter().map(one).collect(),
        Value::Array(hours) => {
            Err(format!("has {} numbers; it is one, or one for each of the {HOURS} hours of a day in UTC", hours.len()))
        }
        value => Ok(vec![one(value)?]),
    }
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
            if line.watts > MOST_WATTS {
                return Err(fault(format!("{}: must be at most {MOST_WATTS}", at("watts"))));
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
        let mut carbon = Vec::new();
        for (index, line) in document.spec.carbon.into_iter().enumerate() {
            let at = |field: &str| format!("spec.carbon[{index}].{field}");
            if line.regions.is_empty() && line.clusters.is_empty() && line.cluster_selector.is_none() {
                return Err(fault(format!("{}: regions, clusters or clusterSelector must say where", at("regions"))));
            }
            if let Some(selector) = &line.cluster_selector {
                selector.validate().map_err(|error| fault(format!("{}: {error}", at("clusterSelector"))))?;
            }
            let grams_per_kwh = grams(&line.grams_per_kwh).map_err(|why| fault(format!("{}: {why}", at("gramsPerKwh"))))?;
            carbon.push(Carbon {
                regions: line.regions,
                clusters: line.clusters,
                selector: line.cluster_selector,
                grams_per_kwh,
            });
        }
        let mut egress = Vec::new();
        for (index, line) in document.spec.egress.into_iter().enumerate() {
            let at = |field: &str| format!("spec.egress[{index}].{field}");
            regions(&line.from).map_err(|why| fault(format!("{}: {why}", at("from"))))?;
            regions(&line.to).map_err(|why| fault(format!("{}: {why}", at("to"))))?;
            if line.per_gib.is_negative() {
                return Err(fault(format!("{}: must not be negative", at("perGib"))));
            }
            let micros = i64::try_from(line.per_gib.nanos() / 1_000);
            let micros_per_gib = micros.map_err(|_| fault(format!("{}: is too large", at("perGib"))))?;
            egress.push(Egress { from: line.from, to: line.to, micros_per_gib });
        }
        Ok(Self { name: document.metadata.name, currency, prices, carbon, egress })
    }
}

/// The price of each flavor in a cluster: the last line, of the last book in name order, that names both, with the carbon intensity
/// of the last that names the cluster. `books` is in name order.
pub fn resolve(
    books: &[PriceBookSpec],
    (cluster, region): (&str, &str),
    labels: &Labels,
    flavors: &[String],
) -> Vec<FlavorPrice> {
    let named = |clusters: &[String], selector: Option<&LabelSelector>| {
        clusters.iter().any(|name| name == cluster) || selector.is_some_and(|selector| selector.matches(labels))
    };
    let names = |price: &Price| named(&price.clusters, price.selector.as_ref());
    let mut carbon = books.iter().rev().flat_map(|book| book.carbon.iter().rev());
    let carbon = carbon.find(|carbon| {
        named(&carbon.clusters, carbon.selector.as_ref())
            || (!region.is_empty() && carbon.regions.iter().any(|name| name == region))
    });
    let grams_per_kwh = carbon.map_or_else(Vec::new, |carbon| carbon.grams_per_kwh.clone());
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
                grams_per_kwh: grams_per_kwh.clone(),
            })
        })
        .collect()
}

/// What moving a GiB into a region costs, by where it comes from: the last line, of the last book in name order, that names both. `*`
/// stands for regions that no line names. Nothing is said of what is in the region already. `books` is in name order.
pub fn resolve_egress(books: &[PriceBookSpec], to: &str) -> Vec<EgressPrice> {
    let lines = || {
        let of = |book: &PriceBookSpec| -> Vec<(String, Egress)> {
            book.egress.iter().rev().map(|line| (book.currency.clone(), line.clone())).collect()
        };
        let goes_there = |(_, line): &(String, Egress)| line.to.is_empty() || line.to.iter().any(|region| region == to);
        books.iter().rev().flat_map(of).filter(goes_there)
    };
    let named: BTreeSet<String> = lines().flat_map(|(_, line)| line.from).filter(|from| from != to).collect();
    let price = |from: &str| {
        let (currency, line) = lines().find(|(_, line)| line.from.is_empty() || line.from.iter().any(|region| region == from))?;
        Some(EgressPrice { from: from.to_owned(), micros_per_gib: line.micros_per_gib, currency })
    };
    [ANY_REGION].into_iter().chain(named.iter().map(String::as_str)).filter_map(price).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::manifest::parse_one;

    #[test]
    fn the_last_line_that_names_cluster_and_flavor_counts() {
        let text = "apiVersion: muster.dev/v1\nkind: PriceBook\nmetadata: {name: list}\nspec:\n  currency: EUR\n  prices:\n  - {clusters: [a], flavor: '*', perGpuHour: 2}\n  - {clusters: [a], flavor: V100, perGpuHour: '0.55', watts: 300}\n";
        let book = PriceBookSpec::read(&parse_one(text).expect("yaml")).expect("a price book");
        let prices = resolve(&[book], ("a", ""), &Labels::new(), &["A100".to_owned(), "V100".to_owned()]);
        let micros: Vec<_> = prices.iter().map(|price| price.micros_per_gpu_hour).collect();
        assert_eq!(micros, [2_000_000, 550_000]);
    }

    #[test]
    fn a_negative_price_is_refused_by_field() {
        let text = "apiVersion: muster.dev/v1\nkind: PriceBook\nmetadata: {name: list}\nspec:\n  currency: EUR\n  prices:\n  - {clusters: [a], flavor: V100, perGpuHour: -1}\n";
        let error = PriceBookSpec::read(&parse_one(text).expect("yaml")).expect_err("negative");
        assert!(error.message.contains("spec.prices[0].perGpuHour"), "{error}");
    }

    fn with_carbon(carbon: &str) -> Result<PriceBookSpec, ManifestError> {
        let text = format!(
            "apiVersion: muster.dev/v1\nkind: PriceBook\nmetadata: {{name: list}}\nspec:\n  currency: EUR\n  prices:\n  - {{clusters: [a, b], flavor: '*', perGpuHour: 2, watts: 300}}\n  carbon: {carbon}\n"
        );
        PriceBookSpec::read(&parse_one(&text).expect("yaml"))
    }

    #[test]
    fn the_last_line_that_names_the_cluster_or_its_region_says_its_carbon_intensity() {
        let hours = (0..24).map(|hour| hour.to_string()).collect::<Vec<_>>().join(", ");
        let book = with_carbon(&format!("[{{regions: [eu-north], gramsPerKwh: 45}}, {{clusters: [b], gramsPerKwh: [{hours}]}}]"));
        let books = [book.expect("a price book")];
        let grams = |cluster: &str, region: &str| {
            let prices = resolve(&books, (cluster, region), &Labels::new(), &["V100".to_owned()]);
            (prices[0].watts, prices[0].grams_per_kwh.clone())
        };
        assert_eq!(grams("a", "eu-north"), (300, vec![45]));
        assert_eq!(grams("b", "eu-north"), (300, (0..24).collect()));
        assert_eq!(grams("a", ""), (300, Vec::new()));
    }

    fn with_egress(egress: &str) -> Result<PriceBookSpec, ManifestError> {
        let text = format!(
            "apiVersion: muster.dev/v1\nkind: PriceBook\nmetadata: {{name: list}}\nspec:\n  currency: EUR\n  prices: []\n  egress: {egress}\n"
        );
        PriceBookSpec::read(&parse_one(&text).expect("yaml"))
    }

    #[test]
    fn the_last_line_that_names_both_regions_says_what_moving_data_costs() {
        let book = with_egress(
            "[{perGib: '0.09'}, {from: [eu], perGib: '0.05'}, {from: [eu], to: [us, asia], perGib: '0.02'}, {to: [asia], from: [us], perGib: 1}]",
        );
        let book = book.expect("a price book");
        let into = |to: &str| -> Vec<(String, i64)> {
            let prices = resolve_egress(std::slice::from_ref(&book), to);
            prices.into_iter().map(|price| (price.from, price.micros_per_gib)).collect()
        };
        let said = |from: &str, micros| (from.to_owned(), micros);
        assert_eq!(into("us"), [said("*", 90_000), said("eu", 20_000)]);
        assert_eq!(into("asia"), [said("*", 90_000), said("eu", 20_000), said("us", 1_000_000)]);
        assert_eq!(into("eu"), [said("*", 90_000)], "what is there already needs no price");
        assert_eq!(into(""), [said("*", 90_000), said("eu", 50_000)], "a cluster that is nowhere in particular");
        let later =
            PriceBookSpec { currency: "USD".to_owned(), ..with_egress("[{from: [eu], perGib: 3}]").expect("a price book") };
        let both = resolve_egress(&[book.clone(), later], "us");
        let last = EgressPrice { from: "eu".to_owned(), micros_per_gib: 3_000_000, currency: "USD".to_owned() };
        assert_eq!(both[1], last);
    }

    #[test]
    fn egress_that_can_not_be_is_refused_by_field() {
        for (egress, field) in [
            ("[{perGib: -1}]", "spec.egress[0].perGib"),
            ("[{perGib: 1}, {from: ['*'], perGib: 1}]", "spec.egress[1].from"),
            ("[{to: [''], perGib: 1}]", "spec.egress[0].to"),
            ("[{from: [eu]}]", "perGib"),
            ("[{perGiB: 1}]", "perGiB"),
        ] {
            let error = with_egress(egress).expect_err(egress);
            assert!(error.message.contains(field), "{egress}: {error}");
        }
    }

    #[test]
    fn carbon_that_can_not_be_is_refused_by_field() {
        for (carbon, field) in [
            ("[{gramsPerKwh: 45}]", "spec.carbon[0].regions"),
            ("[{regions: [x], gramsPerKwh: [1, 2]}]", "spec.carbon[0].gramsPerKwh"),
            ("[{regions: [x], gramsPerKwh: 10001}]", "spec.carbon[0].gramsPerKwh"),
            ("[{regions: [x], gramsPerKwh: -1}]", "spec.carbon[0].gramsPerKwh"),
            ("[{regions: [x], gramsPerKwh: much}]", "spec.carbon[0].gramsPerKwh"),
            ("[{regions: [x], gramsPerKwh: 1, hours: 3}]", "hours"),
        ] {
            let error = with_carbon(carbon).expect_err(carbon);
            assert!(error.message.contains(field), "{carbon}: {error}");
        }
    }
}
