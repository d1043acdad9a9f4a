//! Settings and statement, sent together as one transaction.

use std::sync::Arc;

use super::{
    error::{Error, Result},
    identity::Identity,
    sql::Sql,
};
use crate::db::session::{Failure, Pool, Row, Session, Step};

/// What one request asks of the database.
#[derive(Debug)]
pub struct Transaction {
    /// As whom.
    pub identity: Arc<Identity>,
    /// The isolation level, if it is not the server's.
    pub isolation: Option<&'static str>,
    /// Who calls and how.
    pub settings: Sql,
    /// The function called first.
    pub pre_request: Option<Sql>,
    /// The statement.
    pub statement: Sql,
    /// Another one, for the planner's estimate.
    pub estimate: Option<Sql>,
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

impl Transaction {
    /// Runs it. When the client hangs up, it is given up and cancelled.
    ///
    /// # Errors
    /// Whatever Postgres refuses, as PostgREST tells it; PGRST000, PGRST001, PGRST003 when it cannot be asked. A refusal with
    /// one of the marks is the statement's own doing: then the mark and what followed it.
    pub async fn run(&self, pool: &Pool, marks: &[String]) -> Result<Result<Outcome, (usize, String)>> {
        let mut session = pool.session().await.map_err(Error::no_connection)?;
        let finished = self.steps(&mut session).await;
        match finished {
            Ok(outcome) => Ok(Ok(outcome)),
            Err(failure) => {
                if let Some(own) = failure.refusal().and_then(|refusal| marked(&refusal.message, marks)) {
                    return Ok(Err(own));
                }
                Err(Error::from_failure(failure, self.identity.anonymous).into())
            }
        }
    }

    async fn steps(&self, session: &mut Session) -> Result<Outcome, Failure> {
        let settings = borrowed(&self.settings);
        let pre_request = self.pre_request.as_ref().map(borrowed);
        let statement = borrowed(&self.statement);
        let estimate = self.estimate.as_ref().map(borrowed);
        let role = self.identity.role.as_str();

        let mut steps = Vec::with_capacity(7);
        if let Some(isolation) = self.isolation {
            steps.push(Step::new(isolation, &[]));
        }
        steps.push(Step::new(self.settings.text(), &settings));
        if let (Some(sql), Some(params)) = (&self.pre_request, &pre_request) {
            steps.push(Step::new(sql.text(), params).as_role(role));
        }
        let main = steps.len();
        steps.push(Step::new(self.statement.text(), &statement).as_role(role).in_binary());
        if let (Some(sql), Some(params)) = (&self.estimate, &estimate) {
            steps.push(Step::new(sql.text(), params).as_role(role));
        }
        if self.rollback {
            // Otherwise what is deferred would never be checked.
            steps.push(Step::new("set constraints all immediate", &[]));
            steps.push(Step::new("rollback", &[]));
        }
        let mut rows = session.transaction(&steps).await?;
        let estimate = self.estimate.as_ref().and_then(|_| {
            let plan: serde_json::Value = serde_json::from_str(rows[main + 1].first()?.text(0)?).ok()?;
            plan[0]["Plan"]["Plan Rows"].as_i64()
        });
        Ok(Outcome {
            rows: std::mem::take(&mut rows[main]),
            estimate,
        })
    }
}

fn borrowed(sql: &Sql) -> Vec<Option<&[u8]>> {
    sql.params().iter().map(|param| Some(param.as_ref())).collect()
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
