//! The complete record of writes to one cluster: everything anybody asked to change, its controllers included, and what
//! came of it. Only the newest entries stay in memory; all of them are in a file, one JSON object a line.

use serde::Serialize;
use serde_json::Value;
use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// One write, carried out or refused.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When, RFC 3339 with milliseconds.
    pub time: String,
    /// The caller's user agent; a controller's name for the cluster's own.
    pub user_agent: String,
    /// The field manager.
    pub field_manager: String,
    /// create, update, patch, apply, delete, deletecollection.
    pub verb: String,
    /// The path of the request.
    pub path: String,
    /// `deployments.apps`.
    pub resource: String,
    /// `status`, `scale`, `binding`, or "".
    pub subresource: String,
    /// The object's namespace, or "".
    pub namespace: String,
    /// The object's name; "" where the write was refused before it had one.
    pub name: String,
    /// A dry run changed nothing.
    pub dry_run: bool,
    /// The HTTP status.
    pub code: u16,
    /// The object is gone after this write.
    pub removed: bool,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The object after the write; its last state where it is gone; absent where it was refused.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write_shared")]
    pub object: Option<Arc<Value>>,
}

fn write_shared<S: serde::Serializer>(object: &Option<Arc<Value>>, serializer: S) -> Result<S::Ok, S::Error> {
    object.as_deref().serialize(serializer)
}

/// How many entries stay in memory.
const IN_MEMORY: usize = 256;

/// The log of one cluster.
#[derive(Debug)]
pub struct Audit {
    recent: VecDeque<Entry>,
    next: u64,
    file: File,
    path: PathBuf,
    /// Where every 256th entry starts, so that reading from the middle does not read everything.
    offsets: Vec<u64>,
    length: u64,
    _directory: Option<tempfile::TempDir>,
}

impl Audit {
    /// A log written to `directory`/`<cluster>.audit.jsonl`, or to a temporary folder that goes with it.
    pub fn open(cluster: &str, directory: Option<&Path>) -> std::io::Result<Self> {
        let temporary = if directory.is_none() { Some(tempfile::tempdir()?) } else { None };
        let folder = directory.or(temporary.as_ref().map(tempfile::TempDir::path)).unwrap_or(Path::new("."));
        let path = folder.join(format!("{cluster}.audit.jsonl"));
        let file = File::create(&path)?;
        let recent = VecDeque::new();
        Ok(Self { recent, next: 1, file, path, offsets: Vec::new(), length: 0, _directory: temporary })
    }

    /// Where the log is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of the newest entry; 0 before the first.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// Appends an entry and gives it its number.
    pub fn record(&mut self, mut entry: Entry) {
        entry.seq = self.next;
        self.next += 1;
        if (entry.seq - 1).is_multiple_of(IN_MEMORY as u64) {
            self.offsets.push(self.length);
        }
        match serde_json::to_vec(&entry) {
            Ok(mut line) => {
                line.push(b'\n');
                self.length += line.len() as u64;
                if let Err(error) = self.file.write_all(&line) {
                    tracing::error!(%error, path = %self.path.display(), "the audit log cannot be written");
                }
            }
            Err(error) => tracing::error!(%error, "an audit entry cannot be written as JSON"),
        }
        self.recent.push_back(entry);
        if self.recent.len() > IN_MEMORY {
            self.recent.pop_front();
        }
    }

    /// The newest entries, oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &Entry> {
        self.recent.iter()
    }

    /// Where to read the entries after number `after`: the file, the offset of a line, and the number of that line.
    pub fn position(&self, after: u64) -> (PathBuf, u64, u64) {
        let block = (after / IN_MEMORY as u64).min(self.offsets.len().saturating_sub(1) as u64);
        let offset = self.offsets.get(block as usize).copied().unwrap_or(0);
        (self.path.clone(), offset, block * IN_MEMORY as u64 + 1)
    }
}

/// The lines of the entries after number `after`, at most `limit`, from a [`Audit::position`]. Blocks.
pub fn lines_after(position: (PathBuf, u64, u64), after: u64, limit: usize) -> std::io::Result<Vec<String>> {
    let (path, offset, first) = position;
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let skip = usize::try_from((after + 1).saturating_sub(first)).unwrap_or(usize::MAX);
    BufReader::new(file).lines().skip(skip).take(limit).collect()
}
