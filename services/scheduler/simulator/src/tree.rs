//! YAML and JSON documents, read field by field: what is wrong is named by file, line and field, and a field that nobody knows
//! is wrong.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muster_core::manifest::{MAX_BYTES, Manifest, ManifestError, Places};
use muster_core::{Quantity, duration, manifest};
use muster_scheduler_engine::{Amounts, CPU};
use serde_json::Value;

use crate::fault::Fault;

/// One document of a file.
pub(crate) struct Document {
    file: PathBuf,
    manifest: Manifest,
    /// Where its fields stand, once somebody has asked.
    places: OnceCell<Places>,
}

/// A field of a document, or all of it.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    document: &'a Document,
    path: String,
    value: &'a Value,
}

/// The text of a file, which is not empty.
pub(crate) fn text(file: &Path) -> Result<String, Fault> {
    let whole = |why: String| Fault { file: file.to_owned(), line: None, field: String::new(), why };
    let length = std::fs::metadata(file).map_err(|error| whole(error.to_string()))?.len();
    if length > MAX_BYTES as u64 {
        return Err(whole(format!("is larger than {MAX_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| whole(error.to_string()))?;
    if text.trim().is_empty() {
        return Err(whole("is empty".to_owned()));
    }
    Ok(text)
}

impl Document {
    /// A file that is one document without a kind.
    pub(crate) fn one(file: &Path) -> Result<Self, Fault> {
        let text = text(file)?;
        let value = manifest::parse_value(&text).map_err(|error| misread(file, &error))?;
        Ok(Self::new(file, Manifest { value, text, line: 1 }))
    }

    /// All documents of a file, each with its kind.
    pub(crate) fn all(file: &Path) -> Result<Vec<Self>, Fault> {
        let manifests = manifest::parse_documents_strictly(&text(file)?).map_err(|error| misread(file, &error))?;
        Ok(manifests.into_iter().map(|manifest| Self::new(file, manifest)).collect())
    }

    fn new(file: &Path, manifest: Manifest) -> Self {
        Self { file: file.to_owned(), manifest, places: OnceCell::new() }
    }

    fn line_of(&self, path: &str) -> u64 {
        let places = self.places.get_or_init(|| self.manifest.places());
        places.of(path).map_or(self.manifest.line, |(line, _)| line) as u64
    }

    pub(crate) fn api_version(&self) -> &str {
        self.manifest.api_version()
    }

    pub(crate) fn kind(&self) -> &str {
        self.manifest.kind()
    }

    pub(crate) fn root(&self) -> Node<'_> {
        Node { document: self, path: String::new(), value: &self.manifest.value }
    }
}

fn misread(file: &Path, error: &ManifestError) -> Fault {
    Fault { file: file.to_owned(), line: Some(error.line as u64), field: String::new(), why: error.message.clone() }
}

impl<'a> Node<'a> {
    /// A fault of this field.
    pub(crate) fn fault(&self, why: impl Into<String>) -> Fault {
        let line = Some(self.line());
        Fault { file: self.document.file.clone(), line, field: self.path.clone(), why: why.into() }
    }

    /// The line on which it stands.
    pub(crate) fn line(&self) -> u64 {
        self.document.line_of(&self.path)
    }

    /// It is an object, and has no fields but these.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Fault> {
        let fields = self.value.as_object().ok_or_else(|| self.fault("must be an object"))?;
        match fields.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(self.child(key, &Value::Null).fault(format!("unknown field; known are {}", known.join(", ")))),
            None => Ok(()),
        }
    }

    fn child<'b>(&self, key: &str, value: &'b Value) -> Node<'b>
    where
        'a: 'b,
    {
        let path = match (self.path.is_empty(), key.contains(['.', '[', '/'])) {
            (true, false) => key.to_owned(),
            (false, false) => format!("{}.{key}", self.path),
            (_, true) => format!("{}[\"{key}\"]", self.path),
        };
        Node { document: self.document, path, value }
    }

    /// A field, unless it is left out.
    pub(crate) fn get(&self, key: &str) -> Option<Node<'a>> {
        self.value.get(key).filter(|value| !value.is_null()).map(|value| self.child(key, value))
    }

    /// A field that has to be there.
    pub(crate) fn need(&self, key: &str) -> Result<Node<'a>, Fault> {
        self.get(key).ok_or_else(|| self.child(key, &Value::Null).fault("is missing"))
    }

    /// Its entries, by key.
    pub(crate) fn entries(&self) -> Result<Vec<(&'a str, Node<'a>)>, Fault> {
        let fields = self.value.as_object().ok_or_else(|| self.fault("must be an object"))?;
        Ok(fields.iter().map(|(key, value)| (key.as_str(), self.child(key, value))).collect())
    }

    /// Its items, at least one.
    pub(crate) fn items(&self) -> Result<Vec<Node<'a>>, Fault> {
        let list = self.value.as_array().ok_or_else(|| self.fault("must be a list"))?;
        if list.is_empty() {
            return Err(self.fault("is empty"));
        }
        let item = |(index, value)| Node { document: self.document, path: format!("{}[{index}]", self.path), value };
        Ok(list.iter().enumerate().map(item).collect())
    }

    /// Text that is not empty.
    pub(crate) fn text(&self) -> Result<&'a str, Fault> {
        self.value.as_str().filter(|text| !text.is_empty()).ok_or_else(|| self.fault("must be text"))
    }

    pub(crate) fn boolean(&self) -> Result<bool, Fault> {
        self.value.as_bool().ok_or_else(|| self.fault("must be true or false"))
    }

    /// A whole number within bounds.
    pub(crate) fn whole(&self, least: i64, most: i64) -> Result<i64, Fault> {
        let number = self.value.as_i64().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| self.fault(format!("{} is no whole number from {least} to {most}", self.value)))
    }

    /// A number from 0 up.
    pub(crate) fn number(&self) -> Result<f64, Fault> {
        let number = self.value.as_f64().filter(|number| *number >= 0.0 && number.is_finite());
        number.ok_or_else(|| self.fault(format!("{} is no number from 0 up", self.value)))
    }

    /// A span of time such as `10m`, in milliseconds; up to a century.
    pub(crate) fn span_ms(&self) -> Result<i64, Fault> {
        const CENTURY_MS: u128 = 3_200_000_000_000;
        let span = duration::parse(self.text()?).map_err(|error| self.fault(error.to_string()))?;
        let span_ms = Some(span.as_millis()).filter(|span_ms| *span_ms <= CENTURY_MS);
        span_ms.and_then(|span_ms| i64::try_from(span_ms).ok()).ok_or_else(|| self.fault("is longer than a century"))
    }

    /// A quantity from 0 up in base units of the resource: thousandths of cores, bytes, devices.
    pub(crate) fn quantity(&self, resource: &str) -> Result<i64, Fault> {
        let text = match self.value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return Err(self.fault("must be a quantity")),
        };
        let quantity: Quantity =
            text.parse().map_err(|error: muster_core::quantity::ParseQuantityError| self.fault(error.to_string()))?;
        if quantity.is_negative() {
            return Err(self.fault(format!("{text} is negative")));
        }
        let units = if resource == CPU { quantity.millis() } else { quantity.units() };
        if units > 1 << 50 {
            return Err(self.fault(format!("{text} is too large")));
        }
        Ok(units)
    }

    /// Quantities by resource.
    pub(crate) fn amounts(&self) -> Result<Amounts, Fault> {
        self.entries()?.into_iter().try_fold(Amounts::new(), |sum, (name, node)| Ok(sum.with(name, node.quantity(name)?)))
    }

    /// Quantities by resource, of which 0 counts.
    pub(crate) fn limits(&self) -> Result<BTreeMap<String, i64>, Fault> {
        self.entries()?.into_iter().map(|(name, node)| Ok((name.to_owned(), node.quantity(name)?))).collect()
    }

    pub(crate) fn texts(&self) -> Result<Vec<&'a str>, Fault> {
        self.items()?.iter().map(Node::text).collect()
    }

    /// It as a type of its own.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_value(self.value.clone()).map_err(|error| self.fault(error.to_string()))
    }
}
