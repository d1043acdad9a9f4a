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

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, middleware};

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

/// The service's routes, without a prefix, for a gateway that says which pages may call.
///
/// # Errors
/// When the sessions' settings or the tokens' secret cannot be used. A database that is away is waited for, and `/health` says so.
pub fn router(place: Place, settings: Settings) -> anyhow::Result<Router> {
    Ok(routes(app(place, settings)?.0))
}

/// The service by itself, and what monitoring reads of it.
#[derive(Debug)]
pub struct Alone {
    /// Its routes, at the paths of a PostgREST and of a Supabase project.
    pub router: Router,
    /// What it did.
    pub metrics: Metrics,
}

/// The service by itself.
///
/// # Errors
/// As [`router`].
pub fn alone(place: Place, settings: Settings) -> anyhow::Result<Alone> {
    let (app, metrics) = app(place, settings)?;
    let routes = routes(Arc::clone(&app));
    let router = Router::new()
        .nest_service("/rest/v1", routes.clone())
        .fallback_service(routes)
        .layer(middleware::from_fn_with_state(app, cors::answer));
    Ok(Alone { router, metrics })
}

fn routes(app: Arc<App>) -> Router {
    Router::new()
        .fallback(serve::answer)
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

fn app(place: Place, settings: Settings) -> anyhow::Result<(Arc<App>, Metrics)> {
    let database = if settings.db_prepared_statements {
        place.database
    } else {
        place.database.unprepared()
    };
    let pool =
        Pool::new(&database, Login::Authenticator, settings.db_pool)?.waiting(settings.db_pool_acquisition_timeout);
    let current = Current::new(&settings, place.verifier.as_ref())?;
    let max_body = settings.max_body;
    let metrics = Metrics {
        pool: pool.clone(),
        current: current.clone(),
        loads: Loads::default(),
    };
    let watch = Watch {
        loads: metrics.loads.clone(),
        database,
        settings,
        verifier: place.verifier,
        current: current.clone(),
        pool: pool.clone(),
        part: place.health.part("rest"),
        shutdown: place.shutdown.clone(),
    };
    place.shutdown.spawn(watch.run());
    let app = App {
        pool,
        current,
        public_url: place.public_url,
        max_body,
    };
    Ok((Arc::new(app), metrics))
}
