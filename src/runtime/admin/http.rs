//! The admin server: commands over HTTP, health checks for orchestrators, and the port that Prometheus scrapes. Mirrors
//! `JettyAdminServer` and `PrometheusMetricsProvider`'s server.
//!
//! Besides ZooKeeper's commands the admin port answers `/livez` (the cores make turns) and `/readyz` (clients are
//! served) with 200 or 503 and a line of text.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::commands::{self, Fields};
use super::four_letter::NOT_SERVING;
use super::listener::From;
use super::query::{argument, values};
use super::report::Wanted;
use super::responses::{answer, not_allowed, text};
use super::state::AdminState;
use super::{authorize, metrics, snapshot};
use crate::peer::role_status::{Mode, RoleStatus};

/// The path that Prometheus scrapes.
const METRICS: &str = "/metrics";

/// The routes of the admin port.
pub(super) fn admin(state: Arc<AdminState>) -> Router {
    // `commandURL` may be any path, and the rest of a path is the name of a command, so there are no patterns.
    Router::new().fallback(serve).with_state(state)
}

/// The routes of the Prometheus port.
pub(super) fn prometheus(state: Arc<AdminState>) -> Router {
    Router::new().fallback(scrape).with_state(state)
}

async fn scrape(
    State(state): State<Arc<AdminState>>,
    ConnectInfo(from): ConnectInfo<From>,
    request: Request,
) -> Response {
    let _busy = from.busy();
    if request.uri().path() != METRICS {
        return text(StatusCode::NOT_FOUND, format!("Nothing is here. Metrics are at {METRICS}.\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return not_allowed("GET, HEAD");
    }
    let names = values(request.uri().query().unwrap_or_default(), "name[]");
    match state.gather(Wanted::default(), move |report| metrics::prometheus(&report, &names)).await {
        Ok(metrics) => {
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            ([(CONTENT_TYPE, kind)], metrics).into_response()
        }
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn serve(
    State(state): State<Arc<AdminState>>,
    ConnectInfo(from): ConnectInfo<From>,
    request: Request,
) -> Response {
    let _busy = from.busy();
    let path = request.uri().path();
    let url = state.config.admin.command_url.trim_end_matches('/').to_owned();
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::POST) {
        return not_allowed("GET, HEAD, POST");
    }
    match path {
        "/livez" => live(&state, "not live").await.unwrap_or_else(|refusal| refusal),
        "/readyz" => ready(&state).await.unwrap_or_else(|refusal| refusal),
        _ => match path.strip_prefix(&url) {
            Some("" | "/") => list(&url),
            Some(rest) if rest.starts_with('/') => {
                let name = rest[1..].to_owned();
                command(state, from.address, name, request).await
            }
            _ => text(StatusCode::NOT_FOUND, format!("Nothing is here. Commands are at {url}.\n")),
        },
    }
}

/// Whether the cores make turns.
async fn live(state: &AdminState, otherwise: &str) -> Result<Response, Response> {
    match state.pulse().await {
        Ok(()) => Ok(text(StatusCode::OK, "ok\n".into())),
        Err(why) => Err(text(StatusCode::SERVICE_UNAVAILABLE, format!("{otherwise}: {why}\n"))),
    }
}

/// Whether all clients are served. A standalone server whose cores make turns serves them.
async fn ready(state: &Arc<AdminState>) -> Result<Response, Response> {
    let live = live(state, "not ready").await?;
    if !state.config.is_member() {
        return Ok(live);
    }
    let unavailable = |why: String| text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n"));
    match state.gather(Wanted::default(), |report| report.peer.role).await {
        Ok(role) => match why_not_ready(&role) {
            None => Ok(live),
            Some(why) => Err(unavailable(why)),
        },
        Err(why) => Err(unavailable(why)),
    }
}

/// Why a member does not serve all clients. Whoever restarts members one by one waits until each is ready, so one that only serves
/// reads is not: it has not joined the others.
fn why_not_ready(role: &RoleStatus) -> Option<String> {
    match role.mode {
        Mode::ReadOnly => Some("only read-only clients are served".into()),
        _ if role.serves_clients => None,
        _ => Some(format!("no client is served ({})", role.peer_state())),
    }
}

fn list(url: &str) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("text/html;charset=utf-8"))], commands::list(url)).into_response()
}

async fn command(state: Arc<AdminState>, from: SocketAddr, asked: String, request: Request) -> Response {
    let Some(name) = commands::resolve(&asked) else {
        return answer(StatusCode::OK, &asked, Fields::new(), Some(format!("Unknown command: {asked}")));
    };
    if state.config.is_member() && commands::needs_server(name) && !is_running(&state).await {
        return answer(StatusCode::OK, name, Fields::new(), Some(NOT_SERVING.into()));
    }
    if matches!(name, "restore" | "snapshot") {
        let proof = request.headers().get(AUTHORIZATION).cloned();
        if let Err(refusal) = authorize::may_administer(&state, proof.as_ref(), from) {
            return answer(refusal.status(), &asked, Fields::new(), Some(refusal.to_string()));
        }
    }
    if (*request.method() == Method::POST) != (name == "restore") {
        return not_allowed(if name == "restore" { "POST" } else { "GET, HEAD" });
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    match name {
        "snapshot" => snapshot::serve(state, &query).await,
        "restore" => {
            let why =
                "restore is not available on this server: stop it, put the snapshot into an empty dataDir, start it";
            answer(StatusCode::SERVICE_UNAVAILABLE, name, Fields::new(), Some(why.into()))
        }
        "connection_stat_reset" => {
            state.reset_connection_stats();
            answer(StatusCode::OK, name, Fields::new(), None)
        }
        "stat_reset" => {
            state.reset_stats();
            answer(StatusCode::OK, name, Fields::new(), None)
        }
        "observer_connection_stat_reset" => {
            state.reset_observers();
            answer(StatusCode::OK, name, Fields::new(), None)
        }
        "set_trace_mask" => set_trace_mask(&state, &query),
        _ => show(state, name).await,
    }
}

/// Whether the server leads or follows.
async fn is_running(state: &Arc<AdminState>) -> bool {
    state.gather(Wanted::default(), |report| report.peer.role.is_running).await.unwrap_or(false)
}

async fn show(state: Arc<AdminState>, name: &'static str) -> Response {
    let make = move |report| {
        let fields = commands::answer(name, &report).unwrap_or_default();
        answer(StatusCode::OK, name, fields, None)
    };
    match state.gather(commands::wanted(name), make).await {
        Ok(response) => response,
        Err(_) => answer(StatusCode::OK, name, Fields::new(), Some(NOT_SERVING.into())),
    }
}

fn set_trace_mask(state: &AdminState, query: &str) -> Response {
    let name = "set_trace_mask";
    let needs = "setTraceMask requires long traceMask argument";
    let mut fields = Fields::new();
    match argument(query, "traceMask").map(|text| (text, text.parse::<i64>())) {
        Some((_, Ok(mask))) => {
            state.trace_mask.store(mask, std::sync::atomic::Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ServerId;

    #[test]
    fn a_member_is_ready_when_it_serves_all_clients() {
        let of = |mode, serves_clients| RoleStatus { mode, serves_clients, ..RoleStatus::standalone(ServerId(1)) };
        assert_eq!(why_not_ready(&of(Mode::Follower, true)), None);
        let why = why_not_ready(&of(Mode::Follower, false));
        assert_eq!(why.as_deref(), Some("no client is served (following - broadcast)"));
        let why = why_not_ready(&of(Mode::ReadOnly, true));
        assert_eq!(why.as_deref(), Some("only read-only clients are served"));
    }
}
