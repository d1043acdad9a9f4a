//! `GET /metrics` for whoever shows the service key: figures of the desk are nobody else's.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::keys::Keys;
use crate::{db::Database, metrics::Scraper};

pub(super) fn router(database: &Database, keys: Arc<Keys>) -> Router {
    let scraper = Scraper::new(database);
    Router::new().route("/metrics", get(answer).with_state((scraper, keys)))
}

async fn answer(State((scraper, keys)): State<(Scraper, Arc<Keys>)>, headers: HeaderMap) -> Response {
    if is_service(&keys, &headers) {
        scraper.scrape().await
    } else {
        let body = json!({ "message": "the service key is needed, as the bearer token or as apikey" });
        (StatusCode::UNAUTHORIZED, Json(body)).into_response()
    }
}

/// Whether these headers show a token of role `service_role`, or the key that stands for it.
fn is_service(keys: &Keys, headers: &HeaderMap) -> bool {
    let shown = keys
        .authorization(headers)
        .or_else(|| headers.get(header::AUTHORIZATION).cloned());
    let Some(shown) = shown.as_ref().and_then(|value| value.to_str().ok()) else {
        return false;
    };
    keys.verify(shown.strip_prefix("Bearer ").unwrap_or(shown))
        .is_ok_and(|claims| claims.role() == Some("service_role") && !claims.expired(0))
}
