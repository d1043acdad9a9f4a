//! Which rows an identity may see, asked of Postgres: many identities in one call, in one round trip.
//!
//! A change arrives before its transaction is visible to others: the walsender sends what is flushed, the writer
//! leaves the list of running transactions a moment later. An answer counts only if it was given by a snapshot that
//! includes every transaction in question; without that rule 6.6 % of deliveries were lost when measured.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::{
    condition::Condition,
    refusal::{self, speaks_of_the_statement},
    snapshot::finished,
};
use crate::{
    db::session::{Failure, Pool, Pooled, Step},
    gateway::realtime::token::Identity,
};

/// Identities asked in one call. More would keep one snapshot, and everybody else, waiting too long.
const MAX_QUESTIONS: usize = 512;
/// How long a streamed transaction may stay invisible. With synchronous standbys it can be a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// Values must look here as they do in the stream. Planning a policy costs ten times checking it, hence generic
/// plans. The time limit bounds what one identity's policies can cost everybody.
const SESSION: [&str; 5] = [
    "set plan_cache_mode = force_generic_plan",
    "set timezone = 'UTC'",
    "set search_path = public, extensions",
    "set default_transaction_read_only = on",
    "set statement_timeout = '5s'",
];
const SNAPSHOT: &str = "select pg_current_snapshot()::text";
const VISIBLE: &str =
    "select asker, question, failure from realtime.visible($1::text[], $2::text[], $3::text[], $4::text[])";
const QUERY_CANCELED: &str = "57014";
const TAKE_ROLE: &str = "select set_config('role', $1, true)";

/// A statement prepared once a session, for one role: a plan with policies belongs to a role.
#[derive(Debug)]
pub struct Statement {
    name: String,
    role: String,
    sql: String,
}

impl Statement {
    /// A statement of two parameters, the asker's number (int) and the questions (a jsonb list).
    pub fn new(role: &str, sql: String) -> Arc<Self> {
        // Named by what it says, so that a table described anew finds its statements prepared.
        let digest = Sha256::new()
            .chain_update(role)
            .chain_update([0])
            .chain_update(&sql)
            .finalize();
        let name = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        Arc::new(Self {
            name,
            role: role.to_owned(),
            sql,
        })
    }

    /// Its name, the same for the same statement of the same role.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What one identity is asked.
#[derive(Debug)]
pub struct Question {
    /// How.
    pub statement: Arc<Statement>,
    /// Who.
    pub identity: Arc<Identity>,
    /// About which rows, each as JSON.
    pub rows: Vec<String>,
}

/// What one identity's answer was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The rows it may see, by their place in the question.
    Visible(HashSet<usize>),
    /// Its role, claims or policies failed, with Postgres' words.
    Failed(String),
    /// Its policies take too long.
    TooSlow,
}

/// Asks, on a session of its own.
#[derive(Debug)]
pub struct Asker {
    pool: Pool,
    session: Option<(Pooled, HashSet<String>)>,
}

impl Asker {
    /// An asker that connects when it is first needed. The pool's login becomes the identities' roles.
    pub fn new(pool: Pool) -> Self {
        Self { pool, session: None }
    }

    /// The answers to all questions, in their order, each given by a snapshot that includes the transactions `after`.
    ///
    /// # Errors
    /// When Postgres cannot be asked now, or a transaction stays invisible for a minute. Nothing has been decided then.
    pub async fn ask(&mut self, after: &[u32], questions: &[Question]) -> Result<Vec<Answer>, Failure> {
        let mut answers = Vec::with_capacity(questions.len());
        for part in questions.chunks(MAX_QUESTIONS) {
            answers.extend(self.ask_part(after, part).await?);
        }
        Ok(answers)
    }

    /// Which of the values satisfy a condition, by their places; or why Postgres does not tell.
    ///
    /// # Errors
    /// When Postgres cannot be asked now.
    pub async fn satisfying(
        &mut self,
        role: &str,
        condition: &Condition,
        values: &[&str],
    ) -> Result<Result<HashSet<usize>, String>, Failure> {
        let (list, sql) = (array(values), condition.question());
        let params = [Some(list.as_bytes()), Some(condition.written.value.as_bytes())];
        let taken = [Some(role.as_bytes())];
        let steps = [Step::new(TAKE_ROLE, &taken), Step::new(&sql, &params).as_role(role)];
        match self.run(&steps).await {
            Ok(rows) => Ok(Ok(rows[1].iter().filter_map(|row| place(row.text(0)?)).collect())),
            Err(failure) => refusal::of_failure(failure).map(Err),
        }
    }

    async fn ask_part(&mut self, after: &[u32], questions: &[Question]) -> Result<Vec<Answer>, Failure> {
        let failed = self.prepare(questions).await?;
        let (mut answers, mut open) = (vec![Answer::Visible(HashSet::new()); questions.len()], Vec::new());
        for (number, question) in questions.iter().enumerate() {
            match failed.get(&question.statement.name) {
                Some(reason) => answers[number] = Answer::Failed(reason.clone()),
                None => open.push(number),
            }
        }
        match self.call(after, questions, &open, &mut answers).await {
            Err(failure) if speaks_of_the_statement(&failure) => {}
            outcome => return outcome.map(|()| answers),
        }
        // The time limit ends the call for everybody in it: one by one it ends for whoever it is meant.
        for number in open {
            if let Err(failure) = self.call(after, questions, &[number], &mut answers).await {
                let too_slow = failure.refusal().is_some_and(|refusal| refusal.code == QUERY_CANCELED);
                let reason = refusal::of_failure(failure)?;
                answers[number] = if too_slow {
                    Answer::TooSlow
                } else {
                    Answer::Failed(reason)
                };
            }
        }
        Ok(answers)
    }

    /// One call for the questions of these numbers.
    async fn call(
        &mut self,
        after: &[u32],
        questions: &[Question],
        numbers: &[usize],
        answers: &mut [Answer],
    ) -> Result<(), Failure> {
        if numbers.is_empty() {
            return Ok(());
        }
        let of = |what: fn(&Question) -> &str| array(numbers.iter().map(|number| what(&questions[*number])));
        let lists: Vec<String> = numbers
            .iter()
            .map(|number| format!("[{}]", questions[*number].rows.join(",")))
            .collect();
        let texts = [
            of(|question| &question.statement.name),
            of(|question| &question.identity.role),
            of(|question| question.identity.claims.raw()),
            array(&lists),
        ];
        let params = texts.each_ref().map(|text| Some(text.as_bytes()));
        let steps = [Step::new(SNAPSHOT, &[]), Step::new(VISIBLE, &params)];
        let start = Instant::now();
        let mut attempts = 0;
        let rows = loop {
            let rows = self.run(&steps).await?;
            let snapshot = rows[0].first().and_then(|row| row.text(0)).unwrap_or_default();
            if after.iter().all(|xid| finished(snapshot, *xid)) {
                break rows;
            }
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other("a streamed transaction stays invisible").into());
            }
            attempts += 1;
            if attempts > 3 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let mut failures = HashMap::new();
        for row in &rows[1] {
            let Some(number) = row.text(0).and_then(place).and_then(|asker| numbers.get(asker)) else {
                continue;
            };
            if let Some(reason) = row.text(2) {
                failures.insert(*number, reason.to_owned());
            } else if let (Some(row), Answer::Visible(visible)) = (row.text(1).and_then(place), &mut answers[*number]) {
                visible.insert(row);
            }
        }
        // Rows that came before the failure do not count.
        for (number, reason) in failures {
            answers[number] = Answer::Failed(reason);
        }
        Ok(())
    }

    /// Prepares what is not yet; gives those that Postgres refuses, by name, with its words.
    async fn prepare(&mut self, questions: &[Question]) -> Result<HashMap<String, String>, Failure> {
        let mut failed = HashMap::new();
        for Question { statement, .. } in questions {
            let known = self
                .session
                .as_ref()
                .is_some_and(|(_, names)| names.contains(&statement.name));
            if known || failed.contains_key(&statement.name) {
                continue;
            }
            let sql = format!("prepare \"{}\" (int, jsonb) as {}", statement.name, statement.sql);
            let taken = [Some(statement.role.as_bytes())];
            let steps = [Step::new(TAKE_ROLE, &taken), Step::new(&sql, &[])];
            match self.run(&steps).await {
                Ok(_) => {
                    if let Some((_, names)) = &mut self.session {
                        names.insert(statement.name.clone());
                    }
                }
                Err(failure) => {
                    failed.insert(statement.name.clone(), refusal::of_failure(failure)?);
                }
            }
        }
        Ok(failed)
    }

    /// Runs a transaction on our session; one that broke is replaced the next time.
    async fn run(&mut self, steps: &[Step<'_>]) -> Result<Vec<Vec<crate::db::session::Row>>, Failure> {
        let (session, _) = match &mut self.session {
            Some(session) => session,
            none => {
                let session = open(&self.pool).await.map_err(|failure| match failure.refusal() {
                    // Whatever is said against a session, it is not said against the statement.
                    Some(refusal) => io::Error::other(refusal.to_string()).into(),
                    None => failure,
                })?;
                none.insert((session, HashSet::new()))
            }
        };
        let outcome = session.transaction(steps).await;
        if let Err(failure) = &outcome
            && !speaks_of_the_statement(failure)
        {
            self.session = None;
        }
        outcome
    }
}

async fn open(pool: &Pool) -> Result<Pooled, Failure> {
    let mut session = pool.session().await?;
    for setting in SESSION {
        session.transaction(&[Step::new(setting, &[])]).await?;
    }
    Ok(session)
}

/// Postgres counts from one.
fn place(number: &str) -> Option<usize> {
    number.parse::<usize>().ok()?.checked_sub(1)
}

/// An array literal of texts.
fn array<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let mut out = String::from("{");
    for (number, text) in texts.into_iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        out.push('"');
        for next in text.as_ref().chars() {
            if matches!(next, '"' | '\\') {
                out.push('\\');
            }
            out.push(next);
        }
        out.push('"');
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_literals_keep_what_they_hold() {
        assert_eq!(array(["a", "b\"c\\d", ""]), r#"{"a","b\"c\\d",""}"#);
        assert_eq!(array::<&str>([]), "{}");
    }
}
