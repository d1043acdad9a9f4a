//! The database: where it is, who logs in, and what is kept in it.
//!
//! - [`migrations`]: the product's schema, one ledger shared with the Supabase CLI
//! - [`platform`]: what a Supabase project has and a bare Postgres lacks
//! - [`session`]: a session of our own for statements whose settings travel with them

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use sqlx::{
    ConnectOptions, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::config::Secret;

pub mod migrations;
pub mod platform;
pub mod session;

/// Who logs in. The names are those of a Supabase project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// A superuser of ours where Postgres is ours, else the user of the given URL: platform SQL, replication.
    Admin,
    /// The owner of the product's schema: migrations, worker.
    Owner,
    /// The role that becomes the caller's: REST, and realtime's visibility checks.
    Authenticator,
    /// The owner of schema `auth`.
    Auth,
    /// The owner of schema `storage`; may become the caller's role.
    Storage,
}

/// A database, before anybody logged in to it.
#[derive(Clone, Debug)]
pub struct Database {
    options: PgConnectOptions,
    /// The password of every login; sqlx does not give back the one in its options.
    password: Option<Secret>,
    /// The file of certificates that the URL's `sslrootcert` names; sqlx does not give that back either.
    root_certificate: Option<PathBuf>,
    logins: Logins,
    /// False where sessions change hands between transactions, as behind a pooler.
    prepares: bool,
}

/// Which roles there are to log in as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Logins {
    /// Those of the platform, without a password over the private socket of our own Postgres.
    Embedded,
    /// Those of a Supabase project.
    Project,
    /// The user of the URL alone.
    Given,
}

impl Database {
    /// The database a URL names, `postgres://user:password@host:port/database`. The user is [`Login::Admin`] and
    /// [`Login::Owner`]; platform roles log in with the same password, as on a self-hosted Supabase.
    ///
    /// # Errors
    /// When the URL cannot be parsed.
    pub fn from_url(url: &str) -> sqlx::Result<Self> {
        let options = url.parse()?;
        let url = url::Url::parse(url).ok();
        let password = url
            .as_ref()
            .and_then(|url| Some(percent_decode_str(url.password()?).decode_utf8_lossy().into_owned()));
        let root_certificate = url.as_ref().and_then(|url| {
            url.query_pairs()
                .find_map(|(name, value)| (name == "sslrootcert").then(|| PathBuf::from(&*value)))
        });
        Ok(Self {
            options,
            password: password.map(Secret::from),
            root_certificate,
            logins: Logins::Project,
            prepares: true,
        })
    }

    /// The database `postgres` of a server of ours, by the directory and port of its Unix socket.
    pub fn embedded(socket_directory: &Path, port: u16) -> Self {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(socket_directory)
            .port(port)
            .database("postgres");
        Self {
            options,
            password: None,
            root_certificate: None,
            logins: Logins::Embedded,
            prepares: true,
        }
    }

    /// The same database, with everybody logged in as the URL's user: it need not be a Supabase project.
    #[must_use]
    pub fn as_given(self) -> Self {
        Self {
            logins: Logins::Given,
            ..self
        }
    }

    /// The same database, where no statement stays prepared: a pooler may give each transaction another session.
    #[must_use]
    pub fn unprepared(self) -> Self {
        Self {
            options: self.options.statement_cache_capacity(0),
            prepares: false,
            ..self
        }
    }

    /// The same server, another database.
    #[must_use]
    pub fn named(&self, database: &str) -> Self {
        Self {
            options: self.options.clone().database(database),
            ..self.clone()
        }
    }

    /// Whether this is a server of ours.
    pub fn is_embedded(&self) -> bool {
        self.logins == Logins::Embedded
    }

    /// What a login needs, for sqlx.
    pub fn options(&self, login: Login) -> PgConnectOptions {
        let options = self
            .options
            .clone()
            .application_name("switchboard")
            .log_statements(tracing::log::LevelFilter::Trace);
        match login {
            _ if self.logins == Logins::Given => options,
            Login::Admin if self.is_embedded() => options.username("supabase_admin"),
            Login::Owner if self.is_embedded() => options.username("postgres"),
            Login::Admin | Login::Owner => options,
            Login::Authenticator => options.username("authenticator"),
            Login::Auth => options.username("supabase_auth_admin"),
            Login::Storage => options.username("supabase_storage_admin"),
        }
    }

    /// Whether statements may stay prepared from one transaction to the next.
    pub(crate) fn prepares(&self) -> bool {
        self.prepares
    }

    /// The password the logins share, for clients other than sqlx; none on our own server's private socket.
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// A file of certificates trusted besides the public ones.
    pub(crate) fn root_certificate(&self) -> Option<&Path> {
        self.root_certificate.as_deref()
    }

    /// One connection.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses the login.
    pub async fn connect(&self, login: Login) -> sqlx::Result<PgConnection> {
        self.options(login).connect().await
    }

    /// A pool that connects when first used and waits at most ten seconds for a free connection.
    pub fn pool(&self, login: Login, max_connections: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(std::time::Duration::from_secs(10))
            .connect_lazy_with(self.options(login))
    }
}
