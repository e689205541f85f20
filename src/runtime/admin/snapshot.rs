//! The `snapshot` command: takes a snapshot and sends the file. Mirrors `Commands.SnapshotCommand`.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::commands::Fields;
use super::query::argument;
use super::responses::answer;
use super::state::AdminState;
use crate::runtime::settings;
use crate::txnlog::names::snapshot_name;
use crate::types::{CLIENT_LOG, Zxid};

const COMMAND: &str = "snapshot";

/// How long to wait for a snapshot.
const PATIENCE: Duration = Duration::from_secs(600);

/// Bytes that are read from the file at once, and pieces that are read ahead of a slow client.
const PIECE: usize = 64 << 10;
const PIECES: usize = 4;

/// Takes a snapshot and, unless `streaming=false`, sends it. The caller has checked the authorization.
pub(super) async fn serve(state: Arc<AdminState>, query: &str) -> Response {
    if !state.config.admin.snapshot {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "Snapshot command is disabled (admin.snapshot.enabled)");
    }
    if !state.config.storage.serialize_last_processed_zxid {
        let why = "Snapshot command requires serializeLastProcessedZxid.enabled";
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, why);
    }
    if !is_due(&state) {
        state.snapshots_limited.fetch_add(1, Ordering::Relaxed);
        let why = "Snapshot commands come faster than admin.rateLimiterIntervalInMS allows";
        return refuse(StatusCode::TOO_MANY_REQUESTS, why);
    }
    match take(&state).await {
        Ok((zxid, file)) => match send(&state, zxid, file, argument(query, "streaming") != Some("false")).await {
            Ok(response) => response,
            Err(e) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("the snapshot cannot be read: {e}")),
        },
        Err(why) => {
            state.snapshots_failed.fetch_add(1, Ordering::Relaxed);
            tracing::error!(target: CLIENT_LOG, why, "the snapshot command failed");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, &why)
        }
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    answer(status, COMMAND, Fields::new(), Some(why.to_owned()))
}

/// Allows one command per interval; refused commands do not count.
fn is_due(state: &AdminState) -> bool {
    let interval = Duration::from_millis(state.config.admin.rate_limit_ms.max(0) as u64);
    let mut last = state.last_snapshot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let due = last.is_none_or(|at| at.elapsed() >= interval);
    if due {
        *last = Some(Instant::now());
    }
    due
}

/// Waits for a snapshot with everything that was applied at the time of the request, and opens its file before a purge
/// can remove it.
async fn take(state: &AdminState) -> Result<(Zxid, File), String> {
    let (reply, answer) = oneshot::channel();
    state.shared.snapshot(reply);
    let zxid = match timeout(PATIENCE, answer).await {
        Ok(Ok(taken)) => taken.map_err(|refused| refused.to_string())?,
        Ok(Err(_)) => return Err("the server is stopping".into()),
        Err(_) => return Err(format!("no snapshot was written within {} seconds", PATIENCE.as_secs())),
    };
    let name = snapshot_name(zxid, settings::snapshot(&state.config).compression);
    let path: PathBuf = state.config.data_dir.join("version-2").join(name);
    File::open(&path).map(|file| (zxid, file)).map_err(|e| format!("{}: {e}", path.display()))
}

async fn send(state: &AdminState, zxid: Zxid, file: File, streaming: bool) -> io::Result<Response> {
    let size = file.metadata()?.len();
    let mut response = if streaming {
        let (to, pieces) = mpsc::channel(PIECES);
        state.start_thread(move || read(file, &to)).await?;
        let mut response = Response::new(Body::from_stream(Pieces(pieces)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        response.headers_mut().insert(CONTENT_LENGTH, size.into());
        response
    } else {
        answer(StatusCode::OK, COMMAND, Fields::new(), None)
    };
    let zxid = HeaderValue::try_from(zxid.to_string()).map_err(io::Error::other)?;
    response.headers_mut().insert(HeaderName::from_static("last_zxid"), zxid);
    response.headers_mut().insert(HeaderName::from_static("snapshot_size"), size.into());
    Ok(response)
}

/// Ends at the end of the file, with an error (which aborts the response), or when the client is gone.
fn read(mut file: File, to: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut piece = vec![0; PIECE];
        match file.read(&mut piece) {
            Ok(0) => return,
            Ok(n) => {
                piece.truncate(n);
                if to.blocking_send(Ok(piece.into())).is_err() {
                    return;
                }
            }
            Err(e) => {
                // The client may be gone.
                let _ = to.blocking_send(Err(e));
                return;
            }
        }
    }
}

/// The file's pieces as they are read.
struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl futures_core::Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.0.poll_recv(cx)
    }
}
