//! Filters as SQL.

use bytes::Bytes;

use super::{
    super::{
        catalog::{Catalog, Column},
        parse::{
            cursor::{Field, JsonOperand},
            filter::{Condition, Group, Test},
            operation::{Operation, Operator, Quantifier},
        },
        plan::read::{Child, Node},
    },
    Param, Sql, array, embed, read,
};

/// How a test whether an embed has rows is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embeds {
    /// By the joined value.
    Joined,
    /// By a subquery: nothing is joined where rows are only counted.
    Exists,
    /// Not at all: a write's filters are about its own columns.
    None,
}

/// Adds conditions that all must hold; `true` if there are none.
pub fn all(sql: &mut Sql, catalog: &Catalog, node: &Node<'_>, embeds: Embeds) {
    if node.conditions.is_empty() {
        sql.push("true");
        return;
    }
    sql.list(&node.conditions, " and ", |sql, condition| {
        one(sql, catalog, node, condition, embeds)
    });
}

fn one(sql: &mut Sql, catalog: &Catalog, node: &Node<'_>, condition: &Condition, embeds: Embeds) {
    match condition {
        Condition::Group(Group { negated, any, members }) => {
            sql.push(if *negated { "not (" } else { "(" });
            let word = if *any { " or " } else { " and " };
            sql.list(members, word, |sql, member| one(sql, catalog, node, member, embeds));
            sql.push(")");
        }
        Condition::Test(test) => match embed_test(node, test) {
            Some((child, present)) if embeds != Embeds::None => has_rows(sql, catalog, node, child, present, embeds),
            _ => column_test(sql, catalog, node, test),
        },
    }
}

/// The embed whose rows a test is about, and whether there must be some.
fn embed_test<'n, 'c>(node: &'n Node<'c>, test: &Test) -> Option<(&'n Child<'c>, bool)> {
    let child = node.embed(&test.field.name).filter(|_| test.field.path.is_empty())?;
    let present = match test.operation.operator {
        Operator::Is("null") => test.operation.negated,
        Operator::Is("not null") => !test.operation.negated,
        _ => return None,
    };
    Some((child, present))
}

fn has_rows(sql: &mut Sql, catalog: &Catalog, node: &Node<'_>, child: &Child<'_>, present: bool, embeds: Embeds) {
    if embeds == Embeds::Joined {
        embed::presence(sql, child, present);
    } else {
        sql.push(if present { "exists (" } else { "not exists (" });
        read::existence(sql, catalog, node, child);
        sql.push(")");
    }
}

fn column_test(sql: &mut Sql, catalog: &Catalog, node: &Node<'_>, test: &Test) {
    let column = node.relation.and_then(|relation| relation.column(&test.field.name));
    let Operation { negated, operator, .. } = &test.operation;
    if *negated {
        sql.push("not ");
    }
    // A domain may say how a filter's text becomes a value of it.
    let reader = column
        .filter(|_| test.field.path.is_empty())
        .and_then(|column| catalog.representation(column)?.filter.as_ref());
    match operator {
        Operator::Is(word) => {
            field(sql, &node.alias, column, &test.field);
            sql.push(" is ").push(word);
        }
        Operator::In(_) => {
            field(sql, &node.alias, column, &test.field);
            match reader {
                Some(reader) => {
                    sql.push(" = any (array(select ").qualified(reader);
                    sql.push("(pg_catalog.unnest(")
                        .param(compared(&test.operation))
                        .push("::text[]))))");
                }
                None => {
                    sql.push(" = any (").param(compared(&test.operation)).push(")");
                }
            }
        }
        Operator::Search { function, language, .. } => {
            let document = column.is_some_and(|column| column.base != "tsvector") && test.field.path.is_empty();
            let document = document || (column.is_some() && !test.field.path.is_empty());
            if document {
                sql.push("pg_catalog.to_tsvector(");
                configuration(sql, language.as_deref());
            }
            field(sql, &node.alias, column, &test.field);
            if document {
                sql.push(")");
            }
            sql.push(" @@ pg_catalog.").push(function).push("(");
            configuration(sql, language.as_deref());
            sql.param(compared(&test.operation)).push(")");
        }
        Operator::Binary {
            name,
            sql: operator,
            quantifier,
            ..
        } => {
            field(sql, &node.alias, column, &test.field);
            sql.push(" ").push(operator).push(" ");
            let reader = reader.filter(|_| !matches!(*name, "like" | "ilike"));
            match (quantifier, reader) {
                (Some(quantifier), _) => {
                    let word = match quantifier {
                        Quantifier::Any => "any (",
                        Quantifier::All => "all (",
                    };
                    sql.push(word).param(compared(&test.operation)).push(")");
                }
                (None, Some(reader)) => {
                    sql.qualified(reader)
                        .push("(")
                        .param(compared(&test.operation))
                        .push("::text)");
                }
                (None, None) => {
                    sql.param(compared(&test.operation));
                }
            }
        }
    }
}

/// The value that an operator compares with: what a filter of the query string's own says differs from request to
/// request, while a logic tree is kept with the statement as it is.
fn compared(operation: &Operation) -> Param {
    match operation.number {
        Some(number) => Param::Operand(number),
        None => Param::Fixed(operand(operation)),
    }
}

/// What an operator compares with, as Postgres reads it; nothing for one that compares with no value.
pub fn operand(operation: &Operation) -> Bytes {
    match &operation.operator {
        Operator::Is(_) => Bytes::new(),
        Operator::In(elements) => array(elements).into(),
        Operator::Search { value, .. } | Operator::Binary { value, .. } => value.clone().into(),
    }
}

fn configuration(sql: &mut Sql, language: Option<&str>) {
    if let Some(language) = language {
        sql.value(language.to_owned()).push("::regconfig, ");
    }
}

/// Adds a column with its way into JSON. `column` is what the catalog knows of it.
pub fn field(sql: &mut Sql, of: &str, column: Option<&Column>, field: &Field) {
    let is_json = column.is_some_and(|column| matches!(column.base.as_str(), "json" | "jsonb"));
    if field.path.is_empty() || is_json {
        sql.column(of, &field.name);
    } else {
        sql.push("pg_catalog.to_jsonb(").column(of, &field.name).push(")");
    }
    for step in &field.path {
        sql.push(if step.as_text { "->>" } else { "->" });
        match &step.operand {
            JsonOperand::Key(key) => sql.literal(key),
            // Digits, perhaps with a sign, and quoted, so that what does not fit is Postgres' to refuse.
            JsonOperand::Index(index) => sql.literal(index).push("::int4"),
        };
    }
}
