//! PromQL over the series of one cluster: parsed by a real parser, evaluated here as Prometheus does. What is not
//! evaluated is refused by name.

mod aggregate;
mod binary;
mod function;
mod histogram;
mod select;

use crate::traffic::series::{Labels, Metrics};
use promql_parser::parser::{AtModifier, Expr, Offset};

/// A value of an expression at one time.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Scalar(f64),
    /// A text.
    Text(String),
    /// One sample of each of some series.
    Vector(Vec<Sample>),
    /// Many samples of each of some series.
    Matrix(Vec<Range>),
}

/// One sample. The metric's name, where it still has one, is the label `__name__`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
}

/// The samples of one series in a range.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// Its labels, with `__name__`.
    pub labels: Labels,
    /// Time in milliseconds, and value.
    pub samples: Vec<(i64, f64)>,
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It is not PromQL: 400.
    #[error("{0}")]
    Parse(String),
    /// It cannot be evaluated: 422.
    #[error("{0}")]
    Execution(String),
}

/// A value stands this long without a newer one, milliseconds: Prometheus' lookback delta.
pub const LOOKBACK: i64 = 300_000;

/// What an expression is evaluated over.
#[derive(Debug, Clone, Copy)]
pub struct Evaluation<'a> {
    /// The series.
    pub metrics: &'a Metrics,
    /// The time, milliseconds since the epoch.
    pub time: i64,
    /// The first time of a range query; the time itself of an instant one.
    pub start: i64,
    /// The last.
    pub end: i64,
}

/// Reads a query.
pub fn parse(query: &str) -> Result<Expr, QueryError> {
    promql_parser::parser::parse(query).map_err(|error| QueryError::Parse(format!("invalid parameter \"query\": {error}")))
}

fn unsupported(what: impl std::fmt::Display) -> QueryError {
    QueryError::Execution(format!("{what} is not evaluated here"))
}

impl Evaluation<'_> {
    /// The value of an expression.
    pub fn value(&self, expression: &Expr) -> Result<Value, QueryError> {
        match expression {
            Expr::NumberLiteral(number) => Ok(Value::Scalar(number.val)),
            Expr::StringLiteral(text) => Ok(Value::Text(text.val.clone())),
            Expr::Paren(inner) => self.value(&inner.expr),
            Expr::Unary(inner) => Ok(match self.value(&inner.expr)? {
                Value::Scalar(number) => Value::Scalar(-number),
                Value::Vector(samples) => Value::Vector(
                    samples
                        .into_iter()
                        .map(|sample| Sample { labels: without_name(sample.labels), value: -sample.value })
                        .collect(),
                ),
                other => other,
            }),
            Expr::VectorSelector(selector) => {
                let time = self.shifted(selector.offset.as_ref(), selector.at.as_ref());
                Ok(Value::Vector(select::instant(self.metrics, selector, time)))
            }
            Expr::MatrixSelector(selector) => {
                let time = self.shifted(selector.vs.offset.as_ref(), selector.vs.at.as_ref());
                let length = i64::try_from(selector.range.as_millis()).unwrap_or(i64::MAX);
                Ok(Value::Matrix(select::range(self.metrics, &selector.vs, time, length)))
            }
            Expr::Aggregate(aggregation) => aggregate::value(self, aggregation),
            Expr::Binary(operation) => binary::value(self, operation),
            Expr::Call(call) => function::value(self, call),
            Expr::Subquery(_) => Err(unsupported("a subquery")),
            Expr::Extension(_) => Err(unsupported("an extension")),
        }
    }

    /// The value of an expression that has to be a vector.
    pub(crate) fn vector(&self, expression: &Expr) -> Result<Vec<Sample>, QueryError> {
        match self.value(expression)? {
            Value::Vector(samples) => Ok(samples),
            Value::Scalar(_) | Value::Text(_) | Value::Matrix(_) => {
                Err(QueryError::Execution("expected an instant vector".to_owned()))
            }
        }
    }

    /// The value of an expression that has to be a number.
    pub(crate) fn scalar(&self, expression: &Expr) -> Result<f64, QueryError> {
        match self.value(expression)? {
            Value::Scalar(number) => Ok(number),
            Value::Vector(_) | Value::Text(_) | Value::Matrix(_) => Err(QueryError::Execution("expected a scalar".to_owned())),
        }
    }

    fn shifted(&self, offset: Option<&Offset>, at: Option<&AtModifier>) -> i64 {
        let time = match at {
            None => self.time,
            Some(AtModifier::Start) => self.start,
            Some(AtModifier::End) => self.end,
            Some(AtModifier::At(time)) => {
                let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
        };
        let millis = |length: &std::time::Duration| i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        match offset {
            None => time,
            Some(Offset::Pos(length)) => time.saturating_sub(millis(length)),
            Some(Offset::Neg(length)) => time.saturating_add(millis(length)),
        }
    }
}

/// Labels without the metric's name, which every change of a value takes away.
pub(crate) fn without_name(mut labels: Labels) -> Labels {
    labels.remove("__name__");
    labels
}
