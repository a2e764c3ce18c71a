//! `pods/<name>/log`: the lines a container has written so far, and those to come.

use super::request::Query;
use crate::{cluster::Inner, controllers::kubelet::LogLine, json, state::Target, status::ApiError};
use axum::body::Body;
use bytes::Bytes;
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// A follower looks for new lines this often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

struct Follow {
    cluster: Arc<Inner>,
    uid: String,
    container: String,
    timestamps: bool,
    seen: usize,
    pending: VecDeque<Bytes>,
}

/// The log a request asks for.
pub fn start(cluster: &Arc<Inner>, target: &Target, query: &Query) -> Result<Body, ApiError> {
    let state = cluster.lock();
    let place = Target { subresource: String::new(), ..target.clone() };
    let pod = state.existing(&place)?;
    let names: Vec<&str> = json::list(&pod, "/spec/containers").iter().map(|container| json::text(container, "/name")).collect();
    let container = match query.get("container") {
        Some(name) if names.contains(&name) => name,
        Some(name) => return Err(ApiError::bad_request(format!("container {name} is not valid for pod {}", target.name))),
        None if names.len() == 1 => names[0],
        None => {
            let all = names.join(" ");
            return Err(ApiError::bad_request(format!(
                "a container name must be specified for pod {}, choose one of: [{all}]",
                target.name
            )));
        }
    };
    let uid = json::uid(&pod).to_owned();
    let Some((lines, ended)) = state.runs.log(&uid, container) else {
        return Err(ApiError::bad_request(format!(
            "container \"{container}\" in pod \"{}\" is waiting to start: ContainerCreating",
            target.name
        )));
    };
    let seen = lines.len();
    let tail = query.number("tailLines")?.and_then(|tail| usize::try_from(tail).ok()).unwrap_or(usize::MAX);
    let timestamps = query.flag("timestamps") && query.get("timestamps").is_some();
    let pending = lines.iter().skip(seen.saturating_sub(tail)).map(|line| encode(line, timestamps)).collect();
    drop(state);
    let follow = query.flag("follow") && query.get("follow").is_some() && !ended;
    let reader = Follow { cluster: Arc::clone(cluster), uid, container: container.to_owned(), timestamps, seen, pending };
    Ok(Body::from_stream(futures::stream::unfold((reader, follow), |(mut reader, follow)| async move {
        loop {
            if let Some(line) = reader.pending.pop_front() {
                return Some((Ok::<_, std::io::Error>(line), (reader, follow)));
            }
            if !follow {
                return None;
            }
            let (lines, ended) = reader.cluster.lock().runs.log(&reader.uid, &reader.container)?;
            let new = lines.get(reader.seen.min(lines.len())..).unwrap_or(&[]);
            reader.pending = new.iter().map(|line| encode(line, reader.timestamps)).collect();
            reader.seen = lines.len();
            if reader.pending.is_empty() {
                if ended {
                    return None;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    })))
}

fn encode(line: &LogLine, timestamps: bool) -> Bytes {
    Bytes::from(if timestamps { format!("{} {}\n", line.time, line.text) } else { format!("{}\n", line.text) })
}
