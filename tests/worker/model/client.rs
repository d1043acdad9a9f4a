//! A client of the API: one person, one connection, one transaction a request, and what became of each.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use rand::{RngExt, rngs::StdRng};
use sqlx::{
    ConnectOptions, Connection, PgConnection, Postgres,
    postgres::{PgArguments, PgDatabaseError, PgRow},
    query::Query,
};
use switchboard::db::{Database, Login};
use time::OffsetDateTime;
use uuid::Uuid;

use super::people::Person;

/// Why a request did not succeed.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The connection went away: nobody told us whether the transaction was committed.
    Lost,
    /// The database refused, with this SQLSTATE.
    Refused(String),
}

/// What all clients of a run saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// By what was tried and how it ended.
    tally: Mutex<BTreeMap<String, u32>>,
    /// What must not happen.
    wrong: Mutex<Vec<String>>,
    /// Sessions that waited when their customer was answered, and when that was.
    joined_line: Mutex<HashMap<Uuid, OffsetDateTime>>,
}

impl Seen {
    fn count(&self, what: &str, outcome: &str) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        *tally.entry(format!("{what}: {outcome}")).or_default() += 1;
    }

    /// Notes what must not happen.
    pub fn wrong(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Takes note that this session waits, as its customer was just told.
    pub fn joined_line(&self, session: Uuid) {
        let mut joined = self.joined_line.lock().unwrap_or_else(PoisonError::into_inner);
        joined.insert(session, OffsetDateTime::now_utc());
    }

    /// Who was told so, and when.
    pub fn line(&self) -> HashMap<Uuid, OffsetDateTime> {
        self.joined_line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was tried, and what of it was wrong.
    pub fn report(&self) -> (String, Vec<String>) {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = tally
            .iter()
            .map(|(what, times)| format!("{what} {times}"))
            .collect::<Vec<_>>();
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        (tally.join(", "), wrong.clone())
    }
}

/// One person at the API.
pub struct Client<'run> {
    database: &'run Database,
    seen: &'run Seen,
    pub person: Person,
    pub rng: StdRng,
    connection: Option<PgConnection>,
}

impl<'run> Client<'run> {
    pub fn new(database: &'run Database, seen: &'run Seen, person: Person, rng: StdRng) -> Self {
        Self {
            database,
            seen,
            person,
            rng,
            connection: None,
        }
    }

    /// One request: one statement in a transaction of its own, under the caller's role and claims. What it may be
    /// refused with is in `expected`; anything else is wrong.
    pub async fn request(
        &mut self,
        what: &str,
        expected: &[&str],
        statement: Query<'_, Postgres, PgArguments>,
    ) -> Result<Option<PgRow>, Failure> {
        let result = self.attempt(statement).await.map_err(|error| match error {
            // told to go away, or the server was not there
            sqlx::Error::Database(error) if error.code().is_some_and(|code| !code.starts_with("57P")) => {
                let code = error.code().unwrap_or_default().into_owned();
                if !expected.contains(&code.as_str()) {
                    let postgres = error.downcast_ref::<PgDatabaseError>();
                    let (detail, at) = (
                        postgres.detail().unwrap_or_default(),
                        postgres.r#where().unwrap_or_default(),
                    );
                    self.seen
                        .wrong(format!("{what} was refused with {code}: {error}\n{detail}\n{at}"));
                }
                Failure::Refused(code)
            }
            _ => {
                self.connection = None;
                Failure::Lost
            }
        });
        match &result {
            Ok(Some(_)) => self.seen.count(what, "done"),
            Ok(None) => self.seen.count(what, "nothing"),
            Err(Failure::Lost) => self.seen.count(what, "lost"),
            Err(Failure::Refused(code)) => self.seen.count(what, code),
        }
        result
    }

    async fn attempt(&mut self, statement: Query<'_, Postgres, PgArguments>) -> sqlx::Result<Option<PgRow>> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.database.options(Login::Authenticator).connect().await?),
        };
        let mut transaction = connection.begin().await?;
        sqlx::query("select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)")
            .bind(&self.person.claims)
            .execute(&mut *transaction)
            .await?;
        let row = statement.fetch_optional(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(row)
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    /// What all clients saw.
    pub fn seen(&self) -> &'run Seen {
        self.seen
    }
}
