//! The source of rows for functions: a call with its arguments.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    super::catalog::{Name, Routine, routines::Argument},
    Sql, array,
};

/// The column of a function's value, where it gives values instead of rows.
pub const SCALAR: &str = "pgrst_scalar";

/// A function's rows.
const CALL: &str = "pgrst_call";

/// Arguments that came as JSON.
const ARGUMENTS: &str = "pgrst_args";

/// What a function is called with.
#[derive(Clone, Debug)]
pub enum Arguments {
    /// Members of the first object of a JSON array.
    Json {
        /// Which of them.
        keys: BTreeSet<String>,
        /// The array.
        rows: Bytes,
    },
    /// Texts by name.
    Texts(BTreeMap<String, Vec<String>>),
    /// The whole body.
    Body(Bytes),
}

/// Adds a call. `computed` are columns wanted of its rows that are functions of them.
pub fn call(sql: &mut Sql, routine: &Routine, arguments: &Arguments, computed: &[&str]) {
    let name = Name::new(&routine.schema, &routine.name);
    let passed: Vec<&Argument> = match arguments {
        Arguments::Json { keys, .. } => routine.arguments.iter().filter(|a| keys.contains(&a.name)).collect(),
        Arguments::Texts(texts) => routine
            .arguments
            .iter()
            .filter(|a| texts.contains_key(&a.name))
            .collect(),
        Arguments::Body(_) => Vec::new(),
    };
    let json = match arguments {
        Arguments::Json { rows, .. } if !passed.is_empty() => Some(rows),
        _ => None,
    };
    let from_json = |sql: &mut Sql, rows: &Bytes| {
        sql.push("pg_catalog.json_to_record(")
            .value(rows.clone())
            .push("::json->0) as ")
            .name(ARGUMENTS)
            .push(" (");
        sql.list(&passed, ", ", |sql, argument| {
            sql.name(&argument.name).push(" ").push(&argument.cast);
        });
        sql.push(")");
    };
    let invoke = |sql: &mut Sql| {
        sql.qualified(&name).push("(");
        if let Arguments::Body(body) = arguments {
            whole_body(sql, routine, body);
        }
        sql.list(&passed, ", ", |sql, argument| {
            if argument.variadic {
                sql.push("variadic ");
            }
            sql.name(&argument.name).push(" := ");
            match arguments {
                Arguments::Texts(texts) => text_argument(sql, argument, &texts[&argument.name]),
                _ => {
                    sql.column(ARGUMENTS, &argument.name);
                }
            }
        });
        sql.push(")");
    };
    if returns_rows(routine) {
        sql.push("select ").name(CALL).push(".*");
        for column in computed {
            sql.push(", ").column(CALL, column);
        }
        sql.push(" from ");
        if let Some(rows) = json {
            from_json(sql, rows);
            sql.push(", lateral ");
        }
        invoke(sql);
        sql.push(" as ").name(CALL);
    } else {
        sql.push("select ");
        invoke(sql);
        sql.push(" as ").name(SCALAR);
        if let Some(rows) = json {
            sql.push(" from ");
            from_json(sql, rows);
        }
    }
}

/// Whether a function is asked for columns; a record of unknown columns is a value.
pub fn returns_rows(routine: &Routine) -> bool {
    routine.composite && !routine.record
}

fn whole_body(sql: &mut Sql, routine: &Routine, body: &Bytes) {
    let type_name = routine.unnamed().unwrap_or("text");
    if type_name == "bytea" {
        let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
        sql.push("pg_catalog.decode(").value(hex).push(", 'hex')");
    } else {
        sql.value(body.clone()).push("::").push(type_name);
    }
}

fn text_argument(sql: &mut Sql, argument: &Argument, values: &[String]) {
    let last = values.last().cloned().unwrap_or_default();
    let value = match values {
        [one] if argument.variadic && one.starts_with('{') && one.ends_with('}') => one.clone(),
        _ if argument.variadic => array(values),
        _ => last,
    };
    sql.value(value).push("::").push(&argument.cast);
}
