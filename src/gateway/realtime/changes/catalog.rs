//! What joins ask the database about roles, tables and types. After a restart thousands of clients ask the same within
//! seconds: one of them asks, the others use the answer while it is fresh.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{PgPool, postgres::types::Oid};
use tokio::sync::Mutex as Turn;

use super::types::{self, Type};

/// How old an answer may be.
const FRESH: Duration = Duration::from_secs(1);
/// Answers remembered; clients choose what is asked.
const MAX_ANSWERS: usize = 1_024;

/// What a subscription finds.
#[derive(Debug)]
pub struct Target {
    /// Whether there is such a role for clients.
    pub role_exists: bool,
    /// The published tables that are meant.
    pub tables: Vec<Oid>,
    /// The columns by name, where it is exactly one table: those that the role may read, with their types.
    columns: HashMap<String, Option<Oid>>,
}

/// Role, schema and table; null means any.
type Asked = (String, Option<String>, Option<String>);

/// The catalog, as far as joins ask for it.
#[derive(Debug)]
pub struct Catalog {
    /// Connections to the database.
    pub pool: PgPool,
    targets: Answers<Asked, Arc<Target>>,
    types: Answers<u32, Option<Arc<Type>>>,
}

impl Target {
    /// The type of a column that the role may read.
    pub fn selectable(&self, name: &str) -> Option<Oid> {
        *self.columns.get(name)?
    }
}

impl Catalog {
    /// A catalog that has not been asked.
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            targets: Answers::default(),
            types: Answers::default(),
        }
    }

    /// What the role finds under a schema and a table. An answer from before `since` does not do.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn target(
        &self,
        role: &str,
        schema: Option<&str>,
        table: Option<&str>,
        since: Instant,
    ) -> sqlx::Result<Arc<Target>> {
        let asked = (role.to_owned(), schema.map(str::to_owned), table.map(str::to_owned));
        let ask = async {
            type Row = (bool, Vec<Oid>, Vec<String>, Vec<Oid>, Vec<bool>);
            let (role_exists, tables, names, types, may_read): Row =
                sqlx::query_as(include_str!("../../../../sql/gateway/realtime_target.sql"))
                    .bind(role)
                    .bind(schema)
                    .bind(table)
                    .fetch_one(&self.pool)
                    .await?;
            let columns = names.into_iter().zip(types).zip(may_read);
            Ok(Arc::new(Target {
                role_exists,
                tables,
                columns: columns
                    .map(|((name, of), may_read)| (name, may_read.then_some(of)))
                    .collect(),
            }))
        };
        self.targets.get(asked, since, ask).await
    }

    /// A type; `None` if there is none any more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn type_of(&self, oid: Oid, since: Instant) -> sqlx::Result<Option<Arc<Type>>> {
        let ask = async { Ok(types::fetch(&self.pool, &[oid.0]).await?.remove(&oid.0)) };
        self.types.get(oid.0, since, ask).await
    }
}

/// The earliest moment whose answers are fresh.
pub fn fresh() -> Instant {
    let now = Instant::now();
    now.checked_sub(FRESH).unwrap_or(now)
}

/// Answers, each with the moment in which it was asked for.
#[derive(Debug)]
struct Answers<K, V>(Mutex<HashMap<K, Arc<Slot<V>>>>);

type Slot<V> = Turn<Option<(Instant, V)>>;

impl<K, V> Default for Answers<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Answers<K, V> {
    /// The answer, if it is not from before `since`; else asks, one at a time.
    async fn get(&self, key: K, since: Instant, ask: impl Future<Output = sqlx::Result<V>>) -> sqlx::Result<V> {
        let slot = {
            let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.len() >= MAX_ANSWERS {
                slots.clear();
            }
            Arc::clone(slots.entry(key).or_default())
        };
        let mut answer = slot.lock().await;
        if let Some((asked, value)) = &*answer
            && *asked >= since
        {
            return Ok(value.clone());
        }
        let asked = Instant::now();
        let value = ask.await?;
        *answer = Some((asked, value.clone()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_serves_those_who_may_have_an_old_one() {
        let answers = Answers::<&str, u32>::default();
        let begin = Instant::now();
        let get = |since, value| answers.get("a", since, async move { Ok(value) });
        assert_eq!(get(begin, 1).await.unwrap(), 1);
        assert_eq!(get(begin, 2).await.unwrap(), 1);
        assert_eq!(get(Instant::now(), 3).await.unwrap(), 3);
        let failed = answers.get("b", begin, async { Err(sqlx::Error::RowNotFound) });
        assert!(failed.await.is_err());
        assert_eq!(answers.get("b", begin, async { Ok(4) }).await.unwrap(), 4);
    }
}
