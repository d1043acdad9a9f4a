//! Keeps the catalog current.

use std::{
    sync::{Arc, PoisonError, RwLock, atomic::AtomicU64},
    time::{Duration, Instant},
};

use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use sqlx::{Connection, Executor, PgConnection, postgres::PgListener};

use super::Catalog;
use crate::{
    db::{Database, Login, session::Pool},
    gateway::{
        rest::{
            Settings,
            error::{Error, Result},
            serve::Memory,
        },
        verifier::Verifier,
    },
    health::Part,
    shutdown::Shutdown,
};

/// Changes come in bursts (a migration); one reading covers those that follow within this time.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// How long a change that nobody tells of goes unnoticed at most, unless looking takes its time.
const LOOK: Duration = Duration::from_secs(1);

/// How much longer than a look the pause before the next one is at least.
const REST: u32 = 50;

/// The longest pause between two attempts to reach the database.
const MAX_PAUSE: Duration = Duration::from_secs(32);

/// What the last reading found.
#[derive(Clone, Debug)]
pub struct Current(Arc<RwLock<Arc<Snapshot>>>);

/// What one reading found.
#[derive(Debug)]
pub struct Snapshot {
    /// What the database offers; `None` before the first reading.
    catalog: Option<Catalog>,
    /// The service's settings with those of the login role laid over them.
    pub settings: Settings,
    /// What verifies tokens.
    pub verifier: Option<Arc<Verifier>>,
    /// What requests came to by this catalog and these settings.
    pub memory: Memory,
}

impl Snapshot {
    /// What the database offers.
    ///
    /// # Errors
    /// PGRST002 before the first reading.
    pub fn catalog(&self) -> Result<&Catalog> {
        self.catalog.as_ref().ok_or_else(|| Error::no_catalog().into())
    }
}

impl Current {
    /// What is known before the first reading. `verifier` is what verifies tokens where the settings do not say.
    ///
    /// # Errors
    /// When the settings have a secret that is none.
    pub fn new(settings: &Settings, verifier: Option<&Arc<Verifier>>) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(Snapshot {
            catalog: None,
            settings: settings.clone(),
            verifier: own_verifier(settings)?.or_else(|| verifier.cloned()),
            memory: Memory::default(),
        })))))
    }

    /// The last reading.
    pub fn get(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, snapshot: Snapshot) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }
}

fn own_verifier(settings: &Settings) -> anyhow::Result<Option<Arc<Verifier>>> {
    settings
        .verifier()
        .map_err(|reason| anyhow::anyhow!("jwt_secret {reason}"))
}

/// How readings went.
#[derive(Clone, Debug, Default)]
pub struct Loads {
    /// How many succeeded and failed.
    pub by_status: Family<[(&'static str, &'static str); 1], Counter>,
    /// How long the last took, in seconds.
    pub seconds: Gauge<f64, AtomicU64>,
}

/// What the watch works with.
pub struct Watch {
    /// The database.
    pub database: Database,
    /// The settings before the login role's own.
    pub settings: Settings,
    /// What verifies tokens where the settings do not say.
    pub verifier: Option<Arc<Verifier>>,
    /// Where readings go.
    pub current: Current,
    /// Whose prepared statements a changed schema makes old.
    pub pool: Pool,
    /// What it did so far.
    pub loads: Loads,
    /// Where to say how it goes.
    pub part: Part,
    /// When to stop.
    pub shutdown: Shutdown,
}

impl Watch {
    /// Reads the catalog, then again after each notification and each change that is seen, until the process stops.
    /// Losing the database keeps the last reading and comes back with a pause that doubles.
    pub async fn run(self) {
        let mut pause = Duration::from_millis(250);
        while !self.shutdown.token().is_cancelled() {
            let begun = Instant::now();
            let token = self.shutdown.token().clone();
            if let Some(Err(error)) = token.run_until_cancelled(self.follow()).await {
                tracing::warn!(%error, "cannot read the schema");
                self.part.failing("cannot read the schema from the database");
                if begun.elapsed() > MAX_PAUSE {
                    pause = Duration::from_millis(250);
                }
                token.run_until_cancelled(tokio::time::sleep(pause)).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }

    async fn follow(&self) -> anyhow::Result<()> {
        let Some(channel) = &self.settings.db_channel else {
            self.read().await?;
            self.shutdown.started().await;
            return Ok(());
        };
        let listening = self.database.pool(Login::Authenticator, 1);
        let mut listener = PgListener::connect_with(&listening).await?;
        listener.listen(channel).await?;
        listener.eager_reconnect(false);
        listener.execute("set jit = off; set search_path = ''").await?;
        loop {
            // Before the reading, so that no change falls between the two; nor does word of one.
            let before = Looks::of(&mut listener, channel).await?;
            self.read().await?;
            changed(&mut listener, before).await?;
            while tokio::time::timeout(DEBOUNCE, listener.recv()).await.is_ok() {}
        }
    }

    async fn read(&self) -> anyhow::Result<()> {
        let loaded = self.load().await;
        let status = if loaded.is_ok() { "SUCCESS" } else { "FAIL" };
        self.loads.by_status.get_or_create(&[("status", status)]).inc();
        let catalog = loaded?;
        let settings = self.settings.overridden(&catalog.overrides);
        tracing::info!(
            relations = catalog.relations.len(),
            functions = catalog.routines.len(),
            "read the schema"
        );
        let verifier = self.verifier(&settings)?;
        self.current.set(Snapshot {
            catalog: Some(catalog),
            settings,
            verifier,
            memory: Memory::default(),
        });
        self.pool.forget_statements();
        self.part.ready();
        Ok(())
    }

    async fn load(&self) -> anyhow::Result<Catalog> {
        let mut connection: PgConnection = self.database.connect(Login::Authenticator).await?;
        let begun = Instant::now();
        let catalog = Catalog::load(&mut connection, &self.settings).await?;
        self.loads.seconds.set(begun.elapsed().as_secs_f64());
        let _ = connection.close().await;
        Ok(catalog)
    }

    /// That of the settings, the one before if they are still the same: it remembers tokens.
    fn verifier(&self, settings: &Settings) -> anyhow::Result<Option<Arc<Verifier>>> {
        let last = self.current.get();
        if last.settings.jwt_secret == settings.jwt_secret
            && last.settings.jwt_secret_is_base64 == settings.jwt_secret_is_base64
        {
            return Ok(last.verifier.clone());
        }
        Ok(own_verifier(settings)?.or_else(|| self.verifier.clone()))
    }
}

/// What the database looks like.
struct Looks {
    /// Which transactions have ended. While these are the same nothing else has changed.
    transactions: String,
    /// The catalogs in short.
    catalogs: String,
}

impl Looks {
    /// `None` where the database tells of changes itself (a Supabase project does), or does not show itself.
    async fn of(listener: &mut PgListener, channel: &str) -> sqlx::Result<Option<Self>> {
        let tells = "select exists (select from pg_catalog.pg_event_trigger where evtname = 'pgrst_ddl_watch')";
        if channel == "pgrst"
            && sqlx::query_scalar(tells)
                .persistent(false)
                .fetch_one(&mut *listener)
                .await?
        {
            return Ok(None);
        }
        let transactions = Self::transactions(listener).await?;
        Ok(Self::catalogs(listener)
            .await?
            .map(|catalogs| Self { transactions, catalogs }))
    }

    async fn transactions(listener: &mut PgListener) -> sqlx::Result<String> {
        let query = sqlx::query_scalar("select pg_catalog.txid_current_snapshot()::text");
        query.persistent(false).fetch_one(listener).await
    }

    async fn catalogs(listener: &mut PgListener) -> sqlx::Result<Option<String>> {
        let query = sqlx::query_scalar(include_str!("../../../../sql/gateway/rest_digest.sql"));
        match query.persistent(false).fetch_one(listener).await {
            Err(sqlx::Error::Database(error)) => {
                tracing::debug!(%error, "cannot look for changes of the schema");
                Ok(None)
            }
            looked => looked.map(Some),
        }
    }
}

/// Waits for a notification, or until the database's catalogs are not what they were.
async fn changed(listener: &mut PgListener, before: Option<Looks>) -> anyhow::Result<()> {
    let mut before = before;
    let mut pause = LOOK;
    loop {
        let received = match &before {
            Some(_) => tokio::time::timeout(pause, listener.try_recv()).await,
            None => Ok(listener.try_recv().await),
        };
        if let Ok(received) = received {
            // A lost connection may have lost notifications with it.
            anyhow::ensure!(received?.is_some(), "lost the connection that listens for changes");
            return Ok(());
        }
        let Some(before) = &mut before else { continue };
        let transactions = Looks::transactions(listener).await?;
        if transactions == before.transactions {
            continue;
        }
        let begun = Instant::now();
        if Looks::catalogs(listener).await?.as_ref() != Some(&before.catalogs) {
            return Ok(());
        }
        before.transactions = transactions;
        pause = LOOK.max(begun.elapsed() * REST);
    }
}
