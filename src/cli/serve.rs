//! `switchboard serve`: the whole backend in one process.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use clap::{ValueEnum, builder::FalseyValueParser};
use sqlx::Executor;
use tokio::{
    net::TcpListener,
    time::{interval, timeout},
};
use url::Url;

use super::{
    host::{DatabaseArgs, Host, set_password},
    keys::{self, KeyArgs},
    listen,
    running::{Output, Running},
    signals,
    stand_in::{PlaceArgs, RestArgs, StandIn},
};
use crate::{
    data_dir::{DataDir, Lock},
    db::{Database, Login, migrations::Migrations, platform},
    gateway::{self, Context, Services, keys::Keys},
    health::{Health, Part},
    shutdown::Shutdown,
    worker,
};

/// How often the database is asked whether it is there, and how long it may take to say so.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long the parts may take to come up before the URLs are printed all the same, with what is not ready.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  switchboard serve\n  switchboard serve --data-dir /srv/chat --listen \
                        127.0.0.1:8000\n  switchboard serve --database-url \
                        postgresql://supabase_admin:secret@db.example.com/postgres\n\nREST alone on a database of \
                        one's own is what PostgREST is there, and applies nothing to it:\n  switchboard serve \
                        --services rest --database-url postgresql://authenticator:secret@localhost/app --db-schemas api"
)]
pub struct Args {
    /// Folder for everything that is kept [default: /var/lib/switchboard for root, ~/.local/share/switchboard]
    #[arg(long, env = "SWITCHBOARD_DATA_DIR", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Address and port to serve the API on; may be given several times
    #[arg(
        long,
        env = "SWITCHBOARD_LISTEN",
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = "127.0.0.1:54321"
    )]
    listen: Vec<SocketAddr>,
    /// The URL at which clients reach the API [default: the first --listen]
    #[arg(long, env = "SWITCHBOARD_PUBLIC_URL", value_name = "URL")]
    public_url: Option<Url>,
    /// What to serve
    #[arg(
        long,
        env = "SWITCHBOARD_SERVICES",
        value_delimiter = ',',
        value_enum,
        default_value = "auth,rest,realtime,storage"
    )]
    services: Vec<Service>,
    /// This gateway's name among several on one database [default: made of the host's name and the public URL]
    #[arg(long, env = "SWITCHBOARD_NODE", value_name = "NAME")]
    node: Option<String>,
    /// The largest file that may be uploaded, in bytes; buckets may set less
    #[arg(long, env = "SWITCHBOARD_FILE_SIZE_LIMIT", value_name = "BYTES", default_value_t = 50 << 20)]
    file_size_limit: u64,
    /// Leave time, queues and clean-up to a `switchboard worker` elsewhere
    #[arg(long, env = "SWITCHBOARD_NO_WORKER", value_parser = FalseyValueParser::new())]
    no_worker: bool,
    #[command(flatten)]
    worker: worker::Settings,
    /// Leave the schema as it is
    #[arg(long, env = "SWITCHBOARD_NO_MIGRATE", value_parser = FalseyValueParser::new())]
    no_migrate: bool,
    /// Prepare the database and move its schema where REST alone is served, which else changes nothing
    #[arg(
        long,
        env = "SWITCHBOARD_MIGRATE",
        value_parser = FalseyValueParser::new(),
        conflicts_with = "no_migrate"
    )]
    migrate: bool,
    /// Migrations from this folder instead of those in the binary
    #[arg(
        long,
        env = "SWITCHBOARD_MIGRATIONS_DIR",
        value_name = "FOLDER",
        conflicts_with = "no_migrate"
    )]
    migrations_dir: Option<PathBuf>,
    #[command(flatten)]
    auth: gateway::auth::Settings,
    #[command(flatten)]
    realtime: gateway::realtime::Settings,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    keys: KeyArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    rest: RestArgs,
}

/// One of the API's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Service {
    Auth,
    Rest,
    Realtime,
    Storage,
}

impl Args {
    /// The database to be a PostgREST on: somebody's, and nothing else is served.
    fn stands_in_on(&self) -> anyhow::Result<Option<String>> {
        if self.services != [Service::Rest] {
            return Ok(None);
        }
        match &self.database.database_url {
            Some(url) => Ok(Some(url.clone())),
            None => self.place.database_url(),
        }
    }

    fn migrations(&self) -> anyhow::Result<Option<Migrations>> {
        Ok(match (&self.migrations_dir, self.no_migrate) {
            (_, true) => None,
            (Some(folder), _) => Some(Migrations::read(folder)?),
            (None, _) => Some(Migrations::embedded()?),
        })
    }
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let migrations = args.migrations()?;
    if let Some(database_url) = args.stands_in_on()? {
        let stand_in = StandIn {
            database_url,
            listen: args.listen,
            place: args.place,
            settings: args.rest.over(gateway::rest::Settings::postgrest())?,
            migrations: migrations.filter(|_| args.migrate),
        };
        return stand_in.run().await;
    }
    let rest = args.rest.over(gateway::rest::Settings::default())?;
    let keys = args.keys.resolve()?;
    if keys::are_public(&keys) {
        listen::must_be_loopback(&args.listen)?;
    }
    let path = args.data_dir.map_or_else(DataDir::default_path, Ok)?;
    let data = DataDir::open(&path)?;
    let lock = take(&data, args.database.database_url.is_none())?;
    let listeners = listen::bind(&args.listen, "--listen")?;

    let shutdown = Shutdown::default();
    signals::stop_at_one(&shutdown);
    let Some(mut host) = Host::open(&args.database, &data, &shutdown).await? else {
        return Ok(());
    };
    let (database, url) = (host.database.clone(), host.url.clone());
    let work = Box::pin(async {
        let prepared = async {
            prepare(&database, migrations.as_ref()).await?;
            if database.is_embedded() {
                set_password(&database, &args.database.db_password)
                    .await
                    .context("set the password of `postgres`")?;
            }
            anyhow::Ok(())
        };
        let Some(prepared) = shutdown.token().run_until_cancelled(prepared).await else {
            return Ok(());
        };
        prepared?;
        let api = Api {
            listeners,
            services: args.services,
            public_url: args.public_url,
            keys,
            auth: args.auth,
            rest,
            realtime: gateway::realtime::Settings {
                node: args.node,
                ..args.realtime
            },
            storage: gateway::storage::Settings {
                file_size_limit: args.file_size_limit,
                ..gateway::storage::Settings::in_folder(data.files()?)
            },
            worker: (!args.no_worker).then_some(args.worker),
        };
        api.serve(&url, lock.is_some().then_some(&data), &database, &shutdown)
            .await
    });
    let outcome = host.beside(work).await;

    shutdown.start();
    if !shutdown.finished().await {
        tracing::warn!("some requests did not end in time");
    }
    if lock.is_some() {
        Running::forget(&data);
    }
    let stopped = host.close().await;
    drop(lock);
    outcome.and(stopped)
}

/// Takes the data folder; `None` where another `serve` has it and only the database would be shared.
fn take(data: &DataDir, own_database: bool) -> anyhow::Result<Option<Lock>> {
    match data.lock()? {
        Ok(lock) => Ok(Some(lock)),
        Err(holder) if own_database => bail!(
            "another `switchboard serve` ({holder}) uses {}; stop it, or choose another --data-dir, --listen and --db-port",
            data.path().display()
        ),
        Err(holder) => {
            tracing::warn!(
                "{} is used by another `switchboard serve` ({holder}); `switchboard status` tells of that one",
                data.path().display()
            );
            Ok(None)
        }
    }
}

/// Makes the database what the API and the worker need.
///
/// # Errors
/// When it cannot be reached or may not be changed.
pub async fn prepare(database: &Database, migrations: Option<&Migrations>) -> anyhow::Result<()> {
    let outcome = platform::apply(database).await.map_err(explain)?;
    tracing::debug!(?outcome, "platform");
    if let Some(migrations) = migrations {
        migrations.apply(database).await.context("migrate the database")?;
    }
    Ok(())
}

fn explain(error: sqlx::Error) -> anyhow::Error {
    if let sqlx::Error::Io(error) = error {
        return anyhow::Error::new(error).context("cannot reach the database");
    }
    let refused = error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| code == "42501");
    let words = if refused {
        "this database is no Supabase project, and its user may not make it one; give a superuser's --database-url \
         once, or the URL of a Supabase project"
    } else {
        "cannot prepare the database"
    };
    anyhow::Error::new(error).context(words)
}

/// The API and the worker, before they start.
struct Api {
    listeners: Vec<TcpListener>,
    services: Vec<Service>,
    public_url: Option<Url>,
    keys: Keys,
    auth: gateway::auth::Settings,
    rest: gateway::rest::Settings,
    realtime: gateway::realtime::Settings,
    storage: gateway::storage::Settings,
    /// `None` where the worker runs elsewhere.
    worker: Option<worker::Settings>,
}

impl Api {
    /// Serves until asked to stop. `data` is where to leave word of it.
    async fn serve(
        self,
        database_url: &str,
        data: Option<&DataDir>,
        database: &Database,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let local_url = listen::local_url(self.listeners[0].local_addr()?);
        let running = Running {
            process: std::process::id(),
            values: self.values(&local_url, database_url),
            local_url,
        };
        let shown = if keys::are_public(&self.keys) && database.is_embedded() {
            running.clone()
        } else {
            running.without_secrets()
        };
        let health = Health::default();
        shutdown.spawn(watch(database.clone(), health.part("database"), shutdown.clone()));
        // its own storage, not by way of a proxy; one that runs elsewhere by the public URL
        let storage_url = if self.services.contains(&Service::Storage) {
            Some(Url::parse(&running.local_url)?)
        } else {
            self.public_url.clone()
        };
        let storage = storage_url.map(|url| worker::files::Storage {
            url,
            key: self.keys.service_role.clone(),
        });
        let context = Context {
            database: database.clone(),
            keys: Arc::new(self.keys),
            public_url: running.values["API_URL"].clone(),
            shutdown: shutdown.clone(),
            health: health.clone(),
        };
        let with = |service| self.services.contains(&service);
        let services = Services {
            auth: with(Service::Auth).then_some(self.auth),
            rest: with(Service::Rest).then_some(self.rest),
            realtime: with(Service::Realtime).then_some(self.realtime),
            storage: with(Service::Storage).then_some(self.storage),
        };
        if let Some(settings) = self.worker {
            let settings = worker::Settings { storage, ..settings };
            shutdown.spawn(worker::run(
                database.clone(),
                settings,
                shutdown.clone(),
                health.clone(),
            ));
        }
        let api = gateway::start(context, services).await?;
        // Before the first answer: whoever waits for `/health` may then ask for the keys.
        if let Some(data) = data {
            running.save(data)?;
        }
        for listener in self.listeners {
            shutdown.spawn(listen::answer(listener, api.clone(), shutdown.clone()));
        }
        announce(&shown, &health, shutdown).await;
        shutdown.started().await;
        Ok(())
    }

    /// What `supabase status` prints, as far as it is true here.
    fn values(&self, local_url: &str, database_url: &str) -> BTreeMap<String, String> {
        let public = self
            .public_url
            .as_ref()
            .map_or(local_url, Url::as_str)
            .trim_end_matches('/');
        let mut values = BTreeMap::from([
            ("API_URL".to_owned(), public.to_owned()),
            ("DB_URL".to_owned(), database_url.to_owned()),
        ]);
        if self.services.contains(&Service::Rest) {
            values.insert("REST_URL".to_owned(), format!("{public}/rest/v1"));
        }
        values.extend(keys::lines(&self.keys).map(|(name, key)| (name.to_owned(), key.to_owned())));
        values
    }
}

/// Says whether the database answers: it may be elsewhere, and go away without us.
async fn watch(database: Database, part: Part, shutdown: Shutdown) {
    let pool = database.pool(Login::Owner, 1);
    let mut beat = interval(HEARTBEAT);
    while shutdown.token().run_until_cancelled(beat.tick()).await.is_some() {
        match timeout(HEARTBEAT, pool.execute("select")).await {
            Ok(Ok(_)) => part.ready(),
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "the database does not answer");
                part.failing("does not answer");
            }
            Err(_) => part.failing("answers too late"),
        }
    }
    pool.close().await;
}

/// Prints URLs and keys once every part is up.
async fn announce(running: &Running, health: &Health, shutdown: &Shutdown) {
    let ready = async {
        while health.report().values().any(Result::is_err) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ready = shutdown.token().run_until_cancelled(timeout(PATIENCE, ready)).await;
    let Some(ready) = ready else { return };
    if ready.is_err() {
        for (part, state) in health.report() {
            if let Err(reason) = state {
                tracing::warn!(part, reason, "not ready yet");
            }
        }
    }
    print!("{}", running.render(Output::Table));
    tracing::info!("serving {}", running.values["API_URL"]);
}
