//! Types of columns, as far as values are rendered and compared by them.

use std::{collections::HashMap, sync::Arc};

use sqlx::{PgPool, postgres::types::Oid};
use uuid::Uuid;

/// Composite types nest no deeper than this here; what lies below is shown as text.
const MAX_DEPTH: u8 = 16;

/// A type.
#[derive(Debug, PartialEq, Eq)]
pub struct Type {
    /// `pg_type.typname`: `int8`, `_text`.
    pub name: String,
    /// Schema and name, quoted, for a cast.
    pub sql: String,
    /// How its text becomes JSON.
    pub form: Form,
    /// Whether two values are equal exactly if their texts are.
    pub equal_as_text: bool,
}

/// How a value's text becomes JSON.
#[derive(Debug, PartialEq, Eq)]
pub enum Form {
    /// `t` or `f`.
    Bool,
    /// A number, `NaN` or `Infinity`.
    Number,
    /// JSON already.
    Json,
    /// `2024-01-02 03:04:05`
    Timestamp,
    /// `2024-01-02 03:04:05+00`
    TimestampTz,
    /// `\x00ff`
    Bytea,
    /// Anything else: a string.
    Text,
    /// `{1,2}`, elements of a type and what stands between them.
    Array(Arc<Type>, char),
    /// `(1,a)`, named fields.
    Composite(Vec<(String, Arc<Type>)>),
}

/// The types met so far, by `pg_type.oid`.
pub type Types = HashMap<u32, Arc<Type>>;

/// What `realtime_types.sql` answers of one type.
struct Row {
    name: String,
    sql_name: String,
    kind: String,
    base: Oid,
    element: Oid,
    delimiter: String,
    field_names: Vec<String>,
    field_types: Vec<Oid>,
}

impl Type {
    /// Whether Postgres reads this text as a value and prints it just so, as far as that is plain.
    pub fn prints(&self, text: &str) -> bool {
        match self.sql.as_str() {
            "pg_catalog.uuid" => Uuid::try_parse(text).is_ok_and(|id| id.to_string() == text),
            "pg_catalog.int2" => text.parse::<i16>().is_ok_and(|number| number.to_string() == text),
            "pg_catalog.int4" => text.parse::<i32>().is_ok_and(|number| number.to_string() == text),
            "pg_catalog.int8" => text.parse::<i64>().is_ok_and(|number| number.to_string() == text),
            "pg_catalog.text" | "pg_catalog.varchar" => !text.contains('\0'),
            _ => false,
        }
    }
}

/// Looks the given types up.
///
/// # Errors
/// Those of the database. A type that is gone is missing in the answer.
pub async fn fetch(pool: &PgPool, oids: &[u32]) -> sqlx::Result<Types> {
    let wanted: Vec<Oid> = oids.iter().copied().map(Oid).collect();
    type Columns = (Oid, String, String, String, Oid, Oid, String, Vec<String>, Vec<Oid>);
    let rows: Vec<Columns> = sqlx::query_as(include_str!("../../../../sql/gateway/realtime_types.sql"))
        .bind(wanted)
        .fetch_all(pool)
        .await?;
    let rows = rows.into_iter().map(
        |(oid, name, sql_name, kind, base, element, delimiter, field_names, field_types)| {
            let row = Row {
                name,
                sql_name,
                kind,
                base,
                element,
                delimiter,
                field_names,
                field_types,
            };
            (oid.0, row)
        },
    );
    let rows: HashMap<u32, Row> = rows.collect();
    Ok(oids
        .iter()
        .filter_map(|oid| Some((*oid, build(&rows, *oid, 0)?)))
        .collect())
}

fn build(rows: &HashMap<u32, Row>, oid: u32, depth: u8) -> Option<Arc<Type>> {
    let row = rows.get(&oid)?;
    let part = |oid: Oid| build(rows, oid.0, depth + 1);
    let (form, equal_as_text) = match (row.kind.as_str(), oid) {
        _ if depth > MAX_DEPTH => (Form::Text, false),
        ("d", _) => {
            let base = part(row.base)?;
            return Some(Arc::new(Type {
                name: row.name.clone(),
                sql: row.sql_name.clone(),
                equal_as_text: base.equal_as_text,
                form: Arc::try_unwrap(base).ok()?.form,
            }));
        }
        ("c", _) => {
            let fields = row.field_names.iter().zip(&row.field_types);
            let fields = fields.map(|(name, oid)| Some((name.clone(), part(*oid)?)));
            (Form::Composite(fields.collect::<Option<_>>()?), false)
        }
        ("e", _) => (Form::Text, true),
        _ if row.element.0 != 0 => {
            let delimiter = row.delimiter.chars().next().unwrap_or(',');
            (Form::Array(part(row.element)?, delimiter), false)
        }
        (_, 16) => (Form::Bool, true),
        (_, 20 | 21 | 23) => (Form::Number, true),
        // 1.0 equals 1.00, and -0 equals 0.
        (_, 700 | 701 | 1700) => (Form::Number, false),
        (_, 114 | 3802) => (Form::Json, false),
        (_, 1114) => (Form::Timestamp, true),
        (_, 1184) => (Form::TimestampTz, true),
        (_, 17) => (Form::Bytea, true),
        // name, text, oid, varchar, date, uuid
        (_, 19 | 25 | 26 | 1043 | 1082 | 2950) => (Form::Text, true),
        _ => (Form::Text, false),
    };
    Some(Arc::new(Type {
        name: row.name.clone(),
        sql: row.sql_name.clone(),
        form,
        equal_as_text,
    }))
}
