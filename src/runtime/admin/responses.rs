//! The forms of HTTP responses.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::commands::Fields;
use super::json;

/// The fields, followed by `command` and `error`, which every answer has.
pub(super) fn answer(status: StatusCode, command: &str, mut fields: Fields, error: Option<String>) -> Response {
    fields.insert("command".into(), command.into());
    if !fields.contains_key("error") {
        fields.insert("error".into(), error.map_or(Value::Null, Value::from));
    }
    let kind = HeaderValue::from_static("application/json");
    (status, [(CONTENT_TYPE, kind)], json::print(&Value::Object(fields))).into_response()
}

/// A response with plain text.
pub(super) fn text(status: StatusCode, body: String) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=utf-8"))], Body::from(body)).into_response()
}

/// The response to a wrong method.
pub(super) fn not_allowed(allowed: &'static str) -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, HeaderValue::from_static(allowed))]).into_response()
}
