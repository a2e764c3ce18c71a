//! A real git server: git's own `http-backend` behind a loopback port, for whoever knows the password.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

/// Whose password it is.
pub const USER: &str = "muster";

/// Of one request: what is pushed here is small.
const REQUEST_LIMIT: usize = 64 << 20;

/// A server of the bare repositories in a folder. Dropping it closes it.
#[derive(Debug)]
pub struct GitServer {
    address: SocketAddr,
    server: JoinHandle<()>,
}

/// What a request is answered by.
#[derive(Debug)]
struct Backend {
    folder: PathBuf,
    authorization: String,
}

impl GitServer {
    /// Serves `folder` on a free loopback port.
    ///
    /// # Errors
    /// No port can be opened.
    pub async fn start(folder: &Path, password: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("open a port for git")?;
        let address = listener.local_addr()?;
        let authorization = format!("Basic {}", STANDARD.encode(format!("{USER}:{password}")));
        let backend = Arc::new(Backend { folder: folder.to_path_buf(), authorization });
        let router = Router::new().fallback(answer).with_state(backend);
        // It ends with the value; there is nothing to do about an end before.
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap_or_default() });
        Ok(Self { address, server })
    }

    /// The URL of one of its repositories.
    pub fn url(&self, repository: &str) -> String {
        format!("http://{}/{repository}", self.address)
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(backend): State<Arc<Backend>>, request: Request) -> Response<Body> {
    let says = |status: StatusCode, text: String| {
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        response
    };
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if authorization != Some(backend.authorization.as_str()) {
        let mut refusal = says(StatusCode::UNAUTHORIZED, "who are you?\n".to_owned());
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"git\""));
        return refusal;
    }
    backend.run(request).await.unwrap_or_else(|error| says(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")))
}

impl Backend {
    /// Runs git's program for one request, as RFC 3875 has it.
    async fn run(&self, request: Request) -> Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, REQUEST_LIMIT).await.context("read the request")?;
        let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let mut child = Command::new("git")
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &self.folder)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("REMOTE_USER", USER)
            .env("REQUEST_METHOD", head.method.as_str())
            .env("PATH_INFO", head.uri.path())
            .env("QUERY_STRING", head.uri.query().unwrap_or_default())
            .env("CONTENT_TYPE", text(header::CONTENT_TYPE))
            .env("CONTENT_LENGTH", body.len().to_string())
            .env("HTTP_CONTENT_ENCODING", text(header::CONTENT_ENCODING))
            .env("GIT_PROTOCOL", text(HeaderName::from_static("git-protocol")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .context("run git http-backend")?;
        let mut stdin = child.stdin.take().context("its input")?;
        let (output, _written) = tokio::join!(child.wait_with_output(), async move {
            // It may have enough before the end.
            stdin.write_all(&body).await.ok();
        });
        response(&output.context("git http-backend")?.stdout)
    }
}

/// A CGI answer: headers, an empty line, the body.
fn response(output: &[u8]) -> Result<Response<Body>> {
    let Some(end) = output.windows(4).position(|window| window == b"\r\n\r\n") else {
        bail!("git http-backend answers no headers")
    };
    let mut response = Response::new(Body::from(output[end + 4..].to_vec()));
    for line in std::str::from_utf8(&output[..end])?.split("\r\n") {
        let (name, value) = line.split_once(':').context("a header without a colon")?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().unwrap_or_default();
            *response.status_mut() = code.parse::<StatusCode>().with_context(|| format!("the status {value:?}"))?;
        } else {
            response.headers_mut().append(name.parse::<HeaderName>()?, HeaderValue::from_str(value)?);
        }
    }
    Ok(response)
}
