//! What is remembered of who may see what, and whether it may be used.
//!
//! A decision is taken in a snapshot that includes every transaction streamed so far, for the values that the row has
//! in it. Every later change of what it rests on comes later in the stream, and drops it before anything of its batch
//! is delivered. So what is remembered is right for each change it is used for, unless something is missing in the
//! stream: then nothing is remembered.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    decisions::{Decisions, Values},
    policy::{Policies, Policy, Who},
    stream::{Batch, Streamed},
    visibility::{Asker, Since},
};
use crate::{db::session::Failure, gateway::realtime::token::Identity};

/// How old the look at roles may be: what nothing in the stream tells is known after this time.
const ROLES_AGE: Duration = Duration::from_secs(1);
/// How long answers are not remembered after a change of definitions: those who answer hear of it a moment after its
/// transaction is over.
const SILENCE: Duration = Duration::from_secs(1);
/// Transactions waiting for a question that covers them, at most.
const MAX_STREAMED: usize = 4_096;

/// Memory of one stream.
#[derive(Debug, Default)]
pub struct Memory {
    decisions: Decisions,
    callers: Callers,
    /// Those that matter to subscribers; none before they are read, or where they cannot be watched.
    policies: Option<Arc<Policies>>,
    /// Whether the stream tells what policies read, and of definitions.
    watching: bool,
    /// Transactions that no snapshot is known to include.
    streamed: Vec<u32>,
    /// Whether a transaction is streamed whose end has not come: it may hold anything.
    open: bool,
    silent_until: Option<Instant>,
    /// The state of roles, and when it was looked at.
    roles: Option<(String, Instant)>,
    /// The asker's session that this was learnt from.
    session: u64,
    /// What was said of tables that are always asked about.
    told: BTreeSet<(String, String)>,
}

impl Memory {
    /// Begins anew with a stream: what one before it was told says nothing of what it missed.
    pub fn begin(&mut self, watching: bool) {
        *self = Self {
            watching,
            streamed: std::mem::take(&mut self.streamed),
            told: std::mem::take(&mut self.told),
            ..Self::default()
        };
    }

    /// Takes note of a batch before anything of it is judged. Gives true if definitions or roles have changed.
    ///
    /// # Errors
    /// When the database cannot be asked now: then it has to be called again, with nothing delivered meanwhile.
    pub async fn observe(&mut self, asker: &mut Asker, batch: &Batch) -> Result<bool, Failure> {
        for transaction in &batch.transactions {
            if self.streamed.last() != Some(&transaction.xid) {
                self.streamed.push(transaction.xid);
            }
        }
        if self.streamed.len() > MAX_STREAMED {
            asker.settle(&mut self.streamed).await?;
        }
        if batch.transactions.is_empty() {
            return Ok(false);
        }
        if !self.watching {
            return self.freshen(asker).await;
        }
        if batch.transactions.iter().any(|transaction| transaction.ddl) {
            self.learn_anew();
        }
        self.open = batch.open;
        if let Some(policies) = self.policies.as_ref().filter(|_| !batch.open) {
            for transaction in &batch.transactions {
                if transaction
                    .truncated
                    .iter()
                    .any(|table| policies.reading(*table).next().is_some())
                {
                    self.decisions.forget();
                }
                for Streamed { relation, change, .. } in &transaction.changes {
                    self.decisions.spoil(policies, relation, change);
                }
            }
        } else {
            self.decisions.forget();
        }
        self.freshen(asker).await
    }

    /// Looks at roles again if that is due, and at policies if they may have changed; gives true if they did.
    ///
    /// # Errors
    /// When the database cannot be asked now.
    pub async fn freshen(&mut self, asker: &mut Asker) -> Result<bool, Failure> {
        let mut changed = false;
        if self.roles.as_ref().is_none_or(|(_, at)| at.elapsed() >= ROLES_AGE) {
            let at = Instant::now();
            let sql = include_str!("../../../../sql/gateway/realtime_roles.sql");
            let row = asker.read(&mut self.streamed, sql).await?;
            let roles = row.text(1).unwrap_or_default().to_owned();
            // A new session may be one of another server.
            if self.roles.as_ref().is_none_or(|(known, _)| *known != roles) || asker.sessions != self.session {
                asker.plan_anew().await?;
                self.learn_anew();
                self.session = asker.sessions;
                changed = true;
            }
            self.roles = Some((roles, at));
        }
        if !self.watching {
            return Ok(changed);
        }
        if self.policies.is_some() {
            return Ok(changed);
        }
        let sql = include_str!("../../../../sql/gateway/realtime_policies.sql");
        let row = asker.read(&mut self.streamed, sql).await?;
        let policies = Policies::parse(row.text(1).unwrap_or_default()).map_err(std::io::Error::other)?;
        self.decisions.clear(policies.count());
        for (table, reason) in policies.refused.difference(&self.told) {
            tracing::info!(
                table,
                reason,
                "who may see this table's changes is asked for every change"
            );
        }
        self.told.clone_from(&policies.refused);
        tracing::debug!(understood = policies.count(), missing = ?policies.missing, "policies have been read");
        self.policies = Some(Arc::new(policies));
        Ok(true)
    }

    fn learn_anew(&mut self) {
        self.decisions.forget();
        self.callers = Callers::default();
        self.policies = None;
        self.silent_until = Some(Instant::now() + SILENCE);
    }

    /// What is known of policies.
    pub fn policies(&self) -> Option<&Arc<Policies>> {
        self.policies.as_ref()
    }

    /// What decides for a role, where that can be remembered now.
    pub fn policy(&self, table: u32, role: &str) -> Option<Arc<Policy>> {
        let policies = self.policies.as_ref().filter(|_| !self.open)?;
        policies.get(table, role).cloned()
    }

    /// A caller, as far as a policy looks at him.
    pub fn who(&mut self, policy: &Policy, identity: &Arc<Identity>) -> Who {
        self.callers.who(policy, identity)
    }

    /// What is remembered.
    pub fn get(&self, policy: &Policy, values: &Values, who: &Who) -> Option<bool> {
        self.decisions.get(policy, values, who)
    }

    /// Remembers an answer.
    pub fn remember(&mut self, policy: &Policy, values: Values, who: Who, visible: bool) {
        let silent = self.silent_until.is_some_and(|until| Instant::now() < until);
        if !silent && !self.open {
            self.decisions.remember(policy, values, who, visible);
        }
    }

    /// What a new answer has to know of.
    pub fn since(&mut self) -> Since<'_> {
        Since {
            streamed: &mut self.streamed,
            policies: self.policies.as_ref().and_then(|policies| policies.digest.as_deref()),
        }
    }
}

/// Callers met, by where their identity lies in memory and the policy that looks at it.
#[derive(Debug, Default)]
struct Callers {
    known: HashMap<(usize, usize), (Weak<Identity>, Who)>,
    /// How many there may be before those that left are looked for.
    room: usize,
}

impl Callers {
    fn who(&mut self, policy: &Policy, identity: &Arc<Identity>) -> Who {
        if self.known.len() > self.room {
            self.known.retain(|_, (identity, _)| identity.strong_count() > 0);
            self.room = 2 * self.known.len() + 1_024;
        }
        // The weak reference keeps its place from being used again.
        let place = (Arc::as_ptr(identity).addr(), policy.id);
        let who = || (Arc::downgrade(identity), policy.claims.who(identity));
        self.known.entry(place).or_insert_with(who).1
    }
}
