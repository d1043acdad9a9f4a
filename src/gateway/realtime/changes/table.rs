//! Published tables and what each role may read of them, as the loop of changes knows them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{PgPool, postgres::types::Oid};

use super::{
    look::Look,
    pgoutput::{Cell, Identity, Relation},
    types::{self, Type},
    visibility::Statement,
};

/// A change of grants or policies sends the table's definition anew and so is known at once; one of a role's own
/// attributes and memberships is known after this time.
const ACCESS_AGE: Duration = Duration::from_secs(5);

/// A table whose changes somebody wants.
#[derive(Debug)]
pub struct Table {
    /// Its definition in the stream.
    pub relation: Arc<Relation>,
    /// The types of the relation's columns.
    pub types: Vec<Arc<Type>>,
    /// Where the primary key's columns stand; empty without one.
    pub primary_key: Vec<usize>,
    /// Whether its rows have policies, for whichever role.
    pub row_security: bool,
    access: HashMap<String, (Instant, Option<Arc<Access>>)>,
}

/// What a role may read of a table.
#[derive(Debug)]
pub struct Access {
    /// Of each column of the relation, whether it may be read.
    pub columns: Vec<bool>,
    /// Asks for rows by primary key; `None` where every row may be read.
    pub by_key: Option<Arc<Statement>>,
    /// How a deleted row is judged.
    pub deleted: Deleted,
}

/// How a deleted row is judged.
#[derive(Debug)]
pub enum Deleted {
    /// Not at all: every row may be read, or the policies look at columns the old row does not carry.
    Unasked,
    /// By the policies' own expressions on the old row.
    Asked(Arc<Statement>),
}

/// What `realtime_access.sql` answers.
struct Rules {
    /// The columns that may be read.
    columns: Vec<String>,
    /// Whether policies apply to the role.
    restricted: bool,
    permissive: Vec<String>,
    restrictive: Vec<String>,
    /// Whether a policy looks at columns that an old row does not carry.
    needs_more: bool,
}

impl Table {
    /// Looks a table up; `None` if it has been dropped since.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn describe(pool: &PgPool, relation: Arc<Relation>) -> sqlx::Result<Option<Self>> {
        let row: Option<(Vec<String>, bool)> =
            sqlx::query_as(include_str!("../../../../sql/gateway/realtime_table.sql"))
                .bind(Oid(relation.oid))
                .fetch_optional(pool)
                .await?;
        let Some((primary_key, row_security)) = row else {
            return Ok(None);
        };
        let oids: Vec<u32> = relation.columns.iter().map(|column| column.type_oid).collect();
        let found = types::fetch(pool, &oids).await?;
        let types: Option<Vec<_>> = oids.iter().map(|oid| found.get(oid).cloned()).collect();
        let Some(types) = types else { return Ok(None) };
        // A column list of the publication may leave a part of the key out: then rows cannot be asked for by it.
        let primary_key: Option<Vec<_>> = primary_key.iter().map(|name| relation.position(name)).collect();
        Ok(Some(Self {
            relation,
            types,
            primary_key: primary_key.unwrap_or_default(),
            row_security,
            access: HashMap::new(),
        }))
    }

    /// What a role may read; `None` if there is no such role or table any more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn access(&mut self, pool: &PgPool, role: &str) -> sqlx::Result<Option<Arc<Access>>> {
        if let Some((at, access)) = self.access.get(role)
            && at.elapsed() < ACCESS_AGE
        {
            return Ok(access.clone());
        }
        let carried: Vec<&str> = self
            .relation
            .columns
            .iter()
            .filter(|column| column.identity)
            .map(|column| column.name.as_str())
            .collect();
        type Columns = (Vec<String>, bool, Vec<String>, Vec<String>, bool);
        let row: Option<Columns> = sqlx::query_as(include_str!("../../../../sql/gateway/realtime_access.sql"))
            .bind(Oid(self.relation.oid))
            .bind(role)
            .bind(&carried)
            .fetch_optional(pool)
            .await?;
        let access = row.map(|(columns, restricted, permissive, restrictive, needs_more)| {
            let rules = Rules {
                columns,
                restricted,
                permissive,
                restrictive,
                needs_more,
            };
            Arc::new(self.read(role, &rules))
        });
        self.access.insert(role.to_owned(), (Instant::now(), access.clone()));
        Ok(access)
    }

    /// What the role was last found to be allowed.
    pub fn known_access(&self, role: &str) -> Option<&Arc<Access>> {
        self.access.get(role)?.1.as_ref()
    }

    fn read(&self, role: &str, rules: &Rules) -> Access {
        let relation = &self.relation;
        let readable: HashSet<&String> = rules.columns.iter().collect();
        let by_key = rules.restricted.then(|| Statement::new(role, self.by_key()));
        // What needs more than the old row carries cannot be judged; a whole row carries everything.
        let judged = rules.restricted && (!rules.needs_more || relation.identity == Identity::Full);
        let deleted = if judged {
            let any = rules.permissive.join(") or (");
            let any = if any.is_empty() {
                "false".to_owned()
            } else {
                format!("({any})")
            };
            let all: String = rules.restrictive.iter().map(|rule| format!(" and ({rule})")).collect();
            Deleted::Asked(Statement::new(role, self.by_rules(&format!("({any}){all}"))))
        } else {
            Deleted::Unasked
        };
        Access {
            columns: relation
                .columns
                .iter()
                .map(|column| readable.contains(&column.name))
                .collect(),
            by_key,
            deleted,
        }
    }

    /// `offset 0` keeps each key a look-up in the index: joined freely, a small table is read whole and the policies
    /// run for every row of it.
    fn by_key(&self) -> String {
        format!(
            "select $1, each.number::int, null::text from jsonb_array_elements($2) with ordinality as each (question, \
             number), lateral (select from {} as it where {} offset 0) as found",
            self.sql_name(),
            self.same_key()
        )
    }

    fn same_key(&self) -> String {
        let same = self.primary_key.iter().enumerate().map(|(number, position)| {
            let (column, of) = (&self.relation.columns[*position].name, &self.types[*position].sql);
            format!("it.{} = (each.question ->> {number})::{of}", quote(column))
        });
        same.collect::<Vec<_>>().join(" and ")
    }

    /// Reads columns of rows that are asked for as [`Access::by_key`] asks for them.
    pub fn look(&self, columns: &[String]) -> Look {
        let named: String = columns.iter().map(|column| format!(", it.{}", quote(column))).collect();
        Look {
            sql: format!(
                "select each.number{named} from jsonb_array_elements($1::jsonb) with ordinality as each (question, \
                 number), lateral (select * from {} as it where {} offset 0) as it",
                self.sql_name(),
                self.same_key()
            ),
            width: columns.len(),
        }
    }

    /// The old row takes the place of the table in the policies' expressions.
    fn by_rules(&self, rules: &str) -> String {
        format!(
            "select $1, each.number::int, null::text from jsonb_array_elements($2) with ordinality as each (question, \
             number), lateral (select from jsonb_populate_record(null::{}, each.question) as {} where {rules} offset 0) \
             as found",
            self.sql_name(),
            quote(&self.relation.name),
        )
    }

    fn sql_name(&self) -> String {
        format!("{}.{}", quote(&self.relation.schema), quote(&self.relation.name))
    }

    /// The primary key of a row, as a question for [`Access::by_key`]; `None` without a key.
    pub fn key(&self, row: &[Cell]) -> Option<String> {
        let texts: Option<Vec<&str>> = self
            .primary_key
            .iter()
            .map(|position| row.get(*position)?.text())
            .collect();
        texts
            .filter(|texts| !texts.is_empty())
            .map(|texts| serde_json::Value::from(texts).to_string())
    }

    /// An old row as a question for [`Deleted::Asked`].
    pub fn old_row(&self, row: &[Cell]) -> String {
        let columns = self.relation.columns.iter().zip(&self.types).zip(row);
        let fields = columns.filter_map(|((column, of), cell)| {
            let text = cell.text()?;
            let value = match of.form {
                // A string would stay one; all other types read theirs.
                types::Form::Json => serde_json::from_str(text).ok()?,
                _ => serde_json::Value::from(text),
            };
            Some((column.name.clone(), value))
        });
        serde_json::Value::Object(fields.collect()).to_string()
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
