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

use std::{
    convert::Infallible,
    sync::Arc,
    task::{self, Poll},
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use crate::{db::Database, health::Health, shutdown::Shutdown};
use keys::Keys;

mod answers;
pub mod auth;
pub mod caller;
mod cors;
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

/// The whole API, as a service to be served. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Api(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    keys: Arc<Keys>,
    /// By itself: what a router and its layers copy for every request is much of what a small one costs.
    rest: Option<rest::Service>,
    answers: Arc<answers::Answers>,
    others: Router,
}

/// Where the REST service is.
const REST: &str = "/rest/v1";

/// Starts the whole API, and in the background what its services need; that ends with the context's shutdown.
///
/// # Errors
/// When a service cannot start at all. One that waits for the database starts, and says so in `/health`.
pub async fn start(context: Context, services: Services) -> anyhow::Result<Api> {
    let mut others = Router::new();
    let answers = Arc::<answers::Answers>::default();
    if let Some(settings) = services.auth {
        others = others.nest("/auth/v1", auth::router(context.clone(), settings).await?);
    }
    let rest = services
        .rest
        .map(|settings| rest::Service::start(context.clone().into(), settings));
    if let Some(settings) = services.storage {
        others = others.nest("/storage/v1", storage::router(context.clone(), settings).await?);
    }
    if let Some(settings) = services.realtime {
        let service = realtime::router(context.clone(), settings, Arc::clone(&answers)).await?;
        others = others.nest("/realtime/v1", service);
    }
    let others = others
        .route("/health", get(health).with_state(context.health))
        .merge(metrics::router(&context.database, Arc::clone(&context.keys)))
        .fallback(no_route);
    Ok(Api(Arc::new(Parts {
        keys: context.keys,
        rest: rest.transpose()?,
        answers,
        others,
    })))
}

impl tower::Service<Request> for Api {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let parts = Arc::clone(&self.0);
        Box::pin(async move { Ok(parts.answer(request).await) })
    }
}

impl Parts {
    async fn answer(&self, mut request: Request) -> Response {
        if let Some(answer) = cors::preflight(&request) {
            return answer;
        }
        // The request's API key becomes the token it stands for, as in Supabase's gateway: behind it services look at
        // `Authorization` alone.
        if let Some(authorization) = self.keys.authorization(request.headers()) {
            request.headers_mut().insert(header::AUTHORIZATION, authorization);
        }
        let mut response = log::request(request, |request| self.dispatch(request)).await;
        cors::share(response.headers_mut());
        response
    }

    async fn dispatch(&self, request: Request) -> Response {
        if let Some(rest) = &self.rest
            && rest::is_below(request.uri().path(), REST)
        {
            return answers::note(&self.answers, request, |request| rest.answer(request, REST)).await;
        }
        self.others.clone().oneshot(request).await.into_response()
    }
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
