//! A server whose calls are written by the test, and the program pointed at it.

use axum::{Router, routing::post};
use std::{
    fs,
    net::SocketAddr,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, process::Command, task::JoinHandle};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, body::Body, codegen::http, metadata::MetadataMap, server::Grpc};
use tonic_prost::ProstCodec;

/// What was asked, in its order: the call and its metadata.
pub type Log = Arc<Mutex<Vec<(String, MetadataMap)>>>;

/// The calls a test answers.
#[derive(Default)]
pub struct Script {
    router: Router,
    log: Log,
}

impl Script {
    /// Answers a call, as in `scheduler.v1.JobService/GetJob`. The number counts its calls from 0.
    pub fn on<Q, A>(mut self, call: &'static str, answer: impl Fn(usize, Q) -> Result<A, Status> + Send + Sync + 'static) -> Self
    where
        Q: prost::Message + Default + Send + 'static,
        A: prost::Message + Default + Send + 'static,
    {
        let (answer, log, count) = (Arc::new(answer), Arc::clone(&self.log), Arc::new(Mutex::new(0)));
        let handler = move |request: http::Request<axum::body::Body>| {
            let (answer, log, count) = (Arc::clone(&answer), Arc::clone(&log), Arc::clone(&count));
            async move {
                let service = tower::service_fn(move |request: Request<Q>| {
                    log.lock().expect("no panic holds it").push((call.to_owned(), request.metadata().clone()));
                    let number = take_number(&count);
                    let answer = answer(number, request.into_inner()).map(Response::new);
                    async move { answer }
                });
                Grpc::new(ProstCodec::<A, Q>::default()).unary(service, request.map(Body::new)).await
            }
        };
        self.router = self.router.route(&path_of(call), post(handler));
        self
    }

    /// Answers a call with a stream.
    pub fn on_stream<Q, A, S>(mut self, call: &'static str, answer: impl Fn(usize, Q) -> S + Send + Sync + 'static) -> Self
    where
        Q: prost::Message + Default + Send + 'static,
        A: prost::Message + Default + Send + 'static,
        S: Stream<Item = Result<A, Status>> + Send + 'static,
    {
        let (answer, count) = (Arc::new(answer), Arc::new(Mutex::new(0)));
        let handler = move |request: http::Request<axum::body::Body>| {
            let (answer, count) = (Arc::clone(&answer), Arc::clone(&count));
            async move {
                let service = tower::service_fn(move |request: Request<Q>| {
                    let stream = answer(take_number(&count), request.into_inner());
                    async move { Ok::<_, Status>(Response::new(stream)) }
                });
                Grpc::new(ProstCodec::<A, Q>::default()).server_streaming(service, request.map(Body::new)).await
            }
        };
        self.router = self.router.route(&path_of(call), post(handler));
        self
    }

    /// Begins to answer.
    pub async fn start(self) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of this machine");
        let address = listener.local_addr().expect("is bound");
        let router = self.router;
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves until the test ends") });
        Server { address, log: self.log, folder: tempfile::tempdir().expect("a folder"), task }
    }
}

/// Calls are those of Muster unless they name another package.
fn path_of(call: &str) -> String {
    if call.starts_with("opentelemetry.") { format!("/{call}") } else { format!("/muster.{call}") }
}

fn take_number(count: &Mutex<usize>) -> usize {
    let mut count = count.lock().expect("no panic holds it");
    *count += 1;
    *count - 1
}

/// A running script.
pub struct Server {
    address: SocketAddr,
    log: Log,
    folder: TempDir,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// The program with all four services here, and nothing of the surroundings.
    pub fn command(&self, line: &str) -> Command {
        let mut command = bare(line);
        for service in ["MUSTER_REGISTRY", "MUSTER_SCHEDULER", "MUSTER_ROLLOUT", "MUSTER_POLICY"] {
            command.env(service, self.url());
        }
        command.env("MUSTER_CONFIG", self.folder.path().join("config.toml")).env("MUSTER_TOKEN", "t0ken");
        command.current_dir(self.folder.path());
        command
    }

    /// Where the server is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Runs it to its end.
    pub async fn run(&self, line: &str) -> Ended {
        Ended::from(self.command(line).output().await.expect("the program starts"))
    }

    /// Writes a file beside which the program runs.
    pub fn file(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("is in the folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// The calls so far, without their package.
    pub fn calls(&self) -> Vec<String> {
        let log = self.log.lock().expect("no panic holds it");
        log.iter().map(|(call, _)| call.rsplit('/').next().unwrap_or_default().to_owned()).collect()
    }

    /// A header of every call so far.
    pub fn headers(&self, name: &str) -> Vec<String> {
        let log = self.log.lock().expect("no panic holds it");
        let text =
            |metadata: &MetadataMap| metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        log.iter().map(|(_, metadata)| text(metadata)).collect()
    }
}

/// The program without services.
pub fn bare(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(line.split_whitespace()).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub status: i32,
    pub output: String,
    pub errors: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
