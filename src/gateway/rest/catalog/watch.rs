//! Keeps the catalog current.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use sqlx::{Connection, PgConnection, postgres::PgListener};

use super::Catalog;
use crate::{
    db::{Database, Login, session::Pool},
    gateway::{rest::Settings, verifier::Verifier},
    health::Part,
    shutdown::Shutdown,
};

/// Changes come in bursts (a migration); one reading covers those that follow within this time.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// The longest pause between two attempts to reach the database.
const MAX_PAUSE: Duration = Duration::from_secs(32);

/// The catalog as of its last reading, and the settings that came with it.
#[derive(Clone, Debug, Default)]
pub struct Current(Arc<RwLock<Option<Arc<Snapshot>>>>);

/// What one reading found.
#[derive(Debug)]
pub struct Snapshot {
    /// What the database offers.
    pub catalog: Catalog,
    /// The service's settings with those of the login role laid over them.
    pub settings: Settings,
    /// What verifies tokens.
    pub verifier: Option<Arc<Verifier>>,
}

impl Current {
    /// The last reading; `None` before the first.
    pub fn get(&self) -> Option<Arc<Snapshot>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, snapshot: Snapshot) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(snapshot));
    }
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
    /// Where to say how it goes.
    pub part: Part,
    /// When to stop.
    pub shutdown: Shutdown,
}

impl Watch {
    /// Reads the catalog, then again after each notification, until the process stops. Losing the database keeps
    /// the last reading and comes back with a pause that doubles.
    pub async fn run(self) {
        let mut pause = Duration::from_millis(250);
        while !self.shutdown.token().is_cancelled() {
            let begun = std::time::Instant::now();
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
        // Before the first reading, so that no change falls between the two.
        listener.listen(channel).await?;
        listener.eager_reconnect(false);
        loop {
            self.read().await?;
            // A lost connection may have lost notifications with it.
            if listener.try_recv().await?.is_none() {
                anyhow::bail!("lost the connection that listens for changes");
            }
            while tokio::time::timeout(DEBOUNCE, listener.recv()).await.is_ok() {}
        }
    }

    async fn read(&self) -> anyhow::Result<()> {
        let mut connection: PgConnection = self.database.connect(Login::Authenticator).await?;
        let catalog = Catalog::load(&mut connection, &self.settings).await?;
        let _ = connection.close().await;
        let settings = self.settings.overridden(&catalog.overrides);
        tracing::info!(
            relations = catalog.relations.len(),
            functions = catalog.routines.len(),
            "read the schema"
        );
        let verifier = self.verifier(&settings)?;
        self.current.set(Snapshot {
            catalog,
            settings,
            verifier,
        });
        self.pool.forget_statements();
        self.part.ready();
        Ok(())
    }

    /// That of the settings, the one before if they are still the same: it remembers tokens.
    fn verifier(&self, settings: &Settings) -> anyhow::Result<Option<Arc<Verifier>>> {
        if let Some(last) = self.current.get()
            && last.settings.jwt_secret == settings.jwt_secret
            && last.settings.jwt_secret_is_base64 == settings.jwt_secret_is_base64
        {
            return Ok(last.verifier.clone());
        }
        let own = settings
            .verifier()
            .map_err(|reason| anyhow::anyhow!("jwt_secret {reason}"))?;
        Ok(own.or_else(|| self.verifier.clone()))
    }
}
