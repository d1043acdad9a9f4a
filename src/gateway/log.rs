//! One line for each request: what was asked of which service, how it went, how long it took.

use std::{any::Any, panic::AssertUnwindSafe, time::Instant};

use axum::{
    Json,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use serde_json::json;

/// How much of a path is logged: a service, its version and what was addressed in it, no ids and no names of files.
const SEGMENTS: usize = 3;

/// What is about the gateway itself.
const OWN: [&str; 2] = ["/health", "/metrics"];

/// Has the request answered and logs it: at `debug`, and at `warn` when the fault is ours. Questions after the
/// gateway's own state are not logged, for monitoring asks them all the time.
pub async fn request<A: Future<Output = Response>>(request: Request, answer: impl FnOnce(Request) -> A) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let begin = Instant::now();
    let answer = AssertUnwindSafe(answer(request)).catch_unwind();
    let response = answer.await.unwrap_or_else(panicked);
    if OWN.contains(&uri.path()) {
        return response;
    }
    let status = response.status().as_u16();
    let duration_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    if response.status().is_server_error() {
        tracing::warn!(%method, path = start_of(uri.path()), status, duration_ms, "request failed");
    } else {
        tracing::debug!(%method, path = start_of(uri.path()), status, duration_ms, "request");
    }
    response
}

/// The answer when a handler panicked: a fault of ours, which costs its own request and no other.
pub fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let reason = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    tracing::error!(reason, "a request panicked");
    let body = json!({ "message": "An unexpected error occurred; the server's log has more" });
    (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
}

fn start_of(path: &str) -> String {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    segments
        .take(SEGMENTS)
        .fold(String::new(), |start, segment| start + "/" + segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_and_ids_of_users_are_not_logged() {
        assert_eq!(start_of("/rest/v1/chat_messages"), "/rest/v1/chat_messages");
        assert_eq!(
            start_of("/storage/v1/object/public/b/Ada's diagnosis.pdf"),
            "/storage/v1/object"
        );
        assert_eq!(start_of("/auth/v1/admin/users/ada"), "/auth/v1/admin");
        assert_eq!(start_of("/"), "");
    }

    #[tokio::test]
    async fn a_panic_is_a_fault_of_ours_and_tells_the_client_nothing() {
        let panics: [Box<dyn Any + Send>; 3] = [Box::new("hush"), Box::new(String::from("hush")), Box::new(7)];
        for panic in panics {
            let answer = panicked(panic);
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let body = axum::body::to_bytes(answer.into_body(), 1 << 10).await.unwrap();
            assert!(!body.is_empty() && !String::from_utf8_lossy(&body).contains("hush"));
        }
    }
}
