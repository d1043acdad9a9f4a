//! The API of a Supabase project on one port.
//!
//! | path | service |
//! | --- | --- |
//! | `/auth/v1` | [`auth`]: users, sessions, tokens |
//! | `/rest/v1` | [`rest`]: tables and functions, as PostgREST serves them |
//! | `/realtime/v1` | [`realtime`]: changes, broadcast and presence over websockets |
//! | `/storage/v1` | [`storage`]: buckets and files |
//! | `/health` | what works and what does not |
//! | `/metrics` | what monitoring reads, with the service key |
//!
//! The services do not name each other. What they share sits beside them: [`keys`] (API keys, tokens), [`caller`]
//! (claims → role) and [`answers`] (who waits for one).

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderName, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Map, Value, json};
use tower::ServiceExt;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::{db::Database, health::Health, shutdown::Shutdown};
use keys::Keys;

mod answers;
pub mod auth;
pub mod caller;
pub mod keys;
mod log;
mod metrics;
pub mod realtime;
pub mod rest;
pub mod storage;
pub mod verifier;

/// What every service is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where the data is.
    pub database: Database,
    /// API keys and the secret that signs tokens.
    pub keys: Arc<Keys>,
    /// The address clients use, without a trailing slash: `http://127.0.0.1:54321`.
    pub public_url: String,
    /// When to stop, and whom to tell.
    pub shutdown: Shutdown,
    /// Where a service says how it is.
    pub health: Health,
}

/// Which services to run, each with its settings; `None` leaves its paths unserved (404).
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// `/auth/v1`
    pub auth: Option<auth::Settings>,
    /// `/rest/v1`
    pub rest: Option<rest::Settings>,
    /// `/realtime/v1`
    pub realtime: Option<realtime::Settings>,
    /// `/storage/v1`
    pub storage: Option<storage::Settings>,
}

/// The whole API. Starts what the services need in the background; it ends with the context's shutdown.
///
/// # Errors
/// When a service cannot start at all. One that waits for the database starts, and says so in `/health`.
pub async fn router(context: Context, services: Services) -> anyhow::Result<Router> {
    let mut api = Router::new();
    let answers = Arc::<answers::Answers>::default();
    if let Some(settings) = services.auth {
        api = api.nest("/auth/v1", auth::router(context.clone(), settings).await?);
    }
    if let Some(settings) = services.rest {
        // As a service, because `/rest/v1/` is a resource of its own.
        let service = rest::router(context.clone().into(), settings)?;
        let note = middleware::from_fn_with_state(Arc::clone(&answers), answers::note);
        api = api.nest_service("/rest/v1", service.layer(note));
    }
    if let Some(settings) = services.storage {
        api = api.nest("/storage/v1", storage::router(context.clone(), settings).await?);
    }
    if let Some(settings) = services.realtime {
        api = api.nest(
            "/realtime/v1",
            realtime::router(context.clone(), settings, answers).await?,
        );
    }
    let api = api
        // One layer for all that every request meets: each copies the ones below it for every request.
        .layer(middleware::from_fn_with_state(Arc::clone(&context.keys), enter))
        .route("/health", get(health).with_state(context.health))
        .merge(metrics::router(&context.database, context.keys))
        .fallback(no_route);
    let plain = api.clone();
    Ok(api
        .layer(cors())
        .layer(middleware::from_fn_with_state(plain, pass_options)))
}

/// `CorsLayer` takes every OPTIONS for a preflight; one that is none goes to the service, which may tell what can be
/// done there.
async fn pass_options(State(plain): State<Router>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let preflight = headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if request.method() == Method::OPTIONS && !preflight {
        return plain.oneshot(request).await.into_response();
    }
    next.run(request).await
}

/// Turns the request's API key into the token it stands for, as Supabase's gateway does: behind it services
/// look at `Authorization` alone.
async fn enter(State(keys): State<Arc<Keys>>, mut request: Request, next: Next) -> Response {
    if let Some(authorization) = keys.authorization(request.headers()) {
        request.headers_mut().insert(header::AUTHORIZATION, authorization);
    }
    log::request(request, next).await
}

async fn health(State(health): State<Health>) -> Response {
    let report = health.report();
    let ready = report.values().all(Result::is_ok);
    let parts: Map<String, Value> = report
        .into_iter()
        .map(|(name, state)| (name.to_owned(), state.err().map_or_else(|| "ok".into(), Value::from)))
        .collect();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let word = if ready { "ok" } else { "unavailable" };
    (
        status,
        Json(json!({ "status": word, "version": env!("CARGO_PKG_VERSION"), "parts": parts })),
    )
        .into_response()
}

async fn no_route() -> Response {
    (
        StatusCode::NOT_FOUND,
        Json(json!({ "message": "no Route matched with those values" })),
    )
        .into_response()
}

/// Any origin may call: rights come from tokens, never from where a page was served. Requested headers are
/// echoed because supabase-js adds new ones with its releases.
fn cors() -> CorsLayer {
    let exposed = [
        "content-range",
        "content-location",
        "content-profile",
        "location",
        "link",
        "preference-applied",
        "proxy-status",
        "range-unit",
        "x-total-count",
        "x-supabase-api-version",
        "x-sb-error-code",
    ];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(std::time::Duration::from_secs(86_400))
}
