//! The Kubernetes API as a `tower::Service`: what an ordinary client talks to, in process or behind a socket.

pub mod discovery;
mod log;
mod mutate;
mod read;
mod request;
mod scale;
mod table;
mod watch;

pub use request::{Query, decode_percent};

use crate::{cluster::Inner, json, state::Target, status::ApiError};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use request::{Place, Route, View};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// The largest body that is read, as in the API server.
const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// One cluster's API.
#[derive(Debug, Clone)]
pub struct ApiService {
    cluster: Arc<Inner>,
}

impl ApiService {
    pub(crate) fn new(cluster: Arc<Inner>) -> Self {
        Self { cluster }
    }
}

impl<B> tower::Service<Request<B>> for ApiService
where
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let cluster = Arc::clone(&self.cluster);
        Box::pin(async move {
            let mut response = answer(&cluster, request).await.unwrap_or_else(|error| refuse(&error));
            if let Ok(date) = HeaderValue::from_str(&cluster.http_date()) {
                response.headers_mut().insert(header::DATE, date);
            }
            Ok(response)
        })
    }
}

fn refuse(error: &ApiError) -> Response<Body> {
    let mut response = write_json(error.code, &error.to_status());
    if error.code == 503 || error.code == 504 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn write_json(code: u16, body: &Value) -> Response<Body> {
    with_type(code, "application/json", Body::from(body.to_string()))
}

fn with_type(code: u16, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

async fn answer<B>(cluster: &Arc<Inner>, request: Request<B>) -> Result<Response<Body>, ApiError>
where
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    cluster.faults.wait_latency().await;
    if cluster.faults.is_paused() {
        return Err(ApiError::new(503, "ServiceUnavailable", "the server is currently unable to handle the request")
            .retry_after_seconds(1));
    }
    let (parts, body) = request.into_parts();
    let body = collect(body).await?;
    let path = parts.uri.path();
    let query = Query::parse(parts.uri.query().unwrap_or(""));
    let place = match request::route(path) {
        Route::Objects(place) => place,
        Route::Version => return Ok(write_json(200, &discovery::version(&cluster.lock()))),
        Route::Health => return Ok(with_type(200, "text/plain", Body::from("ok"))),
        Route::CoreVersions | Route::Groups if wants_aggregated(&parts.headers) => {
            let core = request::route(path) == Route::CoreVersions;
            let found = discovery::aggregated(&cluster.lock(), core);
            let media_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
            return Ok(with_type(200, media_type, Body::from(found.to_string())));
        }
        Route::CoreVersions => return Ok(write_json(200, &discovery::core_versions())),
        Route::Groups => return Ok(write_json(200, &discovery::groups(&cluster.lock()))),
        Route::Group(name) => return Ok(write_json(200, &discovery::group(&cluster.lock(), &name)?)),
        Route::Resources(group, version) => {
            return Ok(write_json(200, &discovery::resources(&cluster.lock(), &group, &version)?));
        }
        Route::Unknown => return Err(ApiError::no_such_path()),
    };
    let actor = request::actor(&parts.headers, &query);
    if let Some(answer) = review(&place, &parts.method, &body) {
        return Ok(write_json(201, &answer));
    }
    let target = target(cluster, &place)?;
    let view = request::view(&parts.headers)?;
    if request::changes(&parts.method) {
        let path = parts.uri.path_and_query().map_or(path, http::uri::PathAndQuery::as_str);
        let change =
            mutate::Change { method: parts.method.clone(), headers: &parts.headers, query: &query, path, body: &body, view };
        let answer = mutate::change(cluster, &target, &actor, &change)?;
        let mut response = write_json(answer.code, &answer.body);
        for warning in answer.warnings {
            let text = format!("299 - \"{}\"", warning.replace('\\', "\\\\").replace('"', "\\\""));
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().append(header::WARNING, value);
            }
        }
        return Ok(response);
    }
    get(cluster, &target, &query, view)
}

fn get(cluster: &Arc<Inner>, target: &Target, query: &Query, view: View) -> Result<Response<Body>, ApiError> {
    match (target.subresource.as_str(), target.name.is_empty()) {
        ("", _) if query.flag("watch") => Ok(with_type(200, "application/json", watch::start(cluster, target, query, view)?)),
        ("", true) => Ok(write_json(200, &read::list(&cluster.lock(), target, query, view)?)),
        ("" | "status", false) => {
            let object = cluster.lock().existing(target)?;
            Ok(write_json(200, &read::shown(target, &object, view)))
        }
        ("scale", false) => Ok(write_json(200, &scale::read(&cluster.lock(), target)?)),
        ("log", false) if target.kind.kind == "Pod" => Ok(with_type(200, "text/plain", log::start(cluster, target, query)?)),
        _ => Err(ApiError::no_such_path()),
    }
}

fn target(cluster: &Arc<Inner>, place: &Place) -> Result<Target, ApiError> {
    let state = cluster.lock();
    let (kind, version) = state.types.find(&place.group, &place.version, &place.plural).ok_or_else(ApiError::no_such_path)?;
    let misplaced = !kind.namespaced && !place.namespace.is_empty()
        || kind.namespaced && place.namespace.is_empty() && !place.name.is_empty();
    if misplaced {
        return Err(ApiError::no_such_path());
    }
    Ok(Target {
        kind: Arc::clone(kind),
        version,
        namespace: place.namespace.clone(),
        name: place.name.clone(),
        subresource: place.subresource.clone(),
    })
}

/// Access reviews are answered and not stored. Everybody may do everything here.
fn review(place: &Place, method: &Method, body: &Bytes) -> Option<Value> {
    let reviews = ["selfsubjectaccessreviews", "subjectaccessreviews", "localsubjectaccessreviews"];
    if *method != Method::POST || place.group != "authorization.k8s.io" || !reviews.contains(&place.plural.as_str()) {
        return None;
    }
    let mut review: Value = serde_json::from_slice(body).ok()?;
    json::set(&mut review, &["status"], json!({"allowed": true}));
    Some(review)
}

fn wants_aggregated(headers: &http::HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    accept
        .split(',')
        .next()
        .is_some_and(|first| first.contains("as=APIGroupDiscoveryList") && first.contains("v=v2") && !first.contains("v2beta1"))
}

async fn collect<B>(body: B) -> Result<Bytes, ApiError>
where
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let limited = Limited::new(body, BODY_LIMIT);
    match limited.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<http_body_util::LengthLimitError>().is_some() => {
            Err(ApiError::new(413, "RequestEntityTooLarge", format!("limit is {BODY_LIMIT}")))
        }
        Err(error) => Err(ApiError::bad_request(format!("the body cannot be read: {error}"))),
    }
}
