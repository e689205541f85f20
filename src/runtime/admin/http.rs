//! The admin server: commands over HTTP, health for orchestrators, and the port Prometheus scrapes. Mirrors
//! `JettyAdminServer` and `PrometheusMetricsProvider`'s server.
//!
//! Besides ZooKeeper's commands the admin port answers `/livez` (the cores turn) and `/readyz` (clients are served), with 200
//! or 503 and a line of text.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::commands::{self, Fields};
use super::door::From;
use super::report::{Report, Wanted};
use super::{Desk, NOT_SERVING, authorize, json, metrics, snapshot};
use crate::config::MetricsProvider;

/// Requests of Prometheus go here.
const METRICS: &str = "/metrics";

/// The routes of the admin port.
pub(super) fn admin(desk: Arc<Desk>) -> Router {
    // `commandURL` may be any path, and Jetty takes the rest of it as the command's name as it stands: no patterns.
    Router::new().fallback(serve).with_state(desk)
}

/// The routes of the Prometheus port.
pub(super) fn prometheus(desk: Arc<Desk>) -> Router {
    Router::new().fallback(scrape).with_state(desk)
}

async fn scrape(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    if request.uri().path() != METRICS {
        return text(StatusCode::NOT_FOUND, format!("Nothing is here. Metrics are at {METRICS}.\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return not_allowed("GET, HEAD");
    }
    match gather(desk, Wanted::default()).await {
        Ok(report) => {
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            ([(CONTENT_TYPE, kind)], metrics::prometheus(&report)).into_response()
        }
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn serve(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(From(from)): ConnectInfo<From>,
    request: Request,
) -> Response {
    let path = request.uri().path();
    let url = desk.config.admin.command_url.trim_end_matches('/').to_owned();
    match path {
        "/livez" => health(desk, "not live").await,
        "/readyz" => health(desk, "not ready").await,
        _ => match path.strip_prefix(&url) {
            Some("" | "/") => list(&url, request.method()),
            Some(rest) if rest.starts_with('/') => {
                let name = rest[1..].to_owned();
                command(desk, from, name, request).await
            }
            _ => text(StatusCode::NOT_FOUND, format!("Nothing is here. Commands are at {url}.\n")),
        },
    }
}

/// A standalone server that answers serves: being live and being ready are the same until there is an ensemble.
async fn health(desk: Arc<Desk>, otherwise: &str) -> Response {
    match gather(desk, Wanted::default()).await {
        Ok(_) => text(StatusCode::OK, "ok\n".into()),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{otherwise}: {why}\n")),
    }
}

fn list(url: &str, method: &Method) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return not_allowed("GET, HEAD");
    }
    ([(CONTENT_TYPE, HeaderValue::from_static("text/html;charset=utf-8"))], commands::list(url)).into_response()
}

async fn command(desk: Arc<Desk>, from: SocketAddr, asked: String, request: Request) -> Response {
    let Some(name) = commands::resolve(&asked) else {
        return answer(StatusCode::OK, &asked, Fields::new(), Some(format!("Unknown command: {asked}")));
    };
    let allowed = if name == "restore" { "POST" } else { "GET, HEAD" };
    let fits = match *request.method() {
        Method::POST => name == "restore",
        Method::GET | Method::HEAD => name != "restore" || !request.headers().contains_key(AUTHORIZATION),
        _ => false,
    };
    if !fits {
        return not_allowed(allowed);
    }
    if matches!(name, "restore" | "snapshot") {
        let proof = request.headers().get(AUTHORIZATION).cloned();
        if let Err(refusal) = authorize::may_administer(&desk, proof.as_ref(), from) {
            return answer(refusal.status(), name, Fields::new(), Some(refusal.to_string()));
        }
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    match name {
        "snapshot" => snapshot::serve(desk, &query).await,
        "restore" => {
            let why =
                "restore is not available on this server: stop it, put the snapshot into an empty dataDir, start it";
            answer(StatusCode::SERVICE_UNAVAILABLE, name, Fields::new(), Some(why.into()))
        }
        "connection_stat_reset" => {
            desk.reset_connection_stats();
            answer(StatusCode::OK, name, Fields::new(), None)
        }
        "stat_reset" => {
            desk.reset_stats();
            answer(StatusCode::OK, name, Fields::new(), None)
        }
        "set_trace_mask" => set_trace_mask(&desk, &query),
        _ => show(desk, name).await,
    }
}

async fn show(desk: Arc<Desk>, name: &'static str) -> Response {
    match gather(desk, commands::wanted(name)).await {
        Ok(report) => {
            let fields = commands::answer(name, &report).unwrap_or_default();
            answer(StatusCode::OK, name, fields, None)
        }
        Err(_) => answer(StatusCode::OK, name, Fields::new(), Some(NOT_SERVING.into())),
    }
}

fn set_trace_mask(desk: &Desk, query: &str) -> Response {
    let name = "set_trace_mask";
    let needs = "setTraceMask requires long traceMask argument";
    let mut fields = Fields::new();
    match argument(query, "traceMask").map(|text| (text, text.parse::<i64>())) {
        Some((_, Ok(mask))) => {
            desk.trace_mask.store(mask, std::sync::atomic::Ordering::Relaxed);
            fields.insert("tracemask".into(), mask.into());
        }
        Some((text, Err(_))) => {
            fields.insert("error".into(), format!("{needs}, got {text}").into());
        }
        None => {
            fields.insert("error".into(), needs.into());
        }
    }
    answer(StatusCode::OK, name, fields, None)
}

/// The value of `key` in a query, as it is written.
pub(super) fn argument<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

/// Asks the cores, on a thread that may wait for them; one such question at a time.
pub(super) async fn gather(desk: Arc<Desk>, wanted: Wanted) -> Result<Report, String> {
    let asking = desk.asking.clone().lock_owned().await;
    let report = spawn_blocking(move || {
        let _asking = asking;
        desk.report(wanted)
    });
    match report.await {
        Ok(report) => report.map_err(|e| e.to_string()),
        Err(e) => Err(format!("the report ended: {e}")),
    }
}

/// Fields, then the two keys that every answer has, unless the fields say the error themselves.
pub(super) fn answer(status: StatusCode, command: &str, mut fields: Fields, error: Option<String>) -> Response {
    fields.insert("command".into(), command.into());
    if !fields.contains_key("error") {
        fields.insert("error".into(), error.map_or(Value::Null, Value::from));
    }
    let kind = HeaderValue::from_static("application/json");
    (status, [(CONTENT_TYPE, kind)], json::print(&Value::Object(fields))).into_response()
}

fn text(status: StatusCode, body: String) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=utf-8"))], Body::from(body)).into_response()
}

fn not_allowed(allowed: &'static str) -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, HeaderValue::from_static(allowed))]).into_response()
}

/// Whether the Prometheus port is wanted.
pub(super) fn wants_prometheus(desk: &Desk) -> bool {
    desk.config.metrics.provider == MetricsProvider::Prometheus
}
