//! `serve --services rest` on somebody's database: what a PostgREST does there, under PostgREST's names.

use std::{
    env,
    ffi::OsString,
    net::{SocketAddr, ToSocketAddrs},
};

use anyhow::Context as _;
use axum::{Router, http::StatusCode, routing::get};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::{listen, misuse, misuse::Misuse, signals};
use crate::{
    db::{Database, migrations::Migrations},
    gateway::rest::{
        self, Place, Settings,
        settings::{Setting, TABLE},
    },
    health::Health,
    shutdown::Shutdown,
};

const HEADING: &str = "REST, under PostgREST's names";
/// The option of this name is that of the deployment's keys.
const SHARED: &str = "jwt_secret";
const PREFIX: &str = "PGRST_";
const APP_SETTINGS: &str = "PGRST_APP_SETTINGS_";

/// Where a PostgREST is told where to be.
#[derive(Debug, Args)]
#[command(next_help_heading = "REST alone, standing in for PostgREST")]
pub struct PlaceArgs {
    /// Same as --database-url, with --services rest
    #[arg(
        long,
        env = "PGRST_DB_URI",
        hide_env_values = true,
        hide_short_help = true,
        value_name = "URL"
    )]
    db_uri: Option<String>,
    /// Where to serve, instead of --listen; `*` and `!4` are all addresses
    #[arg(long, env = "PGRST_SERVER_HOST", hide_short_help = true, value_name = "HOST")]
    server_host: Option<String>,
    /// And on which port [default: 3000]
    #[arg(long, env = "PGRST_SERVER_PORT", hide_short_help = true, value_name = "PORT")]
    server_port: Option<u16>,
    /// Where to serve /live, /ready and /metrics [default: --server-host]
    #[arg(long, env = "PGRST_ADMIN_SERVER_HOST", hide_short_help = true, value_name = "HOST")]
    admin_server_host: Option<String>,
    /// And on which port; without one they are not served
    #[arg(long, env = "PGRST_ADMIN_SERVER_PORT", hide_short_help = true, value_name = "PORT")]
    admin_server_port: Option<u16>,
}

impl PlaceArgs {
    /// The database's URL, read from a file where it is `@` and a path.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn database_url(&self) -> anyhow::Result<Option<String>> {
        self.db_uri.as_deref().map(text_or_file).transpose()
    }

    fn listen(&self, given: &[SocketAddr]) -> anyhow::Result<Vec<SocketAddr>> {
        match (&self.server_host, self.server_port) {
            (None, None) => Ok(given.to_vec()),
            (host, port) => addresses(host.as_deref(), port.unwrap_or(3_000)),
        }
    }

    fn admin(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let host = self.admin_server_host.as_deref().or(self.server_host.as_deref());
        self.admin_server_port
            .map_or(Ok(Vec::new()), |port| addresses(host, port))
    }
}

/// The addresses of a host as PostgREST names it.
fn addresses(host: Option<&str>, port: u16) -> anyhow::Result<Vec<SocketAddr>> {
    let host = match host.unwrap_or("!4") {
        "*" | "*4" | "!4" => "0.0.0.0",
        "*6" | "!6" => "::",
        host => host,
    };
    let found = (host, port).to_socket_addrs();
    let first = found.ok().and_then(|mut addresses| addresses.next());
    let first = first.ok_or_else(|| Misuse(format!("the host {host} has no address to serve on")))?;
    Ok(vec![first])
}

/// Settings of the REST service from the command line and the environment, in the order of the table.
#[derive(Debug)]
pub struct RestArgs(Vec<(String, String)>);

impl Args for RestArgs {
    fn augment_args(command: Command) -> Command {
        TABLE
            .iter()
            .filter(|setting| setting.name != SHARED)
            .fold(command, |command, setting| {
                command.arg(
                    Arg::new(setting.name)
                        .long(setting.name.replace('_', "-"))
                        .aliases(setting.formerly.map(|name| name.replace('_', "-")))
                        .env(variable(setting.name))
                        .value_name("VALUE")
                        .help(setting.about)
                        .help_heading(HEADING)
                        .hide_short_help(true),
                )
            })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RestArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |setting: &Setting| {
            let own = match setting.name {
                SHARED => env::var(variable(SHARED)).ok(),
                name => matches.get_one::<String>(name).cloned(),
            };
            let value = own.or_else(|| env::var(variable(setting.formerly?)).ok());
            value.map(|value| (setting.name.to_owned(), value))
        };
        let app_settings = env::vars_os().filter_map(|(name, value): (OsString, OsString)| {
            let name = name.to_str()?.strip_prefix(APP_SETTINGS)?.to_owned();
            Some((format!("app.settings.{name}"), value.into_string().ok()?))
        });
        Ok(Self(TABLE.iter().filter_map(given).chain(app_settings).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl RestArgs {
    /// These settings over others.
    ///
    /// # Errors
    /// [`Misuse`] when a value makes no sense.
    pub fn over(&self, mut settings: Settings) -> anyhow::Result<Settings> {
        for (name, value) in &self.0 {
            let value = if name == SHARED { &text_or_file(value)? } else { value };
            settings
                .set(name, value)
                .map_err(|reason| Misuse(format!("{} {reason}", variable(name))))?;
        }
        settings
            .verifier()
            .map_err(|reason| Misuse(format!("{} {reason}", variable(SHARED))))?;
        Ok(settings)
    }
}

/// Says which of PostgREST's variables do nothing here.
fn name_unknown() {
    let place = PlaceArgs::augment_args(Command::new("place"));
    let known = |name: &str| {
        let setting = name.trim_start_matches(PREFIX).to_lowercase();
        name.starts_with(APP_SETTINGS)
            || TABLE.iter().any(|known| known.is_named(&setting))
            || place
                .get_arguments()
                .any(|known| known.get_env().is_some_and(|own| own == name))
    };
    for (name, _) in env::vars_os() {
        if let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX) && !known(name)) {
            tracing::warn!("{name} does nothing here");
        }
    }
}

fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase())
}

/// What is given, or what is in the file that `@` and a path name.
fn text_or_file(text: &str) -> anyhow::Result<String> {
    let Some(path) = text.strip_prefix('@') else {
        return Ok(text.to_owned());
    };
    let content = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    Ok(content.trim_end().to_owned())
}

/// A stand-in, before it starts.
pub struct StandIn {
    /// The database's URL; its user is who logs in.
    pub database_url: String,
    /// Where to serve, if the options of PostgREST's do not say.
    pub listen: Vec<SocketAddr>,
    /// Those options.
    pub place: PlaceArgs,
    /// How the service behaves.
    pub settings: Settings,
    /// Migrations to apply first, if asked for.
    pub migrations: Option<Migrations>,
}

impl StandIn {
    /// Serves until asked to stop.
    ///
    /// # Errors
    /// When an address is taken or the URL is none. A database that is away is waited for.
    pub async fn run(self) -> anyhow::Result<()> {
        name_unknown();
        let database = Database::from_url(&self.database_url).map_err(misuse::database_url)?;
        let listeners = listen::bind(&self.place.listen(&self.listen)?, "--listen")?;
        let admin = listen::bind(&self.place.admin()?, "--admin-server-port")?;
        let shutdown = Shutdown::default();
        signals::stop_at_one(&shutdown);
        if let Some(migrations) = &self.migrations {
            super::serve::prepare(&database, Some(migrations)).await?;
        }
        let health = Health::default();
        let public_url = listen::local_url(listeners[0].local_addr()?);
        let place = Place {
            database: database.as_given(),
            verifier: None,
            public_url: public_url.clone(),
            shutdown: shutdown.clone(),
            health: health.clone(),
        };
        let service = rest::Alone::start(place, self.settings)?;
        let metrics = service.metrics();
        for listener in listeners {
            shutdown.spawn(listen::answer(listener, service.clone(), shutdown.clone()));
        }
        for listener in admin {
            let admin = checks(health.clone()).route("/metrics", get(metrics.clone()));
            shutdown.spawn(listen::answer(listener, admin, shutdown.clone()));
        }
        tracing::info!("serving REST alone at {public_url}");
        shutdown.started().await;
        if !shutdown.finished().await {
            tracing::warn!("some requests did not end in time");
        }
        Ok(())
    }
}

/// `/live` and `/ready`.
fn checks(health: Health) -> Router {
    let ready = move || {
        let report = health.report();
        async move {
            if report.values().all(Result::is_ok) {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    };
    Router::new()
        .route("/live", get(StatusCode::OK))
        .route("/ready", get(ready))
}
