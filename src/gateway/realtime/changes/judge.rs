//! Who may see which change, and the delivery to those.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use super::{
    deliver::deliver,
    due::Due,
    memory::Memory,
    pause::Pause,
    policy::{Policies, publication},
    questions::{AsOf, ask, decide},
    refusal::speaks_of_the_statement,
    stream::{Batch, Streamed},
    tables::Tables,
    verdict::Verdicts,
    visibility::Asker,
};
use crate::{db::session::Failure, gateway::realtime::hub::Hub, health::Part};

/// Changes times subscribers judged at once, at most.
const MAX_DUE: usize = 20_000;
/// Between attempts to add what policies read to its publication.
const PUBLISHING_PAUSE: Duration = Duration::from_secs(60);

/// What it takes to judge changes.
#[derive(Debug)]
pub struct Judge {
    pool: PgPool,
    asker: Asker,
    health: Part,
    tables: Tables,
    memory: Memory,
    /// When the publication of what policies read was last to be changed.
    published: Option<Instant>,
}

/// Policies cannot be read here, and so nothing can be remembered.
#[derive(Debug, thiserror::Error)]
#[error("the policies cannot be read: {0}")]
pub struct Unreadable(Failure);

#[derive(Debug, thiserror::Error)]
enum JudgeError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Session(#[from] Failure),
}

impl Judge {
    /// One that knows no table yet.
    pub fn new(pool: PgPool, asker: Asker, health: Part) -> Self {
        Self {
            pool,
            asker,
            health,
            tables: Tables::default(),
            memory: Memory::default(),
            published: None,
        }
    }

    /// Begins anew with a stream, which tells what policies read or does not. Tables may have changed unseen.
    pub fn begin(&mut self, watching: bool) {
        self.tables.clear();
        self.memory.begin(watching);
        self.published = None;
    }

    /// What is known of policies, if they are watched.
    pub fn policies(&self) -> Option<&Policies> {
        self.memory.policies().map(|policies| &**policies)
    }

    /// Takes note of a batch before anything of it is delivered.
    ///
    /// # Errors
    /// When Postgres refuses to tell of its policies. A database that is away is waited for.
    pub async fn observe(&mut self, batch: &Batch) -> Result<(), Unreadable> {
        self.learn(Some(batch)).await
    }

    /// Makes sure that what is remembered is fresh.
    ///
    /// # Errors
    /// As [`Judge::observe`].
    pub async fn freshen(&mut self) -> Result<(), Unreadable> {
        self.learn(None).await
    }

    async fn learn(&mut self, batch: Option<&Batch>) -> Result<(), Unreadable> {
        let mut pause = Pause::default();
        loop {
            let learnt = match batch {
                Some(batch) => self.memory.observe(&mut self.asker, batch).await,
                None => self.memory.freshen(&mut self.asker).await,
            };
            match learnt {
                Ok(changed) => {
                    if changed {
                        self.tables.clear();
                        self.published = None;
                    }
                    self.publish();
                    return Ok(());
                }
                Err(failure) if speaks_of_the_statement(&failure) => return Err(Unreadable(failure)),
                Err(failure) => self.wait(&failure, batch.map_or(0, Batch::changes), &mut pause).await,
            }
        }
    }

    /// Has the publication of what policies read changed, if it should be. The stream tells when that is done.
    fn publish(&mut self) {
        let wait = self.published.is_some_and(|at| at.elapsed() < PUBLISHING_PAUSE);
        let Some(policies) = self.memory.policies().filter(|_| !wait) else {
            return;
        };
        if policies.missing.is_empty() && policies.superfluous.is_empty() {
            return;
        }
        self.published = Some(Instant::now());
        let (pool, policies) = (self.pool.clone(), Arc::clone(policies));
        // Apart from the stream: whoever has a table locked is waited for.
        tokio::spawn(async move {
            if let Err(error) = publication::keep(&pool, &policies.missing, &policies.superfluous).await {
                tracing::warn!(
                    %error,
                    "the publication switchboard_policies could not be changed; who may see changes is asked for each"
                );
            }
        });
    }

    /// Delivers a batch to those it concerns, and what the database broadcasts to the hub, if it is there: without it, to those who are back, as of now. Waits for
    /// a database that is away rather than lose it. `due` finds those whom changes concern.
    pub async fn deliver<'a>(
        &mut self,
        batch: &'a [Streamed],
        hub: Option<&Hub>,
        due: impl Fn(&'a [Streamed]) -> Vec<Due<'a>>,
    ) {
        // What is replayed is not broadcast again.
        let as_of = if hub.is_some() { AsOf::Commit } else { AsOf::Now };
        let (mut pause, mut rest) = (Pause::default(), batch);
        while !rest.is_empty() {
            let mut all = Vec::new();
            let enough = |change: &'a Streamed| {
                all.extend(due(std::slice::from_ref(change)));
                all.len() >= MAX_DUE
            };
            let (part, others) = rest.split_at(rest.iter().position(enough).map_or(rest.len(), |last| last + 1));
            match self.judge(all, as_of).await {
                Ok((due, verdicts)) => {
                    deliver(hub, &self.tables, part, &due, &verdicts);
                    self.health.ready();
                    (pause, rest) = (Pause::default(), others);
                }
                Err(error) => self.wait(&error, rest.len(), &mut pause).await,
            }
        }
    }

    async fn wait(&mut self, error: &(dyn std::error::Error + Sync), changes: usize, pause: &mut Pause) {
        self.health.failing("the database does not answer");
        tracing::warn!(error = %error, changes, "changes wait for the database");
        sleep(pause.next()).await;
    }

    /// Everything a delivery needs to know: who is concerned, and what Postgres says of it.
    async fn judge<'a>(&mut self, mut due: Vec<Due<'a>>, as_of: AsOf) -> Result<(Vec<Due<'a>>, Verdicts), JudgeError> {
        self.tables.refresh(&self.pool, &mut due).await?;
        decide(&mut self.asker, &mut due).await?;
        let verdicts = ask(&mut self.asker, &self.tables, &mut self.memory, &due, as_of).await?;
        Ok((due, verdicts))
    }
}
