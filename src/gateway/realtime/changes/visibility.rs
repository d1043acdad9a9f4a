//! Which rows an identity may see, asked of Postgres: many identities in one call, in one round trip.
//!
//! A change arrives before its transaction is visible to others: the walsender sends what is flushed, the writer
//! leaves the list of running transactions a moment later. An answer counts only if it was given by a snapshot that
//! includes every transaction in question; without that rule 6.6 % of deliveries were lost when measured. The rows'
//! values come from the same snapshot, so that the answers can be remembered for them, "no" as well as "yes".

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
    decisions::Values,
    look::{Look, Looks},
    refusal::{self, speaks_of_the_statement},
    snapshot::finished,
};
use crate::{
    db::session::{Failure, Pool, Pooled, Row, Step},
    gateway::realtime::token::Identity,
};

/// Identities asked in one call, and rows they are asked about. More would keep one snapshot, and everybody else,
/// waiting too long.
const MAX_QUESTIONS: usize = 512;
const MAX_ROWS: usize = 2_048;
/// Rows that one question should have at most.
pub const MAX_ROWS_OF_ONE: usize = 512;
/// How long a streamed transaction may stay invisible. With synchronous standbys it can be a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// Values must look here as they do in the stream. Planning a policy costs ten times checking it, hence generic
/// plans. The time limit bounds what one identity's policies can cost everybody.
const SESSION: [&str; 10] = [
    "set plan_cache_mode = force_generic_plan",
    "set timezone = 'UTC'",
    "set datestyle = 'ISO'",
    "set intervalstyle = 'postgres'",
    "set extra_float_digits = 1",
    "set bytea_output = 'hex'",
    "set search_path = public, extensions",
    "set default_transaction_isolation = 'repeatable read'",
    "set default_transaction_read_only = on",
    "set statement_timeout = '5s'",
];
/// The snapshot, and the state of all policies in it.
const SNAPSHOT: &str = "select pg_current_snapshot()::text, \
    (select md5(string_agg(oid::text || ' ' || xmin::text, ',' order by oid)) from pg_catalog.pg_policy)";
const VISIBLE: &str =
    "select asker, question, failure from realtime.visible($1::text[], $2::text[], $3::text[], $4::text[])";
const QUERY_CANCELED: &str = "57014";
const TAKE_ROLE: &str = "select set_config('role', $1, true)";
/// Who reads past all policies.
const SERVICE: &str = "service_role";

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
    /// How to read the rows' values, if they are wanted too.
    pub look: Option<Arc<Look>>,
}

/// What one identity's answer was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// By the place in the question, the rows it may see; and the values that rows have in the answer's snapshot,
    /// where they were wanted and are there.
    Visible(HashSet<usize>, HashMap<usize, Values>),
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
    /// How many sessions there have been.
    pub sessions: u64,
}

/// What an answer has to know of.
#[derive(Debug)]
pub struct Since<'a> {
    /// Transactions that no snapshot is known to include. What one includes is included in all later ones.
    pub streamed: &'a mut Vec<u32>,
    /// The state of policies in which the rows' values say what an answer rests on.
    pub policies: Option<&'a str>,
}

impl Asker {
    /// An asker that connects when it is first needed. The pool's login becomes the identities' roles.
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            session: None,
            sessions: 0,
        }
    }

    /// The answers to all questions, in their order, each given by a snapshot that includes what was streamed.
    ///
    /// # Errors
    /// When Postgres cannot be asked now, or a transaction stays invisible for a minute. Nothing has been decided then.
    pub async fn ask(&mut self, since: &mut Since<'_>, questions: &[Question]) -> Result<Vec<Answer>, Failure> {
        let mut answers = Vec::with_capacity(questions.len());
        let mut rest = questions;
        while !rest.is_empty() {
            let mut rows = 0;
            let fitting = rest.iter().take(MAX_QUESTIONS).take_while(|question| {
                rows += question.rows.len();
                rows <= MAX_ROWS
            });
            let (part, others) = rest.split_at(fitting.count().max(1));
            answers.extend(self.ask_part(since, part).await?);
            rest = others;
        }
        Ok(answers)
    }

    /// One statement's only answer, read from a snapshot that includes what was streamed. Its first column is the
    /// snapshot.
    ///
    /// # Errors
    /// As [`Asker::ask`].
    pub async fn read(&mut self, streamed: &mut Vec<u32>, sql: &str) -> Result<Row, Failure> {
        let rows = self.run_since(streamed, &[Step::new(sql, &[])]).await?;
        Ok(rows
            .into_iter()
            .next()
            .and_then(|rows| rows.into_iter().next())
            .unwrap_or_default())
    }

    /// Has the plans of prepared statements made anew: those of a role keep the policies that were for it then, whatever
    /// it has become a member of since.
    ///
    /// # Errors
    /// When Postgres cannot be asked now.
    pub async fn plan_anew(&mut self) -> Result<(), Failure> {
        self.run(&[Step::new("discard plans", &[])]).await.map(drop)
    }

    /// Forgets the transactions that are included in snapshots by now.
    ///
    /// # Errors
    /// When Postgres cannot be asked now.
    pub async fn settle(&mut self, streamed: &mut Vec<u32>) -> Result<(), Failure> {
        let rows = self.run(&[Step::new(SNAPSHOT, &[])]).await?;
        let snapshot = rows[0].first().and_then(|row| row.text(0)).unwrap_or_default();
        streamed.retain(|xid| !finished(snapshot, *xid));
        Ok(())
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

    async fn ask_part(&mut self, since: &mut Since<'_>, questions: &[Question]) -> Result<Vec<Answer>, Failure> {
        let failed = self.prepare(questions).await?;
        let nothing = || Answer::Visible(HashSet::new(), HashMap::new());
        let (mut answers, mut open) = (Vec::with_capacity(questions.len()), Vec::new());
        for (number, question) in questions.iter().enumerate() {
            match failed.get(&question.statement.name) {
                Some(reason) => answers.push(Answer::Failed(reason.clone())),
                None => {
                    answers.push(nothing());
                    open.push(number);
                }
            }
        }
        match self.call(since, questions, &open, &mut answers).await {
            Err(failure) if speaks_of_the_statement(&failure) => {}
            outcome => return outcome.map(|()| answers),
        }
        // The time limit ends the call for everybody in it: one by one it ends for whoever it is meant.
        for number in open {
            if let Err(failure) = self.call(since, questions, &[number], &mut answers).await {
                let too_slow = is_time_limit(&failure);
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
        since: &mut Since<'_>,
        questions: &[Question],
        numbers: &[usize],
        answers: &mut [Answer],
    ) -> Result<(), Failure> {
        if numbers.is_empty() {
            return Ok(());
        }
        let of = |what: fn(&Question) -> &str| array(numbers.iter().map(|number| what(&questions[*number])));
        let lists: Vec<String> = numbers.iter().map(|number| list(&questions[*number].rows)).collect();
        let texts = [
            of(|question| &question.statement.name),
            of(|question| &question.identity.role),
            of(|question| question.identity.claims.raw()),
            array(&lists),
        ];
        let params = texts.each_ref().map(|text| Some(text.as_bytes()));
        let looks = Looks::of(numbers.iter().map(|number| &questions[*number]));
        let looked: Vec<_> = looks.0.values().map(|(_, rows)| list(rows)).collect();
        let looked: Vec<_> = looked.iter().map(|rows| [Some(rows.as_bytes())]).collect();
        let service = [Some(SERVICE.as_bytes())];
        let mut steps = vec![Step::new(SNAPSHOT, &[]), Step::new(VISIBLE, &params)];
        if !looked.is_empty() {
            steps.push(Step::new(TAKE_ROLE, &service));
            let reading = looks.0.keys().zip(&looked);
            steps.extend(reading.map(|(look, rows)| Step::new(&look.sql, rows).as_role(SERVICE)));
        }
        let rows = match self.run_since(since.streamed, &steps).await {
            // The values are for us alone.
            Err(failure) if steps.len() > 2 && speaks_of_the_statement(&failure) && !is_time_limit(&failure) => {
                self.run_since(since.streamed, &steps[..2]).await?
            }
            outcome => outcome?,
        };
        let mut failures = HashMap::new();
        for row in &rows[1] {
            let Some(number) = row.text(0).and_then(place).and_then(|asker| numbers.get(asker)) else {
                continue;
            };
            if let Some(reason) = row.text(2) {
                failures.insert(*number, reason.to_owned());
            } else if let (Some(row), Answer::Visible(visible, _)) =
                (row.text(1).and_then(place), &mut answers[*number])
            {
                visible.insert(row);
            }
        }
        // By policies we do not know an answer may rest on other values.
        let known = since.policies.is_some() && rows[0].first().and_then(|row| row.text(1)) == since.policies;
        if known && let Some(values) = rows.get(3..) {
            for number in numbers {
                if let Answer::Visible(_, known) = &mut answers[*number] {
                    *known = looks.values(&questions[*number], values);
                }
            }
        }
        // Rows that came before the failure do not count.
        for (number, reason) in failures {
            answers[number] = Answer::Failed(reason);
        }
        Ok(())
    }

    /// Runs a transaction whose first step gives its snapshot, again until that includes what was streamed.
    async fn run_since(&mut self, streamed: &mut Vec<u32>, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, Failure> {
        let start = Instant::now();
        let mut attempts = 0;
        loop {
            let rows = self.run(steps).await?;
            let snapshot = rows[0].first().and_then(|row| row.text(0)).unwrap_or_default();
            if streamed.iter().all(|xid| finished(snapshot, *xid)) {
                streamed.clear();
                return Ok(rows);
            }
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other("a streamed transaction stays invisible").into());
            }
            attempts += 1;
            if attempts > 3 {
                sleep(Duration::from_millis(1)).await;
            }
        }
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
    async fn run(&mut self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, Failure> {
        let (session, _) = match &mut self.session {
            Some(session) => session,
            none => {
                let session = open(&self.pool).await.map_err(|failure| match failure.refusal() {
                    // Whatever is said against a session, it is not said against the statement.
                    Some(refusal) => io::Error::other(refusal.to_string()).into(),
                    None => failure,
                })?;
                self.sessions += 1;
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

fn is_time_limit(failure: &Failure) -> bool {
    failure.refusal().is_some_and(|refusal| refusal.code == QUERY_CANCELED)
}

/// A JSON list.
fn list<T: AsRef<str>>(rows: &[T]) -> String {
    let rows: Vec<&str> = rows.iter().map(AsRef::as_ref).collect();
    format!("[{}]", rows.join(","))
}

async fn open(pool: &Pool) -> Result<Pooled, Failure> {
    let mut session = pool.session().await?;
    for setting in SESSION {
        session.transaction(&[Step::new(setting, &[])]).await?;
    }
    Ok(session)
}

/// Postgres counts from one.
pub fn place(number: &str) -> Option<usize> {
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
