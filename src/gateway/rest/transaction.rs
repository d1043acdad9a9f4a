//! Settings and statement, sent together as one transaction.

use super::{
    error::{Error, Result},
    identity::Identity,
    sql::{Sql, Values, settings::Locals},
};
use crate::db::session::{Failure, Pool, Row, Session, Step};

/// What one request asks of the database.
#[derive(Debug)]
pub struct Transaction<'a> {
    /// As whom.
    pub identity: &'a Identity,
    /// The isolation level, if it is not the server's.
    pub isolation: Option<&'static str>,
    /// Who calls and how.
    pub settings: &'a Locals<'a>,
    /// The function called first.
    pub pre_request: Option<Sql>,
    /// The statement.
    pub statement: &'a Sql,
    /// Another one, for the planner's estimate.
    pub estimate: Option<&'a Sql>,
    /// What the two are about.
    pub values: &'a Values,
    /// Whether everything is taken back.
    pub rollback: bool,
}

/// What the database answered.
#[derive(Debug)]
pub struct Outcome {
    /// The statement's rows: one, or a plan's lines.
    pub rows: Vec<Row>,
    /// The planner's estimate.
    pub estimate: Option<i64>,
}

impl Outcome {
    /// The one row of a statement that answers with one.
    ///
    /// # Errors
    /// PGRSTX00 when there is none, which is a fault of ours.
    pub fn row(&self) -> Result<&Row> {
        self.rows
            .first()
            .ok_or_else(|| Error::internal("The database gave no answer").into())
    }
}

impl Transaction<'_> {
    /// Runs it. When the client hangs up, it is given up and cancelled.
    ///
    /// # Errors
    /// Whatever Postgres refuses, as PostgREST tells it; PGRST000, PGRST001, PGRST003 when it cannot be asked. A refusal with
    /// one of the marks is the statement's own doing: then the mark and what followed it.
    pub async fn run(&self, pool: &Pool) -> Result<Result<Outcome, (usize, String)>> {
        let mut session = pool.session().await.map_err(Error::no_connection)?;
        let finished = self.steps(&mut session).await;
        match finished {
            Ok(outcome) => Ok(Ok(outcome)),
            Err(failure) => {
                if let Some(own) = failure
                    .refusal()
                    .and_then(|refusal| marked(&refusal.message, &self.values.marks))
                {
                    return Ok(Err(own));
                }
                Err(Error::from_failure(failure, self.identity.anonymous).into())
            }
        }
    }

    async fn steps(&self, session: &mut Session) -> Result<Outcome, Failure> {
        let (settings_text, settings) = (self.settings.text(), self.settings.params());
        let statement = self.statement.bound(self.values);
        let estimate = self.estimate.map(|estimate| estimate.bound(self.values));
        let role = self.identity.role.as_str();

        let mut steps = Vec::with_capacity(7);
        if let Some(isolation) = self.isolation {
            steps.push(Step::new(isolation, &[]));
        }
        steps.push(Step::new(&settings_text, &settings).unread());
        if let Some(sql) = &self.pre_request {
            steps.push(Step::new(sql.text(), &[]).as_role(role).unread());
        }
        let main = steps.len();
        steps.push(Step::new(self.statement.text(), &statement).as_role(role).in_binary());
        if let (Some(sql), Some(params)) = (self.estimate, &estimate) {
            steps.push(Step::new(sql.text(), params).as_role(role));
        }
        if self.rollback {
            // Otherwise what is deferred would never be checked.
            steps.push(Step::new("set constraints all immediate", &[]));
            steps.push(Step::new("rollback", &[]));
        }
        let mut rows = session.transaction(&steps).await?;
        let estimate = self.estimate.and_then(|_| {
            let plan: serde_json::Value = serde_json::from_str(rows[main + 1].first()?.text(0)?).ok()?;
            plan[0]["Plan"]["Plan Rows"].as_i64()
        });
        Ok(Outcome {
            rows: std::mem::take(&mut rows[main]),
            estimate,
        })
    }
}

/// Which mark a message carries, and the digits behind it.
fn marked(message: &str, marks: &[String]) -> Option<(usize, String)> {
    marks.iter().enumerate().find_map(|(index, mark)| {
        let at = message.find(mark.as_str())?;
        let digits = message[at + mark.len()..]
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        Some((index, digits))
    })
}
