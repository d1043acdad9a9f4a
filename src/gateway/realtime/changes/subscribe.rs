//! From what a join asks for to subscriptions: checked against the catalog, values as Postgres prints them.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, postgres::types::Oid};

use super::{
    catalog::{self, Catalog},
    condition::Condition,
    filter::{self, MAX_VALUES, Op, Written},
    pgoutput::Kind,
    registry::Subscription,
};
use crate::gateway::realtime::{listener::Listener, token::Identity};

/// One element of a join's `postgres_changes`.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Its number in reply and events.
    pub id: u32,
    /// As the client sent it; the reply repeats it.
    pub params: Map<String, Value>,
}

/// Why a binding gives no subscription, in Supabase's words: the message of a `system` event.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// For the client to correct.
    #[error("{0}")]
    Params(String),
    /// The database could not be asked.
    #[error("Realtime was unable to connect to the project database")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// What a binding says, read.
struct Wanted<'a> {
    kind: Option<Kind>,
    schema: Option<&'a str>,
    table: Option<&'a str>,
    conditions: Vec<Written>,
    select: Option<Vec<String>>,
}

impl Binding {
    /// Checks the binding; gives the subscription, and its rows for `realtime.subscription`.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub async fn check(
        &self,
        catalog: &Catalog,
        identity: &Arc<Identity>,
        listener: &Arc<Listener>,
    ) -> Result<(Subscription, Vec<Value>), Refusal> {
        let (wanted, begin) = (self.read()?, Instant::now());
        match self.find(catalog, &wanted, identity, listener, catalog::fresh()).await {
            // What is remembered of the catalog is no reason to refuse: the table may just have been made.
            Err(Refusal::Params(_)) => self.find(catalog, &wanted, identity, listener, begin).await,
            found => found,
        }
    }

    /// Finds what is wanted in the catalog as it was `since` then.
    async fn find(
        &self,
        catalog: &Catalog,
        wanted: &Wanted<'_>,
        identity: &Arc<Identity>,
        listener: &Arc<Listener>,
        since: Instant,
    ) -> Result<(Subscription, Vec<Value>), Refusal> {
        let target = catalog
            .target(&identity.role, wanted.schema, wanted.table, since)
            .await?;
        if !target.role_exists {
            return Err(self.exception(wanted, &format!("role \"{}\" does not exist", identity.role)));
        }
        if target.tables.is_empty() {
            return Err(Refusal::Params(format!(
                "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given \
                 connect parameters: {}",
                self.inspect(wanted)
            )));
        }
        for name in wanted.select.iter().flatten() {
            if target.selectable(name).is_none() {
                return Err(self.exception(wanted, &format!("invalid column for select {name}")));
            }
        }
        let mut conditions = Vec::new();
        for written in &wanted.conditions {
            let Some(of) = target.selectable(&written.column) else {
                return Err(self.exception(wanted, &format!("invalid column for filter {}", written.column)));
            };
            conditions.push(Arc::new(self.condition(catalog, wanted, written, of, since).await?));
        }
        let filters: Vec<Value> = wanted
            .conditions
            .iter()
            .map(|c| json!({ "column": c.column, "op": c.op.name(), "value": c.value, "negate": c.negate }))
            .collect();
        let rows = target
            .tables
            .iter()
            .map(|table| {
                json!({ "entity": table.0, "filters": filters, "event": event_name(wanted.kind), "columns": wanted.select })
            })
            .collect();
        let subscription = Subscription {
            id: self.id,
            kind: wanted.kind,
            schema: wanted.schema.map(str::to_owned),
            table: wanted.table.map(str::to_owned),
            conditions,
            select: wanted.select.clone(),
            identity: Arc::clone(identity),
            listener: Arc::clone(listener),
            troubled: AtomicBool::new(false),
        };
        Ok((subscription, rows))
    }

    fn read(&self) -> Result<Wanted<'_>, Refusal> {
        let text = |name: &str| {
            self.params
                .get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let lone_star = |name: &&str| *name != "*";
        let (schema, table) = (text("schema"), text("table"));
        // A filter is one of a table of a schema.
        if schema.is_none() && table.is_none() || text("filter").is_some() && (schema.is_none() || table.is_none()) {
            return Err(Refusal::Params(format!(
                "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: {}",
                elixir(&Value::from(self.params.clone()))
            )));
        }
        let kind = match text("event").unwrap_or("*").to_ascii_uppercase().as_str() {
            "INSERT" => Some(Kind::Insert),
            "UPDATE" => Some(Kind::Update),
            "DELETE" => Some(Kind::Delete),
            _ => None,
        };
        // A table alone is one of public; a schema alone means all its tables.
        let wanted_schema = schema.or(Some("public")).filter(lone_star);
        let wanted_table = table.filter(lone_star);
        let conditions =
            filter::parse(text("filter").unwrap_or_default()).map_err(|error| Refusal::Params(error.to_string()))?;
        let select = match self.params.get("select") {
            Some(Value::Array(list)) => {
                let names = list.iter().filter_map(Value::as_str).map(str::to_owned);
                Some(names.collect::<Vec<_>>()).filter(|names| !names.is_empty())
            }
            Some(Value::String(_)) => {
                return Err(Refusal::Params(
                    "Error parsing `select` params: expected a list of column name strings, e.g. select: [\"col1\", \"col2\"]"
                        .to_owned(),
                ));
            }
            _ => None,
        };
        let exact = wanted_schema.is_some() && wanted_table.is_some();
        if select.is_some() && !exact {
            return Err(Refusal::Params(
                "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name."
                    .to_owned(),
            ));
        }
        if !conditions.is_empty() && !exact {
            return Err(Refusal::Params(
                "Filters are not supported for wildcard subscriptions. Provide an explicit schema and table name."
                    .to_owned(),
            ));
        }
        Ok(Wanted {
            kind,
            schema: wanted_schema,
            table: wanted_table,
            conditions,
            select,
        })
    }

    /// Lets Postgres read the value as one of the column's type, and print it as it prints rows: with `format`, as a
    /// cast to text says `true` where rows say `t`.
    async fn condition(
        &self,
        catalog: &Catalog,
        wanted: &Wanted<'_>,
        written: &Written,
        of: Oid,
        since: Instant,
    ) -> Result<Condition, Refusal> {
        let exception = |text: &str| self.exception(wanted, text);
        let pool = &catalog.pool;
        let of = catalog
            .type_of(of, since)
            .await?
            .ok_or_else(|| exception(&format!("invalid column for filter {}", written.column)))?;
        let (op, value) = (written.op, &written.value);
        let values: Result<Vec<Option<String>>, sqlx::Error> = match op {
            Op::Is => {
                let boolean = of.name == "bool";
                match value.as_str() {
                    "null" => {}
                    "true" | "false" | "unknown" if boolean => {}
                    "true" | "false" | "unknown" => {
                        let text = format!("is {value} filter requires a boolean column, got {}", of.name);
                        return Err(exception(&text));
                    }
                    _ => return Err(exception(&format!("invalid value for is filter: {value}"))),
                }
                Ok(vec![])
            }
            Op::In => {
                let sql = format!(
                    "select format('%s', each) from unnest($1::text::{}[]) as each where each is not null",
                    of.sql
                );
                sqlx::query_scalar(AssertSqlSafe(sql)).bind(value).fetch_all(pool).await
            }
            _ if op.is_pattern() => {
                // Run once on nothing, so that a bad pattern is refused here and not at the first change.
                let sql = format!("select $1 where (null::{}) {} $1 is null", of.sql, op.sql());
                let checked = sqlx::query_scalar(AssertSqlSafe(sql)).bind(value).fetch_all(pool).await;
                match checked {
                    Ok(_) if matches!(op, Op::Match | Op::Imatch) => {
                        sqlx::query_scalar(AssertSqlSafe(format!("select $1 where '' {} $1 is not null", op.sql())))
                            .bind(value)
                            .fetch_all(pool)
                            .await
                    }
                    checked => checked,
                }
            }
            _ if of.prints(value) => Ok(vec![Some(value.clone())]),
            _ => {
                let sql = format!("select format('%s', $1::text::{})", of.sql);
                sqlx::query_scalar(AssertSqlSafe(sql)).bind(value).fetch_all(pool).await
            }
        };
        let values = match values {
            Ok(values) => values.into_iter().flatten().collect::<HashSet<String>>(),
            Err(sqlx::Error::Database(error)) => return Err(exception(error.message())),
            Err(error) => return Err(error.into()),
        };
        if op == Op::In && values.len() > MAX_VALUES {
            return Err(exception(&format!(
                "too many values for `in` filter. Maximum {MAX_VALUES}"
            )));
        }
        Ok(Condition {
            written: written.clone(),
            of,
            values,
        })
    }

    fn exception(&self, wanted: &Wanted<'_>, text: &str) -> Refusal {
        Refusal::Params(format!(
            "Unable to subscribe to changes with given parameters. An exception happened so please check your connect \
             parameters: {}. Exception: {text}",
            self.inspect(wanted)
        ))
    }

    fn inspect(&self, wanted: &Wanted<'_>) -> String {
        let filters = wanted.conditions.iter().map(|written| {
            let Written {
                column, value, negate, ..
            } = written;
            format!("{{{column:?}, {:?}, {value:?}, {negate}}}", written.op.name())
        });
        format!(
            "[event: {}, schema: {}, table: {}, filters: [{}], select: {}]",
            event_name(wanted.kind),
            wanted.schema.unwrap_or("*"),
            wanted.table.unwrap_or("*"),
            filters.collect::<Vec<_>>().join(", "),
            wanted
                .select
                .as_ref()
                .map_or_else(|| "nil".to_owned(), |columns| format!("{columns:?}")),
        )
    }
}

/// JSON as Elixir shows it, which is how Supabase repeats what it was sent.
fn elixir(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(list) => format!("[{}]", list.iter().map(elixir).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs = map.iter().map(|(name, value)| format!("{name:?} => {}", elixir(value)));
            format!("%{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        plain => plain.to_string(),
    }
}

fn event_name(kind: Option<Kind>) -> &'static str {
    kind.map_or("*", Kind::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_repeated_as_supabase_repeats_it() {
        let sent = json!({ "event": "*", "n": [1, null, true] });
        assert_eq!(elixir(&sent), r#"%{"event" => "*", "n" => [1, nil, true]}"#);
    }
}
