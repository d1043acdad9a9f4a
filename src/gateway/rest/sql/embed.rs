//! What is embedded: how its rows are joined to those of their parent, and how they become one value of it.

use super::{
    super::{
        catalog::Link,
        plan::read::{Child, Node, Source},
    },
    RESULT, Sql,
    keys::keys,
    read::Reader,
};

/// The column of joined rows that is null where there are none, and their JSON if they are no spread.
const VALUE: &str = "pgrst_value";

/// Rows before they become one value.
const ROWS: &str = "pgrst_rows";

/// The level above an embed's rows, and the embed.
pub type Parent<'p, 'c> = Option<(&'p Node<'c>, &'p Child<'c>)>;

/// Joins an embed's rows. A single row becomes JSON where it is found: the planner can still treat it as any other join,
/// and where it remembers rows of the joined side, it remembers their JSON.
pub fn join(sql: &mut Sql, reader: &Reader<'_>, node: &Node<'_>, child: &Child<'_>) {
    sql.push(if child.inner {
        " join lateral ("
    } else {
        " left join lateral ("
    });
    let parent = Some((node, child));
    if child.to_one && child.spread {
        reader.rows(sql, &child.node, parent, true);
    } else {
        sql.push("select ");
        if child.to_one {
            sql.push("pg_catalog.to_jsonb(").name(ROWS).push(".*) as ").name(VALUE);
        } else if child.spread {
            sql.push("nullif(pg_catalog.count(*), 0) as ").name(VALUE);
            for key in keys(&child.node) {
                sql.push(", pg_catalog.json_agg(")
                    .column(ROWS, &key)
                    .push(")::jsonb as ")
                    .name(&key);
            }
        } else {
            sql.push("pg_catalog.json_agg(")
                .name(ROWS)
                .push(".*)::jsonb as ")
                .name(VALUE);
        }
        sql.push(" from (");
        reader.rows(sql, &child.node, parent, false);
        sql.push(") as ").name(ROWS);
    }
    sql.push(") as ").name(&child.joined).push(" on ");
    // A single row is joined or is not; rows made one value give one in any case.
    if child.inner && !child.to_one {
        presence(sql, child, true);
    } else {
        sql.push("true");
    }
}

/// Adds the test whether joined rows are there, or are not.
pub fn presence(sql: &mut Sql, child: &Child<'_>, wanted: bool) {
    // A row of nulls is a row: `is null` would not see it.
    if child.to_one && child.spread {
        sql.name(&child.joined);
    } else {
        sql.column(&child.joined, VALUE);
    }
    sql.push(if wanted {
        " is distinct from null"
    } else {
        " is not distinct from null"
    });
}

/// Adds the JSON of an embed.
pub fn value(sql: &mut Sql, child: &Child<'_>) {
    if child.to_one {
        sql.column(&child.joined, VALUE);
    } else {
        sql.push("coalesce(").column(&child.joined, VALUE).push(", '[]')");
    }
}

/// Adds a column of an embed that is spread.
pub fn spread(sql: &mut Sql, child: &Child<'_>, key: &str) {
    if child.to_one {
        sql.column(&child.joined, key);
    } else {
        sql.push("coalesce(").column(&child.joined, key).push(", '[]')");
    }
}

/// Adds where a level's rows are.
pub fn from(sql: &mut Sql, node: &Node<'_>, parent: Parent<'_, '_>) {
    sql.push(" from ");
    match (&node.source, parent.map(|(parent, child)| (parent, child.link))) {
        (_, Some((parent, Link::Function { function, .. }))) => {
            sql.qualified(function).push("(").name(&parent.alias);
            if let Some(relation) = parent.relation {
                // A write's result has rows of no type; a table's row already has this one.
                sql.push("::").qualified(&relation.qualified());
            }
            sql.push(")");
        }
        (Source::Relation(name), _) => {
            sql.qualified(name);
        }
        (Source::Result, _) => {
            sql.name(RESULT);
        }
    }
    sql.push(" as ").name(&node.alias);
    if let Some((_, child)) = parent
        && let Link::Junction { relation, .. } = child.link
    {
        sql.push(", ")
            .qualified(relation)
            .push(" as ")
            .name(&junction_alias(child));
    }
}

fn junction_alias(child: &Child<'_>) -> String {
    format!("x_{}", child.joined)
}

/// Adds the condition under which an embed's row is a parent's; false if the row's source says it already.
pub fn link(sql: &mut Sql, parent: &Node<'_>, child: &Child<'_>) -> bool {
    let equal = |sql: &mut Sql, (left, right): (&str, &str), columns: &[(String, String)]| {
        sql.list(columns, " and ", |sql, (own, theirs)| {
            sql.column(left, own).push(" = ").column(right, theirs);
        });
    };
    match child.link {
        Link::Function { .. } => return false,
        Link::Key { columns, .. } => equal(sql, (&parent.alias, &child.node.alias), columns),
        Link::Junction {
            to_origin, to_target, ..
        } => {
            let junction = junction_alias(child);
            equal(sql, (&parent.alias, &junction), &to_origin.1);
            sql.push(" and ");
            equal(sql, (&junction, &child.node.alias), &to_target.1);
        }
    }
    true
}
