//! What `-f` names, read strictly: files, standard input, folders with everything below them.
//!
//! A folder is one unordered set. Every fault of every file is reported with file, line and column before anything is
//! sent; what is passed over is said. A kustomize folder is refused, since its files are parts and not manifests.

use crate::error::{Exit, Failure, Result};
use muster_core::{Manifest, manifest};
use std::{
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
    thread,
};

/// Folders within folders, at most.
const MAX_DEPTH: usize = 32;
/// Files of one set, at most.
const MAX_FILES: usize = 10_000;
/// File names that make a folder a kustomize folder.
const KUSTOMIZE: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// A document and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What was read.
    pub manifest: Manifest,
    /// The file as it was named, or `standard input`.
    pub file: String,
}

impl Document {
    /// `file:line` of its first line that says something, for messages.
    pub fn place(&self) -> Place<'_> {
        let silent = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
        let before = self.manifest.text.lines().take_while(silent).count();
        Place { file: &self.file, line: self.manifest.line + before }
    }

    /// `file:line` of a field such as `spec.rules[0].match`, or of the document where it has nothing of it.
    pub fn place_of(&self, field: &str) -> Place<'_> {
        let line = self.manifest.places().of(field).map(|(line, _)| line);
        line.map_or_else(|| self.place(), |line| Place { file: &self.file, line })
    }

    /// A failure about this document. Where the service named a line of the manifest, it becomes one of the file.
    pub fn failure(&self, failure: Failure) -> Failure {
        let Some((line, column)) = failure.location else { return failure.about(&self.place().to_string()) };
        let marker = format!("line {line}, column {column}: ");
        let plain = |text: &str| text.split_once(&marker).map_or_else(|| text.to_owned(), |(_, rest)| rest.to_owned());
        let message = format!("{}:{}:{column}: {}", self.file, self.manifest.line + line - 1, plain(&failure.message));
        Failure { message, location: None, ..failure }
    }
}

/// Prints as `file:line`.
pub struct Place<'a> {
    /// The file as it was named.
    pub file: &'a str,
    /// From 1.
    pub line: usize,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A set of documents, and what lies beside them.
#[derive(Debug, Default)]
pub struct Set {
    /// In path order.
    pub documents: Vec<Document>,
    /// Files in folders that are no manifests, by their names.
    pub passed_over: Vec<PathBuf>,
}

/// Reads everything that was named; all faults together are one failure.
pub fn read(sources: &[String]) -> Result<Set> {
    let mut reader = Reader::default();
    for source in sources {
        if source == "-" {
            let mut text = String::new();
            let limit = u64::try_from(manifest::MAX_BYTES).unwrap_or(u64::MAX) + 1;
            reader.found.push(match std::io::stdin().take(limit).read_to_string(&mut text) {
                Ok(_) => Found::Text(text),
                Err(error) => Found::Fault(format!("standard input: {error}")),
            });
            continue;
        }
        let path = Path::new(source);
        match fs::metadata(path) {
            Ok(data) if data.is_dir() => reader.folder(path, 1),
            Ok(_) => reader.file(path),
            Err(error) => reader.fault(format!("{source}: {error}")),
        }
    }
    let Reader { found, passed_over, kustomize, .. } = reader;
    let mut set = Set { documents: Vec::new(), passed_over };
    let mut faults = Vec::new();
    for read in read_all(&found) {
        match read {
            Ok(documents) => set.documents.extend(documents),
            Err(fault) => faults.push(fault),
        }
    }
    if !faults.is_empty() {
        let count = faults.len();
        let message =
            if count == 1 { "1 fault; nothing was sent".to_owned() } else { format!("{count} faults; nothing was sent") };
        let failure = Failure { details: faults, ..Failure::new(Exit::Invalid, message) };
        return Err(match kustomize {
            true => failure.hint("let a release render it from git, or render it: kustomize build FOLDER | muster … -f -"),
            false => failure,
        });
    }
    if set.documents.is_empty() {
        return Err(Failure::new(Exit::Invalid, format!("no manifest in {}", sources.join(", "))));
    }
    Ok(set)
}

/// What is to be read, in its order.
enum Found {
    File(PathBuf),
    /// Of standard input.
    Text(String),
    Fault(String),
}

impl Found {
    fn read(&self) -> Result<Vec<Document>, String> {
        match self {
            Self::File(path) => read_file(path),
            Self::Text(text) => read_text("standard input", text),
            Self::Fault(fault) => Err(fault.clone()),
        }
    }
}

/// Reads on every core: a folder may hold thousands of files.
fn read_all(found: &[Found]) -> Vec<Result<Vec<Document>, String>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = found.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let running: Vec<_> =
            found.chunks(share).map(|some| scope.spawn(|| some.iter().map(Found::read).collect::<Vec<_>>())).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("reading does not panic")).collect()
    })
}

#[derive(Default)]
struct Reader {
    found: Vec<Found>,
    passed_over: Vec<PathBuf>,
    files: usize,
    kustomize: bool,
}

impl Reader {
    fn fault(&mut self, fault: String) {
        self.found.push(Found::Fault(fault));
    }

    fn folder(&mut self, folder: &Path, depth: usize) {
        if depth > MAX_DEPTH {
            return self.fault(format!("{}: more than {MAX_DEPTH} folders deep", folder.display()));
        }
        let mut entries = match fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>()) {
            Ok(entries) => entries,
            Err(error) => return self.fault(format!("{}: {error}", folder.display())),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        if let Some(entry) = entries.iter().find(|entry| KUSTOMIZE.iter().any(|name| entry.file_name() == *name)) {
            self.kustomize = true;
            return self.fault(format!("{}: a kustomize folder, whose files are parts and no manifests", entry.path().display()));
        }
        for entry in entries {
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            let Ok(kind) = entry.file_type() else {
                self.fault(format!("{}: is gone", path.display()));
                continue;
            };
            // A link to a folder may lead back up.
            let linked_folder = kind.is_symlink() && path.is_dir();
            if hidden || linked_folder || (!kind.is_dir() && !is_manifest_file(&path)) {
                self.passed_over.push(path);
            } else if kind.is_dir() {
                self.folder(&path, depth + 1);
            } else {
                self.file(&path);
            }
        }
    }

    fn file(&mut self, path: &Path) {
        self.files += 1;
        if self.files > MAX_FILES {
            if self.files == MAX_FILES + 1 {
                self.fault(format!("{}: more than {MAX_FILES} files", path.display()));
            }
            return;
        }
        self.found.push(Found::File(path.to_owned()));
    }
}

fn read_file(path: &Path) -> Result<Vec<Document>, String> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    if bytes.len() > manifest::MAX_BYTES {
        return Err(format!("{name}: is larger than {} bytes", manifest::MAX_BYTES));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        format!("{name}:{}: is not UTF-8", before + 1)
    })?;
    read_text(&name, &text)
}

fn read_text(file: &str, text: &str) -> Result<Vec<Document>, String> {
    match manifest::parse_documents(text) {
        Ok(manifests) if manifests.is_empty() => Err(format!("{file}:1: holds no document")),
        Ok(manifests) => Ok(manifests.into_iter().map(|manifest| Document { manifest, file: file.to_owned() }).collect()),
        Err(error) => Err(format!("{file}:{}:{}: {}", error.line, error.column, error.message)),
    }
}

fn is_manifest_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

/// One line about what a folder holds besides; nothing where it holds nothing.
pub fn passed_over_note(set: &Set) -> Option<String> {
    const SHOWN: usize = 5;
    let names: Vec<_> = set.passed_over.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    let more = set.passed_over.len().saturating_sub(SHOWN);
    match (names.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(format!("note: passed over, no manifests by their names: {}", names.join(", "))),
        (false, more) => Some(format!("note: passed over, no manifests by their names: {} and {more} more", names.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        folder
    }

    fn read_folder(folder: &tempfile::TempDir) -> Result<Set> {
        read(&[folder.path().display().to_string()])
    }

    const QUEUE: &str = "apiVersion: scheduling.volcano.sh/v1beta1\nkind: Queue\nmetadata: {name: a}\n";

    #[test]
    fn a_folder_is_read_with_everything_below_it_and_says_what_it_passes_over() {
        let two = format!("{QUEUE}---\n{QUEUE}");
        let folder = folder(&[
            ("b.yaml", QUEUE),
            ("deep/er/a.yml", &two),
            ("deep/c.json", r#"{"apiVersion": "v1", "kind": "A"}"#),
            ("README.md", "text"),
            (".git/config", "text"),
        ]);
        let set = read_folder(&folder).expect("legal");
        let places: Vec<_> = set.documents.iter().map(|document| document.place().to_string()).collect();
        let expected = ["b.yaml:1", "deep/c.json:1", "deep/er/a.yml:1", "deep/er/a.yml:5"];
        assert_eq!(places, expected.map(|place| format!("{}/{place}", folder.path().display())));
        let note = passed_over_note(&set).expect("two were");
        assert!(note.contains("README.md") && note.contains(".git"), "{note}");
    }

    #[test]
    fn every_fault_is_named_with_file_line_and_column() {
        let folder = folder(&[
            ("a.yaml", "apiVersion: v1\nkind: A\nspec: [1, 2\n"),
            ("b.yaml", "kind: B\n"),
            ("c.yaml", "# nothing\n"),
            ("good.yaml", QUEUE),
        ]);
        let failure = read_folder(&folder).expect_err("three faults");
        assert_eq!((failure.exit, failure.details.len()), (Exit::Invalid, 3), "{failure}");
        let root = folder.path().display();
        assert!(failure.details[0].starts_with(&format!("{root}/a.yaml:")), "{failure}");
        assert_eq!(failure.details[1], format!("{root}/b.yaml:1:1: apiVersion: is missing"));
        assert_eq!(failure.details[2], format!("{root}/c.yaml:1: holds no document"));
    }

    #[test]
    fn a_kustomize_folder_is_refused_with_what_to_do() {
        let folder = folder(&[("overlay/kustomization.yaml", "resources: []\n"), ("overlay/patch.yaml", "a: 1\n")]);
        let failure = read_folder(&folder).expect_err("kustomize");
        assert_eq!(failure.details.len(), 1, "{failure}");
        assert!(failure.details[0].contains("overlay/kustomization.yaml: a kustomize folder"), "{failure}");
        assert!(failure.hint.is_some_and(|hint| hint.contains("kustomize build")));
    }

    #[test]
    fn a_line_that_a_service_names_becomes_one_of_the_file() {
        let folder = folder(&[("two.yaml", &format!("{QUEUE}---\n{QUEUE}"))]);
        let set = read_folder(&folder).expect("legal");
        let failure =
            Failure { location: Some((4, 3)), ..Failure::new(Exit::Invalid, "queue.manifest: line 4, column 3: unknown") };
        let file = folder.path().join("two.yaml");
        assert_eq!(set.documents[1].failure(failure).message, format!("{}:7:3: unknown", file.display()));
        let failure = set.documents[1].failure(Failure::new(Exit::Conflict, "is taken"));
        assert_eq!(failure.message, format!("{}:5: is taken", file.display()));
    }

    #[test]
    fn a_missing_file_and_an_empty_folder_are_failures() {
        assert_eq!(read(&["/nowhere/x.yaml".to_owned()]).expect_err("missing").exit, Exit::Invalid);
        let failure = read_folder(&folder(&[("README.md", "text")])).expect_err("empty");
        assert!(failure.message.starts_with("no manifest in"), "{failure}");
    }
}
