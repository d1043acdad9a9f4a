//! Sessions lent and taken back.

use std::{
    fmt, io,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{self, Metrics, Object, PoolError, RecycleError, RecycleResult, Timeouts},
};

use tokio::{runtime::Handle, time::timeout};

use super::{Failure, Row, Session, Step, connect::Target};
use crate::db::{Database, Login};

/// How long a caller waits for a free session unless told otherwise, and for a new one to open.
const WAIT: Duration = Duration::from_secs(10);

/// A bounded set of sessions of one login. Cloning it is cheap and shares the sessions.
#[derive(Clone)]
pub struct Pool {
    sessions: managed::Pool<Manager>,
    generation: Arc<AtomicU64>,
    wait: Duration,
    timeouts: Arc<AtomicU64>,
}

/// What a pool is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// How many sessions it has at most.
    pub max: usize,
    /// Open sessions that nobody uses.
    pub available: usize,
    /// Callers that wait for a session.
    pub waiting: usize,
    /// How many callers waited in vain.
    pub timeouts: u64,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.sessions.status()).finish()
    }
}

/// How long a session that was given up has to come to rest, before it is closed instead.
const PATIENCE: Duration = Duration::from_secs(5);

/// A session on loan. One given up in the middle of a transaction comes back when the server has cancelled that: what
/// nobody waits for must not hold locks and sessions.
#[derive(Debug)]
pub struct Pooled(Option<Object<Manager>>);

impl Pooled {
    const LENT: &str = "a session is there until it is dropped";
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(mut member) = self.0.take_if(|member| !member.session.is_idle()) else {
            return;
        };
        let (true, Ok(runtime), Some(pool)) = (
            member.session.is_abandoned(),
            Handle::try_current(),
            Object::pool(&member),
        ) else {
            // Its statement was not even sent whole: closing it is all that can be done.
            drop(Object::take(member));
            return;
        };
        runtime.spawn(async move {
            let process = member.session.process;
            let rest = async {
                pool.manager().target.cancel(process).await?;
                member.session.drain().await
            };
            if let Ok(Err(error)) = timeout(PATIENCE, rest).await {
                tracing::debug!(%error, "a session given up is closed");
            }
        });
    }
}

impl Deref for Pooled {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0.as_ref().expect(Self::LENT).session
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.0.as_mut().expect(Self::LENT).session
    }
}

impl Pool {
    /// A pool of at most `size` sessions. They are opened when needed, so this does not touch the database.
    ///
    /// # Errors
    /// When the database's TLS settings cannot be used.
    pub fn new(database: &Database, login: Login, size: usize) -> io::Result<Self> {
        let generation = Arc::new(AtomicU64::new(0));
        let manager = Manager {
            target: Target::new(database, login)?,
            generation: Arc::clone(&generation),
        };
        let sessions = managed::Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(io::Error::other)?;
        Ok(Self {
            sessions,
            generation,
            wait: WAIT,
            timeouts: Arc::default(),
        })
    }

    /// The same pool, where callers wait so long for a free session.
    #[must_use]
    pub fn waiting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// A session, waiting for one to become free.
    ///
    /// # Errors
    /// [`Failure::Busy`] when none became free in time; otherwise why a new one could not be opened.
    pub async fn session(&self) -> Result<Pooled, Failure> {
        let timeouts = Timeouts {
            wait: Some(self.wait),
            create: Some(WAIT),
            recycle: None,
        };
        match self.sessions.timeout_get(&timeouts).await {
            Ok(session) => Ok(Pooled(Some(session))),
            Err(PoolError::Backend(failure)) => Err(failure),
            Err(PoolError::Timeout(managed::TimeoutType::Wait)) => {
                self.timeouts.fetch_add(1, Ordering::Relaxed);
                Err(Failure::Busy)
            }
            Err(PoolError::Timeout(_)) => Err(Failure::Broken(io::ErrorKind::TimedOut.into())),
            Err(error) => Err(Failure::Broken(io::Error::other(error.to_string()))),
        }
    }

    /// Runs a transaction on a session of its own ([`Session::transaction`]).
    ///
    /// # Errors
    /// Those of [`Pool::session`] and [`Session::transaction`].
    pub async fn transaction(&self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, Failure> {
        self.session().await?.transaction(steps).await
    }

    /// What it is like now.
    pub fn status(&self) -> Status {
        let sessions = self.sessions.status();
        Status {
            max: sessions.max_size,
            available: sessions.available,
            waiting: sessions.waiting,
            timeouts: self.timeouts.load(Ordering::Relaxed),
        }
    }

    /// Replaces every session before its next use. A prepared statement keeps the parameter types it was parsed
    /// with, so what was prepared before a change of the schema can be wrong after it.
    pub fn forget_statements(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Manager {
    target: Target,
    generation: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Member {
    session: Session,
    generation: u64,
}

impl managed::Manager for Manager {
    type Type = Member;
    type Error = Failure;

    async fn create(&self) -> Result<Member, Failure> {
        let generation = self.generation.load(Ordering::Relaxed);
        let session = self.target.open().await?;
        Ok(Member { session, generation })
    }

    async fn recycle(&self, member: &mut Member, _: &Metrics) -> RecycleResult<Failure> {
        let fit = member.generation == self.generation.load(Ordering::Relaxed) && member.session.is_fit();
        if fit {
            Ok(())
        } else {
            Err(RecycleError::message("not fit for another transaction"))
        }
    }
}
