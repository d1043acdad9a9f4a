//! Private channels: policies on `realtime.messages` say who may read and write a topic.
//!
//! Nothing stays of a question: reading is tried on two messages written for it, writing by writing one, and the
//! transaction is rolled back.

use std::io;

use serde_json::json;
use uuid::Uuid;

use super::{
    error::ChannelError,
    hub::Rights,
    token::{Identity, Token},
};
use crate::db::{
    Database, Login,
    session::{Failure, Pool, Row, Step},
};

const SETTINGS: &str = include_str!("../../../sql/gateway/realtime_settings.sql");
const PROBE: &str = "select realtime.probe($1, $2::uuid, $3::uuid)";
const READ: &str = "select extension from realtime.messages where id in ($1::uuid, $2::uuid)";
const WRITE: &str = "insert into realtime.messages (topic, extension) values ($1, $2)";
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// What a channel can be used for; the names are those in `realtime.messages.extension`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// `broadcast`
    Broadcast,
    /// `presence`
    Presence,
}

impl Extension {
    fn name(self) -> &'static str {
        match self {
            Self::Broadcast => "broadcast",
            Self::Presence => "presence",
        }
    }
}

/// Asks the policies.
#[derive(Debug)]
pub struct Authorizer {
    pool: Pool,
}

impl Authorizer {
    /// An authorizer that connects when it is first needed.
    ///
    /// # Errors
    /// When the database's TLS settings cannot be used.
    pub fn new(database: &Database) -> io::Result<Self> {
        Ok(Self {
            pool: Pool::new(database, Login::Authenticator, 4)?,
        })
    }

    /// What a token's bearer may read on a topic.
    ///
    /// # Errors
    /// When the database does not answer. A policy that fails allows nothing.
    pub async fn readable(&self, token: &Token, topic: &str) -> Result<Rights, ChannelError> {
        let ids = [Uuid::new_v4(), Uuid::new_v4()].map(|id| id.to_string());
        let [broadcast, presence] = ids.each_ref().map(|id| Some(id.as_bytes()));
        let probe = [Some(topic.as_bytes()), broadcast, presence];
        let read = [broadcast, presence];
        let settings = Settings::new(&token.identity, topic);
        let outcome = self
            .ask(&[
                Step::new("begin", &[]),
                Step::new(PROBE, &probe),
                Step::new(SETTINGS, &settings.params()),
                Step::new(READ, &read).as_role(&token.identity.role),
                Step::new("rollback", &[]),
            ])
            .await;
        match outcome {
            Ok(rows) => {
                let sees = |extension: Extension| rows[3].iter().any(|row| row.text(0) == Some(extension.name()));
                Ok(Rights {
                    broadcast: sees(Extension::Broadcast),
                    presence: sees(Extension::Presence),
                })
            }
            Err(failure) => refused(&failure).map(|()| Rights::default()),
        }
    }

    /// Whether an identity may write on a topic.
    ///
    /// # Errors
    /// When the database does not answer. A policy that fails allows nothing.
    pub async fn may_write(
        &self,
        identity: &Identity,
        topic: &str,
        extension: Extension,
    ) -> Result<bool, ChannelError> {
        let settings = Settings::new(identity, topic);
        let write = [Some(topic.as_bytes()), Some(extension.name().as_bytes())];
        let outcome = self
            .ask(&[
                Step::new("begin", &[]),
                Step::new(SETTINGS, &settings.params()),
                Step::new(WRITE, &write).as_role(&identity.role),
                Step::new("rollback", &[]),
            ])
            .await;
        match outcome {
            Ok(_) => Ok(true),
            Err(failure) => refused(&failure).map(|()| false),
        }
    }

    /// Runs steps that begin and roll back; after a refusal the transaction is rolled back by itself.
    async fn ask(&self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, Failure> {
        let mut session = self.pool.session().await?;
        let outcome = session.transaction(steps).await;
        if outcome.as_ref().is_err_and(|failure| failure.refusal().is_some()) {
            session.transaction(&[Step::new("rollback", &[])]).await?;
        }
        outcome
    }
}

/// A refusal is an answer; a connection that failed is none.
fn refused(failure: &Failure) -> Result<(), ChannelError> {
    match failure.refusal() {
        Some(refusal) => {
            if refusal.code != INSUFFICIENT_PRIVILEGE {
                tracing::warn!(error = %refusal, "a policy of realtime.messages failed");
            }
            Ok(())
        }
        None => {
            tracing::warn!(error = %failure, "private channels cannot be authorized");
            Err(ChannelError::NoDatabase)
        }
    }
}

/// What `realtime_settings.sql` is given.
struct Settings<'a> {
    identity: &'a Identity,
    topic: &'a str,
    headers: String,
}

impl<'a> Settings<'a> {
    fn new(identity: &'a Identity, topic: &'a str) -> Self {
        Self {
            identity,
            topic,
            headers: json!({}).to_string(),
        }
    }

    fn params(&self) -> [Option<&[u8]>; 5] {
        let claims = &self.identity.claims;
        [
            &self.identity.role,
            self.topic,
            claims.raw(),
            claims.subject().unwrap_or_default(),
            &self.headers,
        ]
        .map(|text| Some(text.as_bytes()))
    }
}
