//! The one row that an answer is made of.

use super::{super::catalog::Name, Param, RESULT, Sql, call::SCALAR, write::UPDATED};

/// The rows of an answer.
const ROWS: &str = "pgrst_rows";

/// The columns of the row.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum Part {
    /// How many rows there are without limits, if they were counted.
    Total,
    /// How many rows these are.
    Rows,
    /// The body.
    Body,
    /// `response.headers`.
    Headers,
    /// `response.status`.
    Status,
    /// The key of the one row that was written.
    Key,
    /// How many rows an upsert found.
    Updated,
}

/// What the body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// None.
    None,
    /// A JSON array.
    Array {
        /// Without members that are null.
        strip_nulls: bool,
    },
    /// The first row as JSON.
    First {
        /// Without members that are null.
        strip_nulls: bool,
    },
    /// CSV with a header line.
    Csv,
    /// A GeoJSON feature collection.
    GeoJson,
    /// A function's value as JSON.
    Value,
    /// A function's values as a JSON array.
    Values,
    /// A function's value as it is.
    Raw,
    /// What an aggregate makes of the rows.
    Aggregate {
        /// The aggregate.
        function: Name,
        /// The relation whose rows it wants.
        of: Option<Name>,
    },
}

/// When a write takes itself back. Nothing decides after the answer was seen: there is one write and one `Sync`, so
/// the statement itself has to fail, and it does by reading a text as a number that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Unless it is about one row.
    Single,
    /// If it is about more rows than these.
    AtMost(i64),
    /// If it is about no row.
    Some,
}

/// How an answer is made.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    /// The body.
    pub body: Body,
    /// When to fail. A mark tells each failure, one that nobody outside may know.
    pub guards: &'a [Guard],
    /// The columns of the key to tell.
    pub key: &'a [String],
    /// Whether an upsert's rows are counted.
    pub counts_updates: bool,
}

/// How many rows there are without limits.
pub enum Total<'a> {
    /// Those that are given.
    Given,
    /// Those that this selects, counted up to one more than the limit, if there is one.
    Counted(&'a mut dyn FnMut(&mut Sql), Option<u32>),
}

/// Writes the statement: `source` is a write or call, `rows` what is given of it, `counted` rows to count.
pub fn statement(
    sql: &mut Sql,
    answer: &Answer<'_>,
    source: Option<&mut dyn FnMut(&mut Sql)>,
    total: Option<Total<'_>>,
    rows: &mut dyn FnMut(&mut Sql),
) {
    if let Some(source) = source {
        sql.push("with ").name(RESULT).push(" as materialized (");
        source(sql);
        sql.push(") ");
    }
    sql.push("select ");
    // One value is one row, and there is no aggregate of all types.
    let given = match answer.body {
        Body::Raw => "'1'",
        _ => "pg_catalog.count(*)::text",
    };
    match total {
        Some(Total::Given) => {
            sql.push(given);
        }
        Some(Total::Counted(counted, limit)) => {
            sql.push("(select pg_catalog.count(*) from (");
            counted(sql);
            if let Some(limit) = limit {
                sql.push(" limit ").value((i64::from(limit) + 1).to_string());
            }
            sql.push(") as pgrst_counted)::text");
        }
        None => {
            sql.push("null");
        }
    }
    sql.push(", ").push(given).push(", ");
    body(sql, &answer.body);
    for name in ["response.headers", "response.status"] {
        sql.push(", nullif(pg_catalog.current_setting('")
            .push(name)
            .push("', true), '')");
    }
    sql.push(", ");
    if answer.key.is_empty() {
        sql.push("null");
    } else {
        sql.push("(select pg_catalog.json_build_array(");
        sql.list(answer.key, ", ", |sql, column| {
            sql.column(RESULT, column).push("::text");
        });
        sql.push(")::text from ").name(RESULT).push(" limit 1)");
    }
    sql.push(", ");
    if answer.counts_updates {
        sql.push("nullif(pg_catalog.current_setting(")
            .literal(UPDATED)
            .push(", true), '')");
    } else {
        sql.push("null");
    }
    for (number, guard) in answer.guards.iter().enumerate() {
        sql.push(", case when pg_catalog.count(*) ");
        match guard {
            Guard::Single => sql.push("<> 1"),
            Guard::AtMost(rows) => sql.push("> ").value(rows.to_string()).push("::int8"),
            Guard::Some => sql.push("= 0"),
        };
        sql.push(" then (")
            .param(Param::Mark(number))
            .push("::text || pg_catalog.count(*)::text)::int4 end");
    }
    sql.push(" from (");
    rows(sql);
    sql.push(") as ").name(ROWS);
}

fn body(sql: &mut Sql, body: &Body) {
    let row = format!("\"{ROWS}\".*");
    let scalar = format!("\"{ROWS}\".\"{SCALAR}\"");
    let text = match body {
        Body::None => "null".to_owned(),
        Body::Array { strip_nulls: false } => format!("coalesce(pg_catalog.json_agg({row}), '[]')"),
        Body::Array { strip_nulls: true } => {
            format!("coalesce(pg_catalog.json_strip_nulls(pg_catalog.json_agg({row})), '[]')")
        }
        Body::First { strip_nulls: false } => format!("coalesce(pg_catalog.json_agg({row})->0, 'null')"),
        Body::First { strip_nulls: true } => {
            format!("coalesce(pg_catalog.json_strip_nulls(pg_catalog.json_agg({row})->0), 'null')")
        }
        // A row as text is its values in parentheses, quoted nearly as CSV wants it.
        Body::Csv => format!(
            "coalesce((select pg_catalog.string_agg(pgrst_key, ',') \
               from pg_catalog.json_object_keys(pg_catalog.json_agg({row})->0) as pgrst_key), '') \
             || E'\\n' \
             || coalesce(pg_catalog.string_agg(pg_catalog.substr(({row})::text, 2, pg_catalog.length(({row})::text) - 2), \
               E'\\n'), '')"
        ),
        Body::GeoJson => format!(
            "pg_catalog.json_build_object('type', 'FeatureCollection', 'features', \
             coalesce(pg_catalog.json_agg(ST_AsGeoJSON({row})::json), '[]'))"
        ),
        Body::Value => format!("coalesce(pg_catalog.json_agg({scalar})->0, 'null')"),
        Body::Values => format!("coalesce(pg_catalog.json_agg({scalar}), '[]')"),
        Body::Raw => scalar,
        Body::Aggregate { function, of } => {
            sql.qualified(function).push("(");
            match of {
                Some(relation) => sql.name(ROWS).push("::").qualified(relation),
                None => sql.push(&row),
            };
            sql.push(")");
            return;
        }
    };
    sql.push(&text);
}
