//! `/rest/v1`: tables, views and functions over HTTP, as PostgREST serves them.
//!
//! A request goes one way through these modules; nothing later changes what an earlier one decided:
//!
//! ```text
//! identity ─▶ parse ─▶ plan (with catalog) ─▶ sql ─▶ one transaction ─▶ reply
//! ```
//!
//! - [`settings`]: how the service behaves
//! - [`identity`]: whose token, and so which database role
//! - [`parse`]: what the request says
//! - [`catalog`]: what the database offers, kept current
//! - [`plan`]: what the request means there
//! - [`sql`]: the one statement it becomes; every body is made by Postgres
//! - [`serve`]: the order of all this, for each method
//! - [`transaction`]: settings and statement, sent together
//! - [`reply`]: status and headers
//! - [`openapi`], [`media`]: the API's description; which media types there are
//! - [`cors`]: which pages may call
//! - [`metrics`]: what monitoring reads
//! - [`error`](mod@error): refusals

use std::{
    convert::Infallible,
    sync::Arc,
    task::{self, Poll},
};

use axum::{extract::Request, response::Response};
use futures_util::future::BoxFuture;

pub use self::metrics::Metrics;
pub use self::settings::{OpenApiMode, Settings, TxEnd, Verbosity};
use self::{
    catalog::watch::{Current, Loads, Watch},
    serve::App,
};
use super::{Context, verifier::Verifier};
use crate::{
    db::{Database, Login, session::Pool},
    health::Health,
    shutdown::Shutdown,
};

pub mod catalog;
mod cors;
pub mod error;
mod identity;
mod media;
mod metrics;
mod openapi;
pub mod parse;
mod plan;
mod reply;
mod serve;
pub mod settings;
mod sql;
mod transaction;

/// Where a Supabase project has the service.
const SUPABASE: &str = "/rest/v1";

/// What the service works with, on a Supabase project or any other database.
#[derive(Clone, Debug)]
pub struct Place {
    /// The database.
    pub database: Database,
    /// What verifies tokens where the settings do not say.
    pub verifier: Option<Arc<Verifier>>,
    /// The address at which clients reach the service.
    pub public_url: String,
    /// When to stop, and whom to tell.
    pub shutdown: Shutdown,
    /// Where to say how it goes.
    pub health: Health,
}

impl From<Context> for Place {
    fn from(context: Context) -> Self {
        Self {
            database: context.database,
            verifier: Some(Arc::clone(&context.keys.verifier)),
            public_url: format!("{}/rest/v1", context.public_url),
            shutdown: context.shutdown,
            health: context.health,
        }
    }
}

/// The service. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Service(Arc<App>);

impl Service {
    /// Starts the service, for a gateway that says which pages may call.
    ///
    /// # Errors
    /// When the sessions' settings or the tokens' secret cannot be used. A database that is away is waited for, and
    /// `/health` says so.
    pub fn start(place: Place, settings: Settings) -> anyhow::Result<Self> {
        let database = if settings.db_prepared_statements {
            place.database
        } else {
            place.database.unprepared()
        };
        let pool =
            Pool::new(&database, Login::Authenticator, settings.db_pool)?.waiting(settings.db_pool_acquisition_timeout);
        let current = Current::new(&settings, place.verifier.as_ref())?;
        let max_body = settings.max_body;
        let loads = Loads::default();
        let watch = Watch {
            loads: loads.clone(),
            database,
            settings,
            verifier: place.verifier,
            current: current.clone(),
            pool: pool.clone(),
            part: place.health.part("rest"),
            shutdown: place.shutdown.clone(),
        };
        place.shutdown.spawn(watch.run());
        Ok(Self(Arc::new(App {
            pool,
            current,
            loads,
            public_url: place.public_url,
            max_body,
        })))
    }

    /// Answers a request whose path begins with `prefix`.
    pub async fn answer(&self, request: Request, prefix: &str) -> Response {
        serve::answer(&self.0, request, prefix).await
    }
}

/// Whether a path is a service's, or one below it.
pub fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The service by itself: at the paths of a PostgREST, and of a Supabase project.
#[derive(Clone, Debug)]
pub struct Alone(Service);

impl Alone {
    /// Starts it.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn start(place: Place, settings: Settings) -> anyhow::Result<Self> {
        Ok(Self(Service::start(place, settings)?))
    }

    /// What monitoring reads of it.
    pub fn metrics(&self) -> Metrics {
        let App {
            pool, current, loads, ..
        } = &*self.0.0;
        Metrics {
            pool: pool.clone(),
            current: current.clone(),
            loads: loads.clone(),
        }
    }
}

impl tower::Service<Request> for Alone {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self(service) = self.clone();
        Box::pin(async move {
            let prefix = if is_below(request.uri().path(), SUPABASE) {
                SUPABASE
            } else {
                ""
            };
            Ok(cors::answer(&service.0, request, |request| service.answer(request, prefix)).await)
        })
    }
}
