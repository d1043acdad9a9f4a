//! `/auth/v1`: users, their sessions and tokens, as Supabase's auth service speaks.
//!
//! | route | module |
//! | --- | --- |
//! | `POST /signup` | [`signup`] |
//! | `POST /token` | [`token`] |
//! | `GET`, `PUT /user` | [`account`] |
//! | `POST /logout` | [`logout`] |
//! | `/verify` | [`verify`] |
//! | `/admin/users`, `/admin/generate_link` | [`admin`] |
//! | `/settings`, `/health`, `/.well-known` | [`info`] |
//! | what Supabase has and this server has not | [`elsewhere`] |
//!
//! A route reads its [`request`] and the [`bearer`] of its token, changes a [`user`] or a [`session`], and answers
//! with one of them or an [`error`]. No mail is sent, so an address counts as confirmed
//! when it is given; whoever holds the service key can have links made, and send them himself.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::{Context, keys::Keys};
use crate::{db::Login, health::Part, shutdown::Shutdown};
use error::Error;
use password::Passwords;
use redirect::Destinations;
pub use settings::Settings;

mod account;
mod address;
mod admin;
mod audit;
mod bearer;
mod elsewhere;
mod error;
mod info;
mod logout;
mod one_time;
mod password;
mod pkce;
mod redirect;
mod request;
mod session;
mod settings;
mod signup;
mod token;
mod user;
mod verify;

/// Whom tokens are for, unless a request says otherwise.
const AUDIENCE: &str = "authenticated";
/// A request that takes longer is answered without its result.
const DEADLINE: Duration = Duration::from_secs(10);

/// What every route is given.
#[derive(Clone, Debug)]
struct Auth(Arc<Service>);

#[derive(Debug)]
struct Service {
    pool: PgPool,
    keys: Arc<Keys>,
    settings: Settings,
    passwords: Passwords,
    destinations: Destinations,
    /// Who issues tokens: the service's own address.
    issuer: String,
}

impl std::ops::Deref for Auth {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.0
    }
}

/// The service's routes, without the prefix `/auth/v1`.
///
/// # Errors
/// When the system has no random numbers. A database that does not answer shows in `/health`.
pub async fn router(context: Context, settings: Settings) -> anyhow::Result<Router> {
    let options = context.database.options(Login::Auth).options([
        ("search_path", "auth"),
        // times are read as text
        ("timezone", "UTC"),
        // both within the deadline, so that no statement outlives its request
        ("lock_timeout", "5s"),
        ("statement_timeout", "8s"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(settings.connections)
        .acquire_timeout(Duration::from_secs(8))
        .connect_lazy_with(options);
    let part = context.health.part("auth");
    let stop = context.shutdown.clone();
    context.shutdown.spawn(watch(pool.clone(), part, stop));
    let auth = Auth(Arc::new(Service {
        pool,
        keys: context.keys,
        destinations: Destinations::new(settings.site_url.clone(), settings.redirect_urls.clone()),
        settings,
        passwords: Passwords::new().await.context("prepare to hash passwords")?,
        issuer: format!("{}/auth/v1", context.public_url),
    }));
    Ok(Router::new()
        .route("/signup", post(signup::sign_up))
        .route("/token", post(token::token))
        .route("/user", get(account::show).put(account::update))
        .route("/logout", post(logout::logout))
        .route("/verify", get(verify::follow).post(verify::redeem))
        .route("/settings", get(info::settings))
        .route("/health", get(info::health))
        .route("/.well-known/jwks.json", get(info::jwks))
        .route("/.well-known/openid-configuration", get(info::openid))
        .nest("/admin", admin::router())
        .merge(elsewhere::router())
        .fallback(|| async { Error::NoRoute })
        .method_not_allowed_fallback(|| async { Error::NoMethod })
        .layer(DefaultBodyLimit::max(request::MAX_BODY))
        .layer(middleware::from_fn(within_deadline))
        .layer(middleware::from_fn(error::answer_in_version))
        .with_state(auth))
}

async fn within_deadline(request: Request, next: Next) -> Response {
    tokio::time::timeout(DEADLINE, next.run(request))
        .await
        .unwrap_or_else(|_| Error::Timeout.into_response())
}

/// Says how the service is: whether its tables answer.
async fn watch(pool: PgPool, part: Part, stop: Shutdown) {
    const PAUSE: Duration = Duration::from_secs(5);
    loop {
        match sqlx::query("select from users limit 1").fetch_optional(&pool).await {
            Ok(_) => part.ready(),
            Err(error) => {
                tracing::warn!(error = %error, "auth cannot use its tables");
                part.failing("the database does not answer, or lacks the schema auth");
            }
        }
        tokio::select! {
            () = stop.started() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
