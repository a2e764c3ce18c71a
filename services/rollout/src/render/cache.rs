//! Rendering with a memory: the same closure of the same path is rendered once.

use super::{Closure, Kustomize, RenderError, Rendered, closure, kustomize, manifests};
use crate::git::Mirror;
use muster_core::bundle;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Renderings kept; the oldest goes first. Forty targets of a handful of applications, twice over.
const KEPT: usize = 512;

/// Renders targets and remembers what it rendered.
#[derive(Debug, Clone)]
pub struct Renderer {
    kustomize: Kustomize,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    by_key: BTreeMap<(String, String), (u64, Rendered)>,
    clock: u64,
}

impl Renderer {
    /// A renderer with nothing remembered.
    pub fn new(kustomize: Kustomize) -> Self {
        Self { kustomize, kept: Arc::default() }
    }

    /// The objects of a folder (or file) at a commit.
    pub async fn render(&self, mirror: &Mirror, commit: &str, path: &str) -> Result<Rendered, RenderError> {
        let closure = closure(mirror, commit, path).await?;
        let key = (path.to_owned(), closure.key.as_str().to_owned());
        if let Some(rendered) = self.remembered(&key) {
            return Ok(rendered);
        }
        let rendered = self.make(mirror, &closure, path).await?;
        self.remember(key, rendered.clone());
        Ok(rendered)
    }

    async fn make(&self, mirror: &Mirror, closure: &Closure, path: &str) -> Result<Rendered, RenderError> {
        let objects = if closure.kustomized {
            let unavailable = |error: std::io::Error| RenderError::Unavailable(error.to_string());
            let folder = tempfile::tempdir().map_err(unavailable)?;
            // Kustomize resolves links before it compares paths, and the folder for temporary files may be one.
            let root = folder.path().canonicalize().map_err(unavailable)?;
            kustomize::export(mirror, closure, &root).await?;
            manifests::documents(path, &self.kustomize.build(&root, path).await?)?
        } else {
            manifests::read(mirror, closure).await?
        };
        if objects.is_empty() {
            return Err(RenderError::Empty(path.to_owned()));
        }
        let (digest, _) = bundle::encode(&objects).map_err(|_| RenderError::TooLarge(path.to_owned()))?;
        Ok(Rendered { objects: Arc::new(objects), digest, paths: closure.paths.clone() })
    }

    fn remembered(&self, key: &(String, String)) -> Option<Rendered> {
        let mut kept = self.kept.lock().expect("nothing panics while it is held");
        kept.clock += 1;
        let clock = kept.clock;
        let (used, rendered) = kept.by_key.get_mut(key)?;
        *used = clock;
        Some(rendered.clone())
    }

    fn remember(&self, key: (String, String), rendered: Rendered) {
        let mut kept = self.kept.lock().expect("nothing panics while it is held");
        kept.clock += 1;
        let clock = kept.clock;
        kept.by_key.insert(key, (clock, rendered));
        if kept.by_key.len() > KEPT {
            let oldest = kept.by_key.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            kept.by_key.remove(&oldest.expect("there are more than none"));
        }
    }
}
