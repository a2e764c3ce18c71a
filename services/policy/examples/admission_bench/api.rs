//! An API server, by the token of a kubeconfig.

use crate::suites::text;
use anyhow::{Context, Result, ensure};
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use muster_core::manifest::parse_value;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    sync::Arc,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Answers larger than this are no objects of a suite.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// By kind: the plural, and whether it has namespaces.
type Kinds = HashMap<String, (String, bool)>;

/// One connection, used by one after another.
pub struct Api {
    server: Uri,
    token: String,
    tls: TlsConnector,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
    /// By group and version.
    served: HashMap<String, Kinds>,
    /// Those that are there.
    namespaces: HashSet<String>,
}

impl Api {
    /// The first cluster and the first user of the file: a `certificate-authority` and a `token`.
    pub fn of_kubeconfig(file: &Path) -> Result<Self> {
        let config = parse_value(&fs::read_to_string(file).with_context(|| file.display().to_string())?)?;
        let field = |pointer: &str| {
            let value = config.pointer(pointer).and_then(Value::as_str);
            value.with_context(|| format!("{}: no {pointer}", file.display()))
        };
        let authority = fs::read(field("/clusters/0/cluster/certificate-authority")?)?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&authority) {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            server: field("/clusters/0/cluster/server")?.parse()?,
            token: field("/users/0/user/token")?.to_owned(),
            tls: TlsConnector::from(Arc::new(config)),
            sender: None,
            served: HashMap::new(),
            namespaces: HashSet::from(["default".to_owned()]),
        })
    }

    /// The code and the document of an answer.
    pub async fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let host = self.server.authority().context("the server of the kubeconfig")?.as_str();
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(body))?;
        let sender = self.sender().await?;
        let answer = sender.send_request(request).await?;
        let code = answer.status().as_u16();
        let content = http_body_util::Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let content = content.map_err(|error| anyhow::anyhow!("{method} {path}: {error}"))?.to_bytes();
        Ok((code, serde_json::from_slice(&content).unwrap_or_default()))
    }

    async fn sender(&mut self) -> Result<&mut http1::SendRequest<Full<Bytes>>> {
        let is_open = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !is_open {
            let host = self.server.host().context("the host of the server")?.to_owned();
            let stream = TcpStream::connect((host.as_str(), self.server.port_u16().unwrap_or(443))).await?;
            let stream = self.tls.connect(ServerName::try_from(host)?, stream).await?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // Ends with the sender, which hears of what goes wrong.
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender.as_mut().context("a connection")
    }

    /// Where objects of this kind are made, in a namespace that is there; `None` where it is not served.
    pub async fn collection_of(&mut self, object: &Value) -> Result<Option<String>> {
        let version = text(&object["apiVersion"]).to_owned();
        let base = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        if !self.served.contains_key(&version) {
            let (_, list) = self.call("GET", &base, None).await?;
            let resources = list["resources"].as_array().into_iter().flatten();
            let kinds = resources.filter(|resource| !text(&resource["name"]).contains('/')).map(|resource| {
                let is_namespaced = resource["namespaced"] == true;
                (text(&resource["kind"]).to_owned(), (text(&resource["name"]).to_owned(), is_namespaced))
            });
            self.served.insert(version.clone(), kinds.collect());
        }
        let Some((plural, is_namespaced)) = self.served[&version].get(text(&object["kind"])).cloned() else { return Ok(None) };
        if !is_namespaced {
            return Ok(Some(format!("{base}/{plural}")));
        }
        let namespace = text(&object["metadata"]["namespace"]).to_owned();
        self.expect_namespace(&namespace).await?;
        Ok(Some(format!("{base}/namespaces/{namespace}/{plural}")))
    }

    async fn expect_namespace(&mut self, name: &str) -> Result<()> {
        if self.namespaces.insert(name.to_owned()) {
            let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            let (code, answer) = self.call("POST", "/api/v1/namespaces", Some(&namespace)).await?;
            ensure!(matches!(code, 201 | 409), "the namespace {name}: {}", text(&answer["message"]));
        }
        Ok(())
    }
}
