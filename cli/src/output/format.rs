//! `-o table|wide|json|yaml|name|sarif|junit`: one printer for every command's answer.

use super::table::{Table, Titles};
use crate::{
    error::{Exit, Failure, Result},
    kinds::{Object, Spec},
};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::io::{self, ErrorKind, Write};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[value(alias = "human")]
    Table,
    /// For people with wide screens.
    Wide,
    /// Proto3 JSON.
    Json,
    /// The same as YAML.
    Yaml,
    /// Resource names, one a line.
    Name,
    /// SARIF 2.1.0, for code scanning; of `policy check`.
    Sarif,
    /// JUnit's XML, for pipelines; of `policy check` and `policy test`.
    Junit,
}

impl Format {
    /// Refuses what only the commands of policy write.
    ///
    /// # Errors
    /// It is one of those.
    pub fn check_general(self) -> Result<()> {
        match self {
            Self::Sarif | Self::Junit => {
                Err(Failure::usage("-o sarif and -o junit are for `muster policy check` and `muster policy test`"))
            }
            Self::Table | Self::Wide | Self::Json | Self::Yaml | Self::Name => Ok(()),
        }
    }
}

/// Writes to standard output.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    /// How.
    pub format: Format,
    /// Whether tables have titles.
    pub titles: Titles,
}

impl Printer {
    /// Whether it writes for people.
    pub fn is_for_people(self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// A list of one kind.
    pub fn list(self, spec: &Spec, objects: &[Object]) -> Result<()> {
        match self.format {
            Format::Table | Format::Wide if objects.is_empty() => {
                eprintln!("no {}", spec.plural);
                Ok(())
            }
            Format::Table | Format::Wide => self.table(&objects_table(self.format, spec, objects)),
            Format::Name => text(&objects.iter().map(|object| format!("{}\n", object.name)).collect::<String>()),
            Format::Json | Format::Yaml => {
                let values: Vec<_> = objects.iter().map(|object| object.json.clone()).collect();
                self.value(&json!({ spec.plural: values }))
            }
            Format::Sarif | Format::Junit => self.format.check_general(),
        }
    }

    /// One resource.
    pub fn one(self, spec: &Spec, object: &Object) -> Result<()> {
        match self.format {
            Format::Json | Format::Yaml => self.value(&object.json),
            Format::Table | Format::Wide | Format::Name => self.list(spec, std::slice::from_ref(object)),
            Format::Sarif | Format::Junit => self.format.check_general(),
        }
    }

    /// A table in either table format.
    pub fn table(self, table: &Table) -> Result<()> {
        text(&table.render(self.titles, 0))
    }

    /// A value as JSON or YAML; the other formats write JSON too, where a command has nothing better to show.
    pub fn value(self, value: &Value) -> Result<()> {
        match self.format {
            Format::Yaml => text(&yaml(value)?),
            Format::Json | Format::Table | Format::Wide | Format::Name => {
                text(&format!("{}\n", serde_json::to_string_pretty(value).expect("a JSON value always serialises")))
            }
            Format::Sarif | Format::Junit => self.format.check_general(),
        }
    }

    /// One value of a stream: a line of JSON, or a YAML document.
    pub fn streamed(self, value: &Value) -> Result<()> {
        match self.format {
            Format::Yaml => text(&format!("---\n{}", yaml(value)?)),
            Format::Json | Format::Table | Format::Wide | Format::Name => text(&format!("{value}\n")),
            Format::Sarif | Format::Junit => self.format.check_general(),
        }
    }

    /// Either the text for people, or the value.
    pub fn either(self, for_people: impl FnOnce() -> String, value: impl FnOnce() -> Value) -> Result<()> {
        if self.is_for_people() { text(&for_people()) } else { self.value(&value()) }
    }
}

/// The table of a list, with or without the columns for wide screens.
fn objects_table(format: Format, spec: &Spec, objects: &[Object]) -> Table {
    let shown: Vec<bool> = spec.columns.iter().map(|title| format == Format::Wide || !title.starts_with('+')).collect();
    let titles = spec.columns.iter().zip(&shown).filter(|(_, shown)| **shown).map(|(title, _)| title.trim_start_matches('+'));
    let mut table = Table::new(titles);
    for object in objects {
        table.row(object.cells.iter().zip(&shown).filter(|(_, shown)| **shown).map(|(cell, _)| cell.as_str()));
    }
    table
}

/// The value as YAML.
pub fn yaml(value: &Value) -> Result<String> {
    serde_saphyr::to_string(value).map_err(|error| Failure::new(Exit::Failure, format!("cannot be written as YAML: {error}")))
}

/// Writes text. A reader that has seen enough (`| head`) ends the command without a complaint.
pub fn text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(Exit::Failure, format!("standard output: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{find, object};
    use muster_proto::scheduler::v1::{Job, job::State};

    fn job() -> Object {
        let job = Job { name: "namespaces/ml/jobs/a".to_owned(), state: State::Queued.into(), run_epoch: 3, ..Job::default() };
        object(&job)
    }

    #[test]
    fn wide_tables_have_the_columns_that_others_leave_out() {
        let spec = find("jobs").expect("known").spec();
        let narrow = objects_table(Format::Table, spec, &[job()]).render(Titles::Shown, 0);
        let wide = objects_table(Format::Wide, spec, &[job()]).render(Titles::Shown, 0);
        assert!(narrow.starts_with("NAMESPACE   NAME   QUEUE   STATE"), "{narrow}");
        assert!(!narrow.contains("RUN ") && wide.contains("RUN "), "{narrow}{wide}");
        assert!(!wide.contains('+'), "{wide}");
    }

    #[test]
    fn yaml_reads_back_as_the_same_value() {
        let value = json!({"name": "a", "text": "no\n---\n", "yes": "yes", "number": "012", "list": [{"a": 1}], "empty": {}});
        let text = yaml(&value).expect("written");
        assert_eq!(muster_core::manifest::parse_value(&text).expect("legal"), value, "{text}");
    }
}
